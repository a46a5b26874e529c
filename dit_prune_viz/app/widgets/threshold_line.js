// Runs once inside gr.HTML, which supplies `element`, `props`, `watch` and `trigger`, after shared.js, messages.js and
// plotly.js.
// The line is a slider of its own laid over the plot, so that dragging redraws nothing and the keyboard reaches it.
// While it moves, the dots flip between filled and hollow at once; masks and figures follow from the server.
const tools = element.querySelector(".threshold-tools");
const note = element.querySelector(".threshold-note");
const words = element.querySelector(".threshold-words");
const field = element.querySelector("input");
const reset = element.querySelector("button");

let shown = { note: "" };
let threshold = null; // where the line is now
let wanted; // a threshold that is still to be sent; undefined if there is none
let dragging = false;
let host = null; // the plot
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

const channel = messages({
  pending: () => wanted !== undefined,
  take() {
    const content = { threshold: wanted };
    wanted = undefined;
    return content;
  },
  answered: (changed) => changed || wanted !== undefined || read(true),
});

// null stands for the model's own threshold.
function moveTo(value) {
  threshold = value ?? shown.own;
  wanted = value;
  show();
  channel.send();
}

// `always` takes the server's threshold even while the line is being moved.
function read(always = false) {
  const value = channel.read({ note: "" });
  if (!value) return;
  shown = value;
  const moving = dragging || channel.unanswered || wanted !== undefined;
  if (always || !moving) threshold = shown.threshold ?? null;
  show();
}

function show() {
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
  placeLine();
}

// The line on the plot.

function placeLine() {
  const axes = host && threshold > 0 && shown.drawn ? axesOf(host) : null;
  const top = axes?.y.at(Math.log10(threshold));
  line.hidden = !axes?.y.inSight(top);
  host?.classList.toggle("has-cag-line", !line.hidden);
  if (line.hidden) return;
  line.style.left = `${axes.x.start}px`;
  line.style.width = `${axes.x.length}px`;
  line.style.top = `${top}px`;
  if (dragging) flip();
}

// Dots above the line are filled, those below hollow; once per frame.
let flipping = false;
function flip() {
  if (flipping) return;
  flipping = true;
  requestAnimationFrame(() => {
    flipping = false;
    if (removed.aborted) return;
    const [symbols, widths, traces] = [[], [], []];
    for (const { index, marker, customdata } of allTraces(host)) {
      if (!Array.isArray(marker?.symbol)) continue;
      const rows = customdata.map((data) => shown.gOut[idOf(data)] > (threshold ?? Infinity));
      const symbol = marker.symbol.map((now, i) => now.replace("-open", "") + (rows[i] ? "" : "-open"));
      if (symbol.every((now, i) => now === marker.symbol[i])) continue;
      traces.push(index);
      symbols.push(symbol);
      widths.push(rows.map((row) => (row ? 0.6 : 2)));
    }
    if (traces.length) Plotly.restyle(host, { "marker.symbol": symbols, "marker.line.width": widths }, traces);
  });
}

function drag(event) {
  moveTo(10 ** axesOf(host).y.valueAt(event.clientY - host.getBoundingClientRect().top));
}

line.className = "cag-line";
line.tabIndex = 0;
line.hidden = true;
line.setAttribute("role", "slider");
line.setAttribute("aria-label", "Threshold of row heterogeneity (G_out)");
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
  moveTo(stops[Math.min(stops.length - 1, Math.max(0, end ?? below + step))]);
});
field.addEventListener("change", () => {
  const value = Number(field.value);
  if (field.value === "" || !(value >= 0)) return read(true);
  moveTo(value);
});
reset.addEventListener("click", () => moveTo(null));

function attach(plot) {
  host = plot;
  host.append(line);
  for (const event of ["plotly_afterplot", "plotly_relayouting"]) onPlot(host, event, placeLine);
  placeLine();
}

read();
watch("value", () => read());
whenPlotReady(props.plot, attach);
onRemoved(() => {
  line.remove();
  host?.classList.remove("has-cag-line");
});
