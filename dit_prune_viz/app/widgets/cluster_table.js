// One row per cluster. Runs once inside gr.HTML; rows are rebuilt only when the clusters change, so that a slider that
// is being dragged, or a field that is being typed in, is never replaced under the person's hand. While a slider moves,
// its damage is read off the cluster's curve here and now; the exact figures follow from the server.
const table = element.querySelector("table");
const body = element.querySelector("tbody");
const tools = element.querySelector(".cluster-tools");
const total = element.querySelector("tfoot tr");
const EMPTY = '{"at":0,"layer":null,"clustering":"","caption":"","rows":[]}';
const PRESETS = [0, 25, 50, 60, 70, 80, 90, 100];
const LOOKS = 8;
const PAUSE = 150; // milliseconds from one event to the next, at least
const REST = 300; // milliseconds without a move after which the other views follow
const [WIDE, HIGH] = [84, 26]; // of a curve, in pixels

let signature = "";
let shownAt = 0; // when the server computed what is shown
let number = 0; // of the last event that was sent
let sent = null; // edits on their way to the server, by row; null when all are answered
let sentAt = -Infinity;
let settling; // timer: once nothing moves any more, the other views follow
let moving = false; // whether the last event was of sliders only
let timer = null; // of an event that would come too soon after the last
let present = JSON.parse(EMPTY);
const touched = new Map(); // edits that wait until then: the last of every row and kind

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const grouped = (value) => value.toLocaleString("en-US");
const keyOf = (layer, clustering, cluster) => [layer, clustering, cluster].join("\n");

function edit(cluster, verb, values) {
  const { layer, clustering } = present;
  const key = keyOf(layer, clustering, cluster) + (verb === "sparsity" ? "" : `\n${verb}`);
  touched.set(key, { layer, clustering, cluster, verb, ...values });
  send();
}

function editSparsity(cluster, value) {
  const sparsity = Math.min(100, Math.max(0, Number(value))) / 100;
  edit(cluster, "sparsity", { sparsity, keep: tools.querySelector("input").checked });
}

function send() {
  if (sent || !touched.size) return;
  const early = PAUSE - (performance.now() - sentAt);
  if (early > 0) {
    timer ??= setTimeout(() => {
      timer = null;
      send();
    }, early);
    return;
  }
  sentAt = performance.now();
  clearTimeout(settling);
  sent = new Map(touched);
  moving = [...sent.values()].every(({ verb }) => verb === "sparsity");
  touched.clear();
  number += 1;
  trigger("input", { number, edits: [...sent.values()] });
}

function receive() {
  const answer = props.answered;
  if (!sent || answer?.number !== number) return;
  sent = null;
  if (answer.at === null) fill();
  else shownAt = Math.max(shownAt, answer.at);
  send();
  if (sent || touched.size) return;
  settling = setTimeout(() => trigger("submit", { number }), moving ? REST : 0);
}

function cell(row, text, className, label) {
  const td = row.insertCell();
  td.textContent = text;
  td.className = className;
  if (label) td.dataset.label = label; // takes the header's place on a narrow screen
  return td;
}

function make(tag, parent, properties, label) {
  const made = Object.assign(document.createElement(tag), properties);
  if (label) made.setAttribute("aria-label", label);
  parent.append(made);
  return made;
}

function control(parent, name, type) {
  const step = type === "range" ? 1 : 0.1;
  return make("input", parent, { type, min: 0, max: 100, step }, `Sparsity of ${name}, percent`);
}

function choice(parent, label, first, options, pick) {
  const select = make("select", parent, { className: "quiet" }, label);
  select.title = label;
  for (const [text, value] of [[first, ""], ...options]) make("option", select, { textContent: text, value });
  select.addEventListener("change", () => {
    if (select.value !== "") pick(select.value);
    select.value = "";
  });
}

function rename(button, id, name) {
  const field = make("input", button.parentElement, { type: "text", value: name, maxLength: 40 }, "Name of the cluster");
  button.hidden = true;
  field.select();
  let left = false; // a field that is taken away blurs, which would rename after Escape, too
  const leave = (keep) => {
    if (left) return;
    left = true;
    if (keep && field.value.trim() && field.value !== name) edit(id, "rename", { name: field.value });
    field.remove();
    button.hidden = false;
  };
  field.addEventListener("blur", () => leave(true));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "Escape") leave(event.key === "Enter");
  });
}

const padlock = (locked) =>
  `<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true"><rect x="3" y="7" width="10" height="7" rx="1.5"` +
  ` fill="${locked ? "currentColor" : "none"}" stroke="currentColor" stroke-width="1.3"/>` +
  `<path d="M5 7V${locked ? "5a3 3 0 0 1 6 0v2" : "4a3 3 0 0 1 6 0"}" fill="none" stroke="currentColor"/></svg>`;

const modeOf = (event) => (event.shiftKey ? "add" : event.altKey ? "subtract" : "set");

// Where the curve stands at a sparsity (0–1), linear between its points.
function damageAt(curve, sparsity) {
  const at = sparsity * (curve.length - 1);
  const left = Math.min(Math.floor(at), curve.length - 2);
  return curve[left] + (at - left) * (curve[left + 1] - curve[left]);
}

function drawCurve(td, curve, energy) {
  const SVG = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Damage over sparsity, up to ${percent(energy)} of the layer's energy`);
  const line = document.createElementNS(SVG, "polyline");
  const place = (share, damage) => [3 + share * (WIDE - 6), HIGH - 3 - (damage / (energy || 1)) * (HIGH - 6)];
  line.setAttribute("points", curve.map((damage, i) => place(i / (curve.length - 1), damage).join(",")).join(" "));
  const dot = document.createElementNS(SVG, "circle");
  dot.setAttribute("r", 3);
  svg.append(line, dot);
  td.append(svg);
  td.move = (sparsity, damage) => {
    const [x, y] = place(sparsity, Math.min(damage, energy));
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
  };
}

function follow(row, shown, sparsity) {
  if (!shown.curve) return;
  const damage = damageAt(shown.curve, sparsity);
  row.querySelector(".damage").textContent = percent(damage, 2);
  row.querySelector(".curve").move?.(sparsity, damage);
  Object.assign(row.now, { sparsity, damage });
  sum();
}

function sum() {
  let [weights, removed, damage] = [0, 0, 0];
  for (const row of body.rows) {
    weights += row.now.weights;
    removed += row.now.weights * row.now.sparsity;
    damage += row.now.damage;
  }
  total.cells[3].textContent = grouped(weights);
  total.cells[5].textContent = weights ? percent(removed / weights, 2) : "";
  total.cells[6].textContent = percent(damage, 2);
}

function build({ rows, editable }) {
  body.replaceChildren();
  for (const shown of rows) {
    const { id, name, look, glyph, colour, units, weights, energy, curve } = shown;
    const row = body.insertRow();
    row.dataset.cluster = id;
    row.now = { weights, sparsity: shown.sparsity, damage: shown.damage };
    const swatch = make("button", cell(row, "", "swatch"), { type: "button", textContent: glyph }, `Colour of ${name}`);
    swatch.title = "Next colour and symbol";
    swatch.style.color = colour;
    swatch.addEventListener("click", () => edit(id, "look", { look: (look + 1) % LOOKS }));
    const named = make("button", cell(row, "", "name"), { type: "button", textContent: name });
    named.title = "Select its units (Shift adds, Alt takes away); double-click to rename";
    named.addEventListener("click", (event) => trigger("select", { cluster: id, mode: modeOf(event) }));
    named.addEventListener("dblclick", () => rename(named, id, name));
    cell(row, grouped(units), "number", "units");
    cell(row, grouped(weights), "number weights");
    cell(row, percent(energy), "number", "energy");
    const div = make("div", cell(row, "", "sparsity"), {});
    const range = control(div, name, "range");
    const field = control(div, name, "number");
    const set = (value) => {
      range.value = field.value = value;
      follow(row, shown, Number(value) / 100);
      editSparsity(id, value);
    };
    range.addEventListener("input", () => set(range.value));
    field.addEventListener("change", () => {
      if (field.value === "") return fill(); // emptied, or not a number
      set(field.value);
    });
    range.disabled = field.disabled = !editable;
    choice(div, `Preset sparsities of ${name}`, "▾", PRESETS.map((share) => [`${share} %`, share]), set);
    div.querySelector("select").disabled = !editable;
    const lock = make("button", div, { type: "button", className: "lock" }, `Lock the sparsity of ${name}`);
    lock.addEventListener("click", () => edit(id, "lock", { locked: lock.getAttribute("aria-pressed") !== "true" }));
    cell(row, "", "number damage", "damage");
    const drawing = cell(row, "", "curve");
    if (curve) drawCurve(drawing, curve, energy);
    const others = rows.filter((other) => other.id !== id).map((other) => [`merge with ${other.name}`, other.id]);
    const actions = [["rename", "rename"], ["split in two", "split"], ...others];
    choice(cell(row, "", "more"), `More for ${name}`, "⋯", actions, (value) => {
      if (value === "rename") rename(named, id, name);
      else if (value === "split") edit(id, "split", {});
      else edit(id, "merge", { other: Number(value) });
    });
  }
}

function fill() {
  const shown = JSON.parse(props.value || EMPTY);
  if (shown.at < shownAt) return; // overtaken by an edit; the table that knows of it is on its way
  shownAt = shown.at;
  present = shown;
  const { layer, clustering, caption, rows, kind } = shown;
  // Neither curve nor energy depends on the sparsities, so that a slider that moves never rebuilds the rows.
  const looks = rows.map(({ name, look, curve, energy }) => `${name} ${look} ${energy} ${JSON.stringify(curve)}`);
  const now = keyOf(layer, clustering, looks.join("\n"));
  if (now !== signature) build(shown);
  signature = now;
  element.querySelector("caption").textContent = caption;
  table.hidden = tools.hidden = rows.length === 0;
  tools.querySelector('[data-verb="kind"]').textContent = kind ?? "";
  tools.querySelector('[data-verb="kind"]').hidden = !kind;
  rows.forEach(({ id, sparsity, damage, locked, weights }, index) => {
    const row = body.rows[index];
    const key = keyOf(layer, clustering, id);
    const [range, field] = row.querySelectorAll(".sparsity input");
    const lock = row.querySelector(".lock");
    lock.innerHTML = padlock(locked);
    lock.title = locked ? "Locked: other sliders leave its sparsity alone" : "Lock its sparsity";
    lock.setAttribute("aria-pressed", locked);
    if (touched.has(key) || sent?.has(key)) return; // what the curve says now is newer
    if (!range.matches(":active")) range.value = 100 * sparsity;
    if (field !== document.activeElement || field.value === "") field.value = (100 * sparsity).toFixed(1);
    row.querySelector(".damage").textContent = percent(damage, 2);
    row.querySelector(".curve").move?.(sparsity, damage);
    row.now = { weights, sparsity, damage };
  });
  sum();
}

for (const button of tools.querySelectorAll("button[data-verb]")) {
  button.addEventListener("click", () => edit(-1, button.dataset.verb, {}));
}
fill();
watch("value", fill);
watch("answered", receive);
