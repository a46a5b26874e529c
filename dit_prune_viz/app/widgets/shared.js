// Helpers of every widget's script. They stand in front of it and see what gr.HTML supplies: `element`, `props`,
// `trigger`, `watch`.

// The browser itself reports when an element of this kind is taken off the page, so nothing has to watch the document.
if (!customElements.get("removal-signal")) {
  customElements.define(
    "removal-signal",
    class extends HTMLElement {
      controller = new AbortController();

      disconnectedCallback() {
        queueMicrotask(() => this.isConnected || this.controller.abort()); // an element that moves is back by then
      }
    }
  );
}

const removed = (() => {
  const inside = document.createElement("removal-signal");
  inside.hidden = true;
  element.append(inside);
  return inside.controller.signal;
})();

// Whatever a widget attaches to something that outlives it goes through `onRemoved`, `observe`, `timer` or, for
// listeners, the option `signal: removed`.
function onRemoved(action) {
  removed.addEventListener("abort", action, { once: true });
}

function observe(observer, target, options) {
  observer.observe(target, options);
  onRemoved(() => observer.disconnect());
}

// Runs `action` once, so many milliseconds after the last `start`.
function timer(action) {
  let id = null;
  const stop = () => {
    clearTimeout(id);
    id = null;
  };
  const run = () => {
    id = null;
    action();
  };
  onRemoved(stop);
  return {
    stop,
    start(milliseconds = 0) {
      stop();
      if (!removed.aborted) id = setTimeout(run, milliseconds);
    },
    get running() {
      return id !== null;
    },
  };
}

// What a click or drag does to the selection there is.
const modeOf = (event) => (event.shiftKey ? "add" : event.altKey ? "subtract" : "set");

// As `formatting.percent`: 50 %, 62.5 %, 0.51 %, 0.041 %, under 0.001 %.
function percent(share) {
  const value = 100 * share;
  const size = Math.abs(value);
  if (size > 0 && size < 0.001) return "under 0.001 %";
  if (value > 99.99 && value < 100) return "over 99.99 %";
  if (size < 1) return `${+value.toPrecision(2)} %`;
  const decimals = Math.min(2, Math.max(0, 3 - String(Math.trunc(size)).length));
  const rounded = +value.toFixed(decimals);
  return `${value < 100 && rounded >= 100 ? +value.toFixed(2) : rounded} %`;
}

const grouped = (value) => value.toLocaleString("en-US");

// `label` takes the header's place on a narrow screen.
function cell(row, className, text = "", label = "") {
  const td = row.insertCell();
  td.className = className;
  td.textContent = text;
  if (label) td.dataset.label = label;
  return td;
}

function make(tag, parent, properties, label) {
  const made = Object.assign(document.createElement(tag), properties);
  if (label) made.setAttribute("aria-label", label);
  parent.append(made);
  return made;
}

// Ids of units travel as int32 in base64.
function pack(ids) {
  const bytes = new Uint8Array(Int32Array.from(ids).buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}

function unpackBytes(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes.buffer;
}

const unpack = (text) => new Int32Array(unpackBytes(text));
