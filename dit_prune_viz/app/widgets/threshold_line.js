// Runs once inside gr.HTML, which supplies `element`, `props`, `watch` and `trigger`.
// The line is a slider of its own laid over the plot, so that dragging redraws nothing and the keyboard reaches it.
// While it moves, the dots flip between filled and hollow at once; masks and figures follow from the server.
const tools = element.querySelector(".threshold-tools");
const note = element.querySelector(".threshold-note");
const words = element.querySelector(".threshold-words");
const field = element.querySelector("input");
const reset = element.querySelector("button");

let shown = { at: 0, note: "" };
let shownAt = 0; // when the server computed what is shown
let threshold = null; // where the line is now
let number = 0; // of the last event that was sent
let sent = false; // whether it waits for its answer
let wanted; // a threshold that waits until then; undefined if there is none
let dragging = false;
let host = null;
const line = document.createElement("div");
const tag = document.createElement("span");

const digits = (value) => (value === null ? "∞" : `${+value.toPrecision(3)}`);
const values = () => Object.values(shown.gOut ?? {});
const above = () => values().filter((value) => value > (threshold ?? Infinity)).length;

// Where the line can rest: below all values, between each two neighbours, above all. One step flips one layer.
function places() {
  const sorted = [...new Set(values().filter((value) => value > 0))].sort((a, b) => a - b);
  const middles = sorted.slice(1).map((value, i) => Math.sqrt(value) * Math.sqrt(sorted[i]));
  return sorted.length ? [sorted[0] / 1.1, ...middles, sorted.at(-1) * 1.1] : [];
}

function want(value) {
  threshold = value === null ? shown.own : value;
  wanted = value;
  paint();
  send();
}

function send() {
  if (sent || wanted === undefined) return;
  sent = true;
  number += 1;
  trigger("input", { number, threshold: wanted });
  wanted = undefined;
}

function receive() {
  const answer = props.answered;
  if (!sent || answer?.number !== number) return;
  sent = false;
  if (answer.at === null) {
    if (wanted === undefined) read(true);
  } else shownAt = Math.max(shownAt, answer.at);
  send();
}

function read(again = false) {
  const value = JSON.parse(props.value || '{"at":0,"note":""}');
  if (value.at < shownAt) return; // overtaken by a move; the value that knows of it is on its way
  shownAt = value.at;
  shown = value;
  if (again === true || (!dragging && !sent && wanted === undefined)) threshold = value.threshold ?? null;
  paint();
}

function paint() {
  const on = !shown.note;
  note.textContent = shown.note;
  note.hidden = on;
  tools.hidden = !on;
  if (on) {
    const [rows, all] = [above(), values().length];
    words.innerHTML =
      `<strong>${rows}</strong> of ${all} layers lie above the line and are ranked <strong>row by row</strong>, ` +
      `the other <strong>${all - rows}</strong> as a whole.`;
    if (document.activeElement !== field) field.value = threshold === null ? "" : digits(threshold);
    reset.textContent = `Back to the model's own, ${digits(shown.own ?? null)}`;
    reset.disabled = threshold === shown.own;
    tag.textContent = `CAG threshold ${digits(threshold)}`;
    line.ariaValueNow = threshold;
    line.ariaValueText = `${digits(threshold)}, ${rows} of ${all} layers row by row`;
    const stops = places();
    if (stops.length) [line.ariaValueMin, line.ariaValueMax] = [stops[0], stops.at(-1)];
  }
  lay();
}

// The line on the plot.

function lay() {
  const axes = host?._fullLayout;
  const at = axes?.yaxis && threshold > 0 && shown.drawn ? axes.yaxis.l2p(Math.log10(threshold)) : NaN;
  line.hidden = !(at >= -1 && at <= axes?.yaxis._length + 1);
  host?.classList.toggle("has-cag-line", !line.hidden);
  if (line.hidden) return;
  line.style.left = `${axes.xaxis._offset}px`;
  line.style.width = `${axes.xaxis._length}px`;
  line.style.top = `${axes.yaxis._offset + at}px`;
  flip();
}

let flipping = false;
function flip() {
  if (!dragging || flipping) return;
  flipping = true;
  requestAnimationFrame(() => {
    flipping = false;
    const [symbols, widths, traces] = [[], [], []];
    host.data.forEach((trace, index) => {
      if (!Array.isArray(trace.marker?.symbol)) return;
      const rows = trace.customdata.map(([name]) => shown.gOut[name] > (threshold ?? Infinity));
      const symbol = trace.marker.symbol.map((now, i) => now.replace("-open", "") + (rows[i] ? "" : "-open"));
      if (symbol.every((now, i) => now === trace.marker.symbol[i])) return;
      traces.push(index);
      symbols.push(symbol);
      widths.push(rows.map((row) => (row ? 0.6 : 2)));
    });
    if (traces.length) window.Plotly.restyle(host, { "marker.symbol": symbols, "marker.line.width": widths }, traces);
  });
}

function drag(event) {
  const { yaxis } = host._fullLayout;
  const y = event.clientY - host.getBoundingClientRect().top - yaxis._offset;
  want(10 ** yaxis.p2l(Math.min(yaxis._length, Math.max(0, y))));
}

line.className = "cag-line";
line.tabIndex = 0;
line.hidden = true;
line.setAttribute("role", "slider");
line.setAttribute("aria-label", "G_out threshold");
line.setAttribute("aria-orientation", "vertical");
tag.className = "cag-tag";
line.append(tag);
line.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  line.setPointerCapture(event.pointerId);
  dragging = true;
  event.stopPropagation(); // not the start of Plotly's zoom
  event.preventDefault();
  line.focus({ preventScroll: true });
});
line.addEventListener("pointermove", (event) => dragging && drag(event));
for (const event of ["pointerup", "pointercancel"]) line.addEventListener(event, () => (dragging = false));
line.addEventListener("keydown", (event) => {
  const step = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 }[event.key];
  const stops = places();
  const end = { Home: 0, End: stops.length - 1 }[event.key];
  if (event.ctrlKey || event.metaKey) return; // undo and redo
  event.stopPropagation(); // arrow keys on the plot itself walk through the dots
  if ((step === undefined && end === undefined) || !stops.length) return;
  event.preventDefault();
  const below = new Set(values().filter((value) => value > 0 && value <= (threshold ?? Infinity))).size;
  want(stops[Math.min(stops.length - 1, Math.max(0, end ?? below + step))]);
});
field.addEventListener("change", () => {
  const value = Number(field.value);
  if (field.value === "" || !(value >= 0)) return read(true);
  want(value);
});
reset.addEventListener("click", () => want(null));

function attach() {
  host = document.querySelector(`#${props.plot} .js-plotly-plot`);
  if (!host?.on) return void setTimeout(attach, 100);
  host.append(line);
  for (const event of ["plotly_afterplot", "plotly_relayouting"]) host.on(event, lay);
  lay();
}

read();
watch("value", read);
watch("answered", receive);
attach();
