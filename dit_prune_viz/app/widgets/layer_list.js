// Runs once inside gr.HTML, which supplies `element`, `props`, `watch` and `trigger`.
const body = element.querySelector("tbody");
const scroller = element.querySelector(".layers-scroll");
const search = element.querySelector("input");
const count = element.querySelector(".layers-count");
const empty = element.querySelector(".layers-empty");
const headers = [...element.querySelectorAll("th")];

let rows = [];
let order = { key: "damage", down: true };
let pointed = null; // the layer under the pointer or the keyboard's cursor, in whichever view

const percent = (share, digits) => `${(100 * share).toFixed(digits)} %`;
function short(value) {
  if (value < 1e4) return value.toLocaleString("en-US");
  return value < 1e6 ? `${+(value / 1e3).toPrecision(3)} k` : `${+(value / 1e6).toPrecision(3)} M`;
}

function compare(a, b) {
  const [x, y] = [a[order.key], b[order.key]];
  const sign = x < y ? -1 : x > y ? 1 : 0;
  return order.down ? -sign : sign;
}

function cell(row, className, text) {
  const td = row.insertCell();
  td.className = className;
  if (text !== undefined) td.textContent = text;
  return td;
}

function build(layer, most) {
  const row = document.createElement("tr");
  row.dataset.layer = layer.name;
  const open = document.createElement("button");
  open.type = "button";
  open.title = layer.name;
  const kind = document.createElement("strong");
  kind.textContent = `${layer.kind} · block ${layer.block}`;
  const name = document.createElement("span");
  name.innerHTML = "<bdi></bdi>"; // a long name loses its beginning, not its end
  name.firstChild.textContent = layer.name;
  open.append(kind, name);
  cell(row, "name").append(open);
  cell(row, "ranked", { layer: "whole", row: "by row" }[layer.granularity] ?? layer.granularity);
  cell(row, "number", percent(layer.sparsity, 1));
  const damage = cell(row, "number damage", percent(layer.damage, 2));
  damage.style.setProperty("--share", most ? layer.damage / most : 0);
  cell(row, "number", short(layer.weights));
  return row;
}

function fill() {
  const words = search.value.trim().toLowerCase().split(/\s+/);
  const found = rows.filter((row) => {
    const text = `${row.name} ${row.kind} block ${row.block}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const most = Math.max(0, ...rows.map((row) => row.damage));
  const focused = element.contains(document.activeElement) && document.activeElement.closest("tr")?.dataset.layer;
  body.replaceChildren(...[...found].sort(compare).map((row) => build(row, most)));
  if (focused) rowOf(focused)?.querySelector("button").focus({ preventScroll: true });
  for (const header of headers) {
    const sorted = header.dataset.key === order.key;
    header.ariaSort = sorted ? (order.down ? "descending" : "ascending") : "none";
  }
  count.textContent = found.length < rows.length ? `${found.length} of ${rows.length}` : rows.length || "";
  empty.textContent = !rows.length ? props.empty : found.length ? "" : "No layer is called so.";
  mark();
}

function rowOf(name) {
  return [...body.rows].find((row) => row.dataset.layer === name);
}

// The marks: a row of the list, and a ring on each plot that follows its zoom.

const plots = ["layer-map", "layer-dots"].map((id) => ({ id, host: null, ring: null }));

function attach(plot) {
  const host = document.querySelector(`#${plot.id} .js-plotly-plot`);
  if (!host?.on) return void setTimeout(() => attach(plot), 100);
  plot.host = host;
  plot.ring = document.createElement("div");
  plot.ring.className = "plot-ring";
  plot.ring.hidden = true;
  host.append(plot.ring);
  host.on("plotly_hover", (event) => point(idOf(event.points[0].customdata), plot));
  host.on("plotly_unhover", () => point(null, plot));
  host.on("plotly_afterplot", mark);
  host.on("plotly_relayouting", mark);
  mark();
}

function idOf(data) {
  return (Array.isArray(data) ? data[0] : data) || null;
}

function point(name, from) {
  if (name === pointed) return;
  pointed = name;
  mark();
  if (name && from) reveal(rowOf(name));
}

function reveal(row) {
  if (!row) return;
  const top = row.offsetTop - body.offsetTop;
  const room = scroller.clientHeight - body.offsetTop - row.offsetHeight;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (top > scroller.scrollTop + room) scroller.scrollTop = top - room;
}

// Where a layer lies on a plot: {x, y, width, height} in pixels of the plot's div, or null.
function place(host, name) {
  const { xaxis, yaxis } = host._fullLayout ?? {};
  for (const trace of host._fullData ?? []) {
    if (!trace.customdata || trace.visible !== true) continue;
    if (trace.type === "heatmap") {
      for (let y = 0; y < trace.customdata.length; y++) {
        const x = trace.customdata[y].findIndex((data) => idOf(data) === name);
        if (x >= 0) return box(xaxis, yaxis, trace.x[x], y, 0.5);
      }
    } else {
      const i = trace.customdata.findIndex((data) => idOf(data) === name);
      if (i >= 0) return box(xaxis, yaxis, trace.x[i], trace.y[i], 0);
    }
  }
  return null;
}

function box(xaxis, yaxis, x, y, half) {
  const [left, right] = [x - half, x + half].map((value) => xaxis.l2p(value) + xaxis._offset).sort((a, b) => a - b);
  const [top, bottom] = [y - half, y + half].map((value) => yaxis.l2p(value) + yaxis._offset).sort((a, b) => a - b);
  const inside = (value, axis) => value >= axis._offset - 1 && value <= axis._offset + axis._length + 1;
  if (!inside((left + right) / 2, xaxis) || !inside((top + bottom) / 2, yaxis)) return null;
  const grow = half ? 0 : 10;
  return { x: left - grow, y: top - grow, width: right - left + 2 * grow, height: bottom - top + 2 * grow };
}

function mark() {
  const marked = pointed ?? props.opened;
  for (const row of body.rows) {
    row.classList.toggle("marked", row.dataset.layer === marked);
    row.querySelector("button").ariaCurrent = row.dataset.layer === props.opened ? "true" : null;
  }
  for (const { host, ring } of plots) {
    const at = host && marked ? place(host, marked) : null;
    if (ring) ring.hidden = !at;
    if (!at) continue;
    for (const side of ["width", "height"]) ring.style[side] = `${at[side]}px`;
    ring.style.transform = `translate(${at.x}px, ${at.y}px)`;
  }
}

function read() {
  rows = JSON.parse(props.value || "[]");
  fill();
}

search.addEventListener("input", fill);
for (const header of headers) {
  header.firstElementChild.addEventListener("click", () => {
    const { key } = header.dataset;
    const text = key === "name" || key === "granularity";
    order = { key, down: key === order.key ? !order.down : !text };
    fill();
  });
}
body.addEventListener("click", (event) => {
  const layer = event.target.closest("tr")?.dataset.layer;
  if (layer) trigger("click", { id: layer });
});
for (const event of ["pointerover", "focusin"]) {
  body.addEventListener(event, ({ target }) => point(target.closest("tr")?.dataset.layer ?? null));
}
for (const event of ["pointerleave", "focusout"]) body.addEventListener(event, () => point(null));

read();
watch("value", read);
watch("opened", mark);
plots.forEach(attach);
