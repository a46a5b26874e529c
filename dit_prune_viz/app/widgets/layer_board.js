// The board of layers and its slider. Runs once inside gr.HTML, after sparsity_edits.js and board_selection.js.
const note = element.querySelector(".board-note");
const body = element.querySelector(".board-body");
const grid = element.querySelector(".board-grid");
const words = element.querySelector(".board-words");
const range = element.querySelector("input[type=range]");
const field = element.querySelector("input[type=number]");
const keepBox = element.querySelector("input[type=checkbox]");
const choice = element.querySelector("select");
const measure = element.querySelector("[data-does=measure]");
const EMPTY = { note: "", cells: [], kinds: [], presets: [], overall: 0, target: 50, words: "", fixed: false, sensed: false };
const FULL = 93; // per cent from which on white is easier to read on a cell
const NUMBERED = 16; // blocks up to which cells hold their sparsity as a number

let shown = EMPTY;
let builtFrom = "";
let layers = new Map(); // name → what is known of a layer
let places = new Map(); // "row column" → names in that cell
let made = new Map(); // "row column" → its cell
let chosen = [];

const edits = sparsityEdits({ keep: () => keepBox.checked, answered: fill });

const selection = boardSelection({
  grid,
  membersOf,
  point,
  changed(keys) {
    chosen = keys;
    slider();
  },
  open(cell) {
    const [name] = membersOf(cell);
    if (name && cell.classList.contains("board-cell")) trigger("click", { id: name });
  },
});

function membersOf(cell) {
  const { row, column } = cell.dataset;
  if (row !== "0" && column !== "0") return places.get(`${row} ${column}`) ?? [];
  const found = [];
  for (const [place, names] of places) {
    const [own, its] = place.split(" ");
    if ((row === "0" || row === own) && (column === "0" || column === its)) found.push(...names);
  }
  return found;
}

function meanOf(names) {
  const known = names.map((name) => layers.get(name)).filter(Boolean);
  const weights = known.reduce((sum, layer) => sum + layer.weights, 0);
  return weights ? known.reduce((sum, { share, weights: own }) => sum + share * own, 0) / weights : 0;
}

function told(names) {
  const known = names.map((name) => layers.get(name)).filter(Boolean);
  if (known.length !== 1) return `${known.length} layers, ${shareText(meanOf(names))} % pruned`;
  const [layer] = known;
  const sensed = layer.told ? `, sensitivity ${layer.told}` : "";
  return `${layer.kind}, block ${layer.block}: ${shareText(layer.share)} %${sensed}${layer.fixed ? ", fixed by the recipe" : ""}`;
}

function point(cell) {
  const names = cell ? membersOf(cell) : [];
  if (names.length) words.textContent = told(names);
  else describe();
}

function describe() {
  const weights = [...layers.values()].reduce((sum, layer) => sum + layer.weights, 0);
  const own = chosen.reduce((sum, name) => sum + (layers.get(name)?.weights ?? 0), 0);
  words.textContent = chosen.length
    ? `Chosen: ${told(chosen)} · ${percent(own / weights, 0)} of weights`
    : `Whole model: ${shown.words} pruned. Choose layers to set them apart.`;
}

// The slider sets what is chosen; where nothing is, the recipe's sparsity.
function slider() {
  const whole = !chosen.length;
  const fixed = whole ? shown.fixed : chosen.every((name) => layers.get(name)?.fixed);
  const share = whole ? shown.target : meanOf(chosen);
  if (!chosen.some(edits.isNewer)) {
    range.value = share;
    if (document.activeElement !== field) field.value = shareText(share);
  }
  range.disabled = field.disabled = fixed;
  const label = whole ? "Sparsity of the whole model, per cent" : "Sparsity of the chosen layers, per cent";
  for (const input of [range, field]) input.setAttribute("aria-label", label);
  keepBox.disabled = whole;
  keepBox.nextElementSibling.textContent = `keep the overall ${shareText(shown.overall)} %`;
  describe();
}

function setShare(text) {
  const share = Number(text);
  if (text === "" || !(share >= 0 && share <= 100)) return slider(); // back to what is so
  if (!chosen.length) return edits.setWhole(share);
  const free = chosen.filter((name) => !layers.get(name)?.fixed);
  for (const name of free) Object.assign(layers.get(name), { share, hand: true });
  edits.set(free, share);
  paint();
  describe();
}

function paint() {
  for (const [place, names] of places) {
    const cell = made.get(place);
    const known = names.map((name) => layers.get(name));
    const share = meanOf(names);
    cell.style.setProperty("--share", `${share.toFixed(1)}%`);
    cell.classList.toggle("hand", known.some(({ hand }) => hand));
    cell.classList.toggle("full", share > FULL);
    cell.dataset.rank = Math.max(...known.map(({ rank }) => rank ?? -1));
    cell.firstElementChild.textContent = shown.blocks <= NUMBERED ? Math.round(share) : "";
    cell.setAttribute("aria-label", told(names));
  }
}

function build() {
  const blocks = [...new Set(shown.cells.map(({ block }) => block))].sort((a, b) => a - b);
  shown.blocks = blocks.length;
  places = new Map();
  made = new Map();
  grid.replaceChildren();
  grid.style.setProperty("--blocks", blocks.length);
  grid.classList.toggle("many", blocks.length > NUMBERED);
  const every = Math.ceil(blocks.length / NUMBERED) > 1 ? 5 : 1;
  const add = (parent, row, column, text, label, role, tag = "div") => {
    const cell = make(tag, parent, { className: role === "gridcell" ? "board-cell" : "board-head", tabIndex: -1 }, label);
    cell.setAttribute("role", role);
    Object.assign(cell.dataset, { row, column });
    make("span", cell, { textContent: text });
    return cell;
  };
  const line = () => {
    const row = make("div", grid, { className: "board-row" });
    row.setAttribute("role", "row");
    return row;
  };
  const head = line();
  add(head, 0, 0, "all", "All layers", "columnheader");
  blocks.forEach((block, place) => {
    add(head, 0, place + 1, block % every ? "" : block, `Block ${block}`, "columnheader");
  });
  const rows = new Map();
  shown.kinds.forEach((kind, place) => {
    const row = line();
    rows.set(kind, [place + 1, row]);
    add(row, place + 1, 0, kind, `Kind ${kind}`, "rowheader");
  });
  for (const { name, kind, block } of shown.cells) {
    const key = `${rows.get(kind)[0]} ${blocks.indexOf(block) + 1}`;
    places.set(key, [...(places.get(key) ?? []), name]);
  }
  for (const key of [...places.keys()].sort((a, b) => Number(a.split(" ")[1]) - Number(b.split(" ")[1]))) {
    const [row, column] = key.split(" ").map(Number);
    const cell = add([...rows.values()].find(([place]) => place === row)[1], row, column, "", "", "gridcell");
    cell.style.gridColumn = column + 1;
    made.set(key, cell);
  }
}

// What can be chosen in a word, and sparsities that are ready.
function offer() {
  choice.replaceChildren();
  make("option", choice, { textContent: "Choose ▾", value: "" });
  if (shown.sensed) {
    const ranks = make("optgroup", choice, { label: "Choose layers" });
    make("option", ranks, { textContent: "the most sensitive quarter", value: "rank 3" });
    make("option", ranks, { textContent: "the least sensitive quarter", value: "rank 0" });
  }
  const presets = make("optgroup", choice, { label: "Set all layers" });
  for (const { name, text, about } of shown.presets) make("option", presets, { textContent: name, value: text, title: about });
}

function fill() {
  const value = edits.read(EMPTY);
  if (!value) return;
  const blocks = shown.blocks;
  shown = { ...value, blocks };
  note.textContent = shown.note;
  note.hidden = !shown.note;
  measure.textContent = shown.sensed ? "Measure anew" : "Measure sensitivity";
  body.hidden = !shown.cells.length;
  const source = JSON.stringify(shown.cells.map(({ name, kind, block }) => [name, kind, block]));
  const anew = source !== builtFrom;
  if (anew) build();
  builtFrom = source;
  const before = layers;
  layers = new Map(shown.cells.map((cell) => [cell.name, edits.isNewer(cell.name) ? before.get(cell.name) : cell]));
  offer();
  paint();
  if (anew) selection.rebuilt([...layers.keys()]);
  else slider();
}

range.addEventListener("pointerdown", edits.begin);
range.addEventListener("focus", edits.begin);
range.addEventListener("input", () => {
  field.value = range.value;
  setShare(range.value);
});
field.addEventListener("focus", edits.begin);
field.addEventListener("change", () => setShare(field.value));
field.addEventListener("keydown", (event) => event.key === "Enter" && setShare(field.value));
measure.addEventListener("click", () => trigger("select", {}));
element.querySelector("[data-does=clear]").addEventListener("click", selection.clear);
choice.addEventListener("change", () => {
  const value = choice.value;
  choice.value = "";
  const [, rank] = /^rank (\d)$/.exec(value) ?? [];
  const ranked = shown.cells.filter((cell) => String(cell.rank) === rank).map(({ name }) => name);
  if (rank) selection.choose(ranked);
  else if (value) edits.write(value, false);
});
fill();
watch("value", fill);
