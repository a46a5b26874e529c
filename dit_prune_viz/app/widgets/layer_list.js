// Runs once inside gr.HTML, which supplies `element`, `props`, `watch` and `trigger`, after plotly.js and sparsity_edits.js.
const body = element.querySelector("tbody");
const scroller = element.querySelector(".layers-scroll");
const search = element.querySelector("input");
const count = element.querySelector(".layers-count");
const empty = element.querySelector(".layers-empty");
const headers = [...element.querySelectorAll("th")];
const edits = sparsityEdits({ answered: (changed) => read(!changed) });
const FIRST = 100; // rows that are there at once; hundreds of them would hold up the plots beside the list
const buildRest = timer(() => {
  const known = new Map(rows.map((layer) => [layer.name, layer]));
  const most = Math.max(0, ...rows.map((row) => row.damage));
  body.append(...waiting.filter((name) => known.has(name)).map((name) => build(known.get(name), most)));
  waiting = [];
  rove();
  mark();
});
const sortLater = timer(() => unsorted && !isSetting() && fill());

let rows = [];
let order = { key: "damage", down: true };
let unsorted = false; // whether rows stand where their figures of before put them
let stop = null; // the layer whose row is a tab stop
let waiting = []; // layers whose rows are still to be built
let pointed = null; // the layer under the pointer or the keyboard's cursor, in whichever view

// 9,216, then 73.7 k, 2.36 M.
function short(value) {
  if (value < 1e4) return grouped(value);
  return value < 1e6 ? `${+(value / 1e3).toPrecision(3)} k` : `${+(value / 1e6).toPrecision(3)} M`;
}

function compare(a, b) {
  const [x, y] = [a[order.key] ?? -1, b[order.key] ?? -1]; // what is not known is least
  const sign = x < y ? -1 : x > y ? 1 : 0;
  return order.down ? -sign : sign;
}

// Which rows a search means: those that show its words, or what is shown itself, such as "v · block 3". A number behind
// "block" is that of the block; any other one is the block's or a part of the name; a single letter is a whole part.
function matcher(text) {
  if (text.includes("·")) {
    const asked = text.split("·").map((part) => part.trim()).filter(Boolean);
    const begun = (part, index) => index === asked.length - 1 && !/\d$/.test(part); // it is still being typed
    return ({ name, kind, place }) => {
      const shown = [name, kind, place].map((one) => one.toLowerCase());
      return asked.every((part, index) => shown.some((one) => one === part || (begun(part, index) && one.startsWith(part))));
    };
  }
  const words = text.split(/\s+/).filter(Boolean);
  return ({ name, kind, place }) => {
    const shown = `${name} ${kind} ${place}`.toLowerCase();
    const parts = shown.split(/[^a-z0-9]+/);
    const block = place.match(/^block (\d+)$/)?.[1];
    return words.every((word, index) => {
      const isBlock = /^blocks?$/.test(words[index - 1] ?? "");
      if (/^\d+$/.test(word)) return word === block || (!isBlock && name.split(".").includes(word));
      return word.length === 1 ? parts.includes(word) : shown.includes(word) || /^blocks?$/.test(word);
    });
  };
}

function build(layer, most) {
  const row = document.createElement("tr");
  row.dataset.layer = layer.name;
  const open = document.createElement("button");
  open.type = "button";
  open.title = layer.name;
  const kind = document.createElement("strong");
  make("span", kind, { textContent: layer.kind }); // gives way where there is no room, the place does not
  make("span", kind, { textContent: ` · ${layer.place}` });
  const name = document.createElement("span");
  name.innerHTML = "<bdi></bdi>"; // a long name loses its beginning, not its end
  name.firstChild.textContent = layer.name;
  open.append(kind, name);
  cell(row, "name").append(open);
  cell(row, "ranked", { layer: "whole", row: "by row" }[layer.granularity] ?? layer.granularity);
  const known = layer.damage !== null; // before calibration nothing is
  const sparsity = cell(row, "number sparsity", known ? "" : "–");
  if (known) addSlider(sparsity, layer);
  const damage = cell(row, "number damage", known ? percent(layer.damage) : "–");
  damage.style.setProperty("--share", most ? layer.damage / most : 0);
  cell(row, "number sensitivity", layer.sensitivity === null ? "–" : percent(layer.sensitivity));
  cell(row, "number", short(layer.weights)).title = grouped(layer.weights);
  showSparsity(row, layer);
  return row;
}

// One layer's sparsity, as a number and a slider. They are no tab stops until their row has the focus, so that Tab does
// not have to pass hundreds of them.
function addSlider(td, { name, movable }) {
  for (const type of ["number", "range"]) {
    const step = type === "range" ? 1 : "any";
    const input = make("input", td, { type, min: 0, max: 100, step, tabIndex: -1 }, `Sparsity of ${name}, percent`);
    input.disabled = !movable;
  }
  const [field, range] = td.children;
  const set = (share) => {
    [field.value, range.value] = [shareText(share), share];
    edits.set([name], share);
  };
  range.addEventListener("pointerdown", edits.begin);
  td.addEventListener("focusin", edits.begin);
  range.addEventListener("input", () => set(range.valueAsNumber));
  field.addEventListener("change", () => {
    const share = field.valueAsNumber;
    if (share >= 0 && share <= 100) return set(share);
    const now = rows.find((layer) => layer.name === name); // emptied, no number, or none that can be
    if (now) showSparsity(td.parentElement, now, true);
  });
}

// `always` overwrites what is being typed, too.
function showSparsity(row, { name, given, sparsity, removed: gone, weights, movable }, always = false) {
  const [field, range] = row.querySelectorAll(".sparsity input");
  if (!field || edits.isNewer(name)) return;
  if (!range.matches(":active")) range.value = given;
  if (always || field !== document.activeElement || !field.value) field.value = shareText(given);
  const rounded = Math.abs(100 * sparsity - given) > 0.05;
  const exact = `${grouped(gone)} of ${grouped(weights)} weights are pruned`;
  field.title = rounded ? `${exact}, ${percent(sparsity)}: in whole rows or columns` : exact;
  if (!movable) field.title += "; the recipe fixes its sparsity";
}

// Rows stay where they are while somebody sets one of them: a row that ran away could not be dragged on.
function update(most, always) {
  for (const row of body.rows) {
    const layer = rows.find(({ name }) => name === row.dataset.layer);
    if (!layer) return false;
    showSparsity(row, layer, always);
    const damage = row.querySelector(".damage");
    damage.textContent = percent(layer.damage);
    damage.style.setProperty("--share", most ? layer.damage / most : 0);
  }
  unsorted = true;
  return true;
}

const isSetting = () => body.querySelector(".sparsity input:is(:active, :focus)") !== null;

function fill(always = false) {
  const found = rows.filter(matcher(search.value.trim().toLowerCase()));
  const most = Math.max(0, ...rows.map((row) => row.damage));
  if (isSetting() && update(most, always)) return;
  unsorted = false;
  element.firstElementChild.classList.toggle("sensed", rows.some((row) => row.sensitivity !== null));
  const focused = element.contains(document.activeElement) && document.activeElement.closest("tr")?.dataset.layer;
  const sorted = [...found].sort(compare);
  const first = focused ? sorted.length : FIRST;
  body.replaceChildren(...sorted.slice(0, first).map((row) => build(row, most)));
  waiting = sorted.slice(first).map(({ name }) => name);
  if (waiting.length) buildRest.start(300);
  if (focused) rowOf(focused)?.querySelector("button").focus({ preventScroll: true });
  rove();
  for (const header of headers) {
    const sorted = header.dataset.key === order.key;
    header.ariaSort = sorted ? (order.down ? "descending" : "ascending") : "none";
  }
  count.textContent = found.length < rows.length ? `${found.length} of ${rows.length}` : rows.length || "";
  empty.textContent = !rows.length ? props.empty : found.length ? "" : "No matching layers.";
  mark();
}

// One row is a tab stop, the one that had the focus last; the arrow keys lead to the others.
function rove(row = rowOf(stop) ?? body.rows[0]) {
  stop = row?.dataset.layer ?? null;
  for (const one of body.rows) one.querySelector("button").tabIndex = one === row ? 0 : -1;
}

function walk(event) {
  if (!event.target.matches("td.name button")) return;
  const row = event.target.closest("tr");
  const page = Math.max(1, Math.floor(scroller.clientHeight / row.offsetHeight) - 1);
  const at = row.sectionRowIndex;
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: body.rows.length - 1 };
  if (!(event.key in to)) return;
  event.preventDefault();
  const next = body.rows[Math.min(body.rows.length - 1, Math.max(0, to[event.key]))];
  next.querySelector("button").focus({ preventScroll: true });
  reveal(next);
}

function rowOf(name) {
  return [...body.rows].find((row) => row.dataset.layer === name);
}

// The marks: a row of the list, and a ring on each plot that follows its zoom.

const rings = new Map(); // plot → its ring

function attach(host) {
  for (const plot of [...rings.keys()]) if (!plot.isConnected) rings.delete(plot); // it was made anew
  const ring = make("div", host, { className: "plot-ring", hidden: true });
  rings.set(host, ring);
  onRemoved(() => ring.remove());
  onPlot(host, "plotly_hover", (event) => point(openedBy(event.points[0]), host));
  onPlot(host, "plotly_unhover", () => point(null, host));
  for (const event of ["plotly_afterplot", "plotly_relayouting"]) onPlot(host, event, mark);
  mark();
}

// `from` is the plot that is pointed at, or null: a row under the pointer need not be scrolled to.
function point(name, from = null) {
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
  for (const { type, x, y, text, meta, customdata } of shownTraces(host)) {
    if (!customdata) continue;
    if (type === "heatmap") {
      for (let row = 0; row < customdata.length; row++) {
        const column = customdata[row].findIndex((data) => holds(data, name));
        if (column >= 0) return box(axesOf(host), x[column], row, 0.5, 0);
      }
    } else {
      const i = meta?.opens ? text.indexOf(name) : customdata.findIndex((data) => idOf(data) === name);
      if (i >= 0) return box(axesOf(host), x[i], y[i], 0, 10);
    }
  }
  return null;
}

// Layers of one block and kind share a cell of the map.
function holds(data, name) {
  return idOf(data) === name || Boolean(data?.[3]?.split("\n").includes(name));
}

// Around a point, `half` a unit of the axes to each side and `margin` pixels more; null where it is out of sight.
function box(axes, x, y, half, margin) {
  const side = (axis, value) => {
    const [low, high] = [axis.at(value - half), axis.at(value + half)].sort((a, b) => a - b);
    return axis.inSight((low + high) / 2) ? [low - margin, high - low + 2 * margin] : null;
  };
  const [across, down] = axes ? [side(axes.x, x), side(axes.y, y)] : [];
  return across && down ? { x: across[0], y: down[0], width: across[1], height: down[1] } : null;
}

function mark() {
  const marked = pointed ?? props.opened;
  for (const row of body.rows) {
    row.classList.toggle("marked", row.dataset.layer === marked);
    row.querySelector("button").ariaCurrent = row.dataset.layer === props.opened ? "true" : null;
  }
  for (const [host, ring] of rings) {
    const at = marked ? place(host, marked) : null;
    ring.hidden = !at;
    if (!at) continue;
    for (const side of ["width", "height"]) ring.style[side] = `${at[side]}px`;
    ring.style.transform = `translate(${at.x}px, ${at.y}px)`;
  }
}

function read(always = false) {
  const value = edits.read({ rows: [] });
  if (!value) return;
  rows = value.rows;
  fill(always);
}

search.addEventListener("input", () => fill());
for (const header of headers) {
  header.firstElementChild.addEventListener("click", () => {
    const { key } = header.dataset;
    const text = key === "name" || key === "granularity";
    order = { key, down: key === order.key ? !order.down : !text };
    fill();
  });
}
body.addEventListener("click", (event) => {
  if (event.target.closest(".sparsity")) return;
  const layer = event.target.closest("tr")?.dataset.layer;
  if (layer) trigger("click", { id: layer });
});
for (const event of ["pointerover", "focusin"]) {
  body.addEventListener(event, ({ target }) => point(target.closest("tr")?.dataset.layer ?? null));
}
body.addEventListener("keydown", walk);
body.addEventListener("focusin", ({ target }) => {
  rove(target.closest("tr"));
  for (const input of body.querySelectorAll(".sparsity input")) {
    input.tabIndex = input.closest("tr") === target.closest("tr") ? 0 : -1;
  }
});
body.addEventListener("focusout", () => sortLater.start(500)); // not under a click that is on its way
for (const event of ["pointerleave", "focusout"]) body.addEventListener(event, () => point(null));

read();
watch("value", () => read());
watch("opened", mark);
for (const id of ["layer-plane", "layer-map", "layer-dots"]) whenPlotReady(id, attach);
