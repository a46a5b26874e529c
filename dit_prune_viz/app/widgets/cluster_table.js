// One row per cluster. Runs once inside gr.HTML, after shared.js and messages.js.
// Rows are rebuilt only when the clusters change, so that a slider that is being dragged, or a field that is being
// typed in, is never replaced under the person's hand. While a slider moves, its damage is read off the cluster's curve
// here and now; the exact figures follow from the server.
const card = element.querySelector(".clusters-card");
const table = element.querySelector("table");
const body = element.querySelector("tbody");
const tools = element.querySelector(".cluster-tools");
const total = element.querySelector("tfoot tr");
const facts = [...element.querySelectorAll("th[data-fact]")]; // headers of the columns that only tell something
const { noun, units } = table.dataset;
const EMPTY = { layer: null, clustering: "", caption: "", rows: [], total: [], verbs: {} };
const PRESETS = [0, 25, 50, 60, 70, 80, 90, 100];
const LOOKS = 8;
const PAUSE = 150; // milliseconds from one event to the next, at least
const REST = 300; // milliseconds without a move after which the other views follow
const [WIDE, HIGH] = [84, 26]; // of a curve, in pixels

let builtFrom = ""; // what the rows were built from
let shown = EMPTY;
const touched = new Map(); // edits still to be sent, by row and verb: the last of each
let sent = new Map(); // edits on their way
let slidersOnly = false; // whether those are moves of sliders and nothing else

const keyOf = (layer, clustering, cluster) => [layer, clustering, cluster].join("\n");
const settle = timer(() => trigger("submit", {})); // once nothing moves any more, the other views follow

const channel = messages({
  pause: PAUSE,
  pending: () => touched.size > 0,
  take() {
    settle.stop();
    sent = new Map(touched);
    touched.clear();
    const edits = [...sent.values()];
    slidersOnly = edits.every(({ verb }) => verb === "sparsity");
    return { edits };
  },
  answered(changed) {
    sent.clear();
    if (!changed) fill();
  },
  settled: () => settle.start(slidersOnly ? REST : 0),
});

function edit(cluster, verb, values) {
  const { layer, clustering } = shown;
  const key = keyOf(layer, clustering, cluster) + (verb === "sparsity" ? "" : `\n${verb}`);
  touched.set(key, { layer, clustering, cluster, verb, ...values });
  channel.send();
}

function editSparsity(cluster, percentage) {
  const sparsity = Math.min(100, Math.max(0, Number(percentage))) / 100;
  edit(cluster, "sparsity", { sparsity, keep: tools.querySelector("input").checked });
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
  const properties = { type: "text", value: name, maxLength: 40 };
  const field = make("input", button.parentElement, properties, `Name of the ${noun}`);
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
  `<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">` +
  `<rect x="3" y="7" width="10" height="7" rx="1.5" fill="${locked ? "currentColor" : "none"}"` +
  ` stroke="currentColor" stroke-width="1.3"/>` +
  `<path d="M5 7V${locked ? "5a3 3 0 0 1 6 0v2" : "4a3 3 0 0 1 6 0"}" fill="none" stroke="currentColor"/></svg>`;

// Where the curve stands at a sparsity (0–1), linear between its points.
function damageAt(curve, sparsity) {
  const at = sparsity * (curve.length - 1);
  const left = Math.min(Math.floor(at), curve.length - 2);
  return curve[left] + (at - left) * (curve[left + 1] - curve[left]);
}

function drawCurve(td, curve) {
  const most = curve.at(-1);
  const SVG = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", table.dataset.curve.replace("{}", percent(most)));
  const line = document.createElementNS(SVG, "polyline");
  const place = (share, damage) => [3 + share * (WIDE - 6), HIGH - 3 - (damage / (most || 1)) * (HIGH - 6)];
  line.setAttribute("points", curve.map((damage, i) => place(i / (curve.length - 1), damage).join(",")).join(" "));
  const dot = document.createElementNS(SVG, "circle");
  dot.setAttribute("r", 3);
  svg.append(line, dot);
  td.append(svg);
  td.move = (sparsity, damage) => {
    const [x, y] = place(sparsity, Math.min(damage, most));
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
  };
}

function showDamage(row, sparsity, damage) {
  row.querySelector(".damage").textContent = percent(damage);
  row.querySelector(".curve").move?.(sparsity, damage);
  Object.assign(row.now, { sparsity, damage });
}

function follow(row, curve, sparsity) {
  if (!curve) return;
  showDamage(row, sparsity, damageAt(curve, sparsity));
  sum();
}

function sum() {
  let [weights, removed, damage] = [0, 0, 0];
  for (const { now } of body.rows) {
    const [still, gone] = now.fixed;
    weights += now.weights;
    removed += gone + (now.weights - still) * now.sparsity;
    damage += now.damage;
  }
  const share = total.querySelector(".sparsity");
  share.textContent = weights ? percent(removed / weights) : "";
  share.title = weights ? `${grouped(Math.round(removed))} of ${grouped(weights)} weights are pruned` : "";
  total.querySelector(".sum").textContent = percent(damage);
}

// A fact is a text, or a text and what explains it.
function tell(td, fact) {
  [td.textContent, td.title] = [].concat(fact, "");
}

function addSwatch(row, { id, name, look, glyph, colour }) {
  const swatch = make("button", cell(row, "swatch"), { type: "button", textContent: glyph }, `Colour of ${name}`);
  swatch.title = "Next colour and symbol";
  swatch.style.color = colour;
  swatch.addEventListener("click", () => edit(id, "look", { look: (look + 1) % LOOKS }));
}

function addName(row, { id, name }) {
  const button = make("button", cell(row, "name"), { type: "button", textContent: name });
  button.title = `Select its ${units} (Shift adds, Alt takes away); double-click to rename`;
  button.addEventListener("click", (event) => trigger("select", { cluster: id, mode: modeOf(event) }));
  button.addEventListener("dblclick", () => rename(button, id, name));
  return button;
}

function addSparsity(row, { id, name, curve }) {
  const div = make("div", cell(row, "sparsity"), {});
  const range = control(div, name, "range");
  const field = control(div, name, "number");
  const set = (value) => {
    range.value = field.value = value;
    follow(row, curve, Number(value) / 100);
    editSparsity(id, value);
  };
  range.addEventListener("input", () => set(range.value));
  field.addEventListener("change", () => {
    if (field.value === "") return fill(); // emptied, or not a number
    set(field.value);
  });
  choice(div, `Preset sparsities of ${name}`, "▾", PRESETS.map((share) => [`${share} %`, share]), set);
  range.disabled = field.disabled = div.querySelector("select").disabled = !curve;
  const lock = make("button", div, { type: "button", className: "lock" }, `Lock the sparsity of ${name}`);
  lock.addEventListener("click", () => edit(id, "lock", { locked: lock.getAttribute("aria-pressed") !== "true" }));
}

function addActions(row, { id, name }, rows, nameButton) {
  const others = rows.filter((other) => other.id !== id).map((other) => [`merge with ${other.name}`, other.id]);
  const actions = [["rename", "rename"], ["split in two", "split"], ...others];
  choice(cell(row, "more"), `More for ${name}`, "⋯", actions, (value) => {
    if (value === "rename") rename(nameButton, id, name);
    else if (value === "split") edit(id, "split", {});
    else edit(id, "merge", { other: Number(value) });
  });
}

function build({ rows }) {
  body.replaceChildren();
  for (const cluster of rows) {
    const row = body.insertRow();
    row.dataset.cluster = cluster.id;
    row.now = {};
    addSwatch(row, cluster);
    const nameButton = addName(row, cluster);
    row.facts = facts.map(({ dataset, textContent }) => cell(row, dataset.fact, "", textContent));
    addSparsity(row, cluster);
    cell(row, "number damage", "", "damage");
    const curve = cell(row, "curve");
    if (cluster.curve) drawCurve(curve, cluster.curve);
    addActions(row, cluster, rows, nameButton);
  }
}

function update(row, { sparsity, damage, locked, weights, fixed, facts: told }, moving) {
  const [range, field] = row.querySelectorAll(".sparsity input");
  const lock = row.querySelector(".lock");
  lock.innerHTML = padlock(locked);
  lock.title = locked ? "Locked: other sliders leave its sparsity alone" : "Lock its sparsity";
  lock.setAttribute("aria-pressed", locked);
  row.facts.forEach((td, index) => tell(td, told[index]));
  Object.assign(row.now, { weights, fixed });
  if (moving) return; // what the curve says now is newer
  if (!range.matches(":active")) range.value = 100 * sparsity;
  if (field !== document.activeElement || field.value === "") field.value = +(100 * sparsity).toFixed(1);
  showDamage(row, sparsity, damage);
}

function fill() {
  const value = channel.read(EMPTY);
  if (!value) return;
  shown = value;
  const { layer, clustering, caption, rows, verbs } = shown;
  // The curve does not depend on the sparsities, so that a slider that moves never rebuilds the rows.
  const looks = rows.map(({ name, look, curve }) => `${name} ${look} ${JSON.stringify(curve)}`);
  const source = keyOf(layer, clustering, looks.join("\n"));
  if (source !== builtFrom) build(shown);
  builtFrom = source;
  element.querySelector("caption").textContent = caption;
  card.hidden = rows.length === 0;
  for (const button of tools.querySelectorAll("button[data-verb]")) {
    const { verb } = button.dataset;
    if (verb !== "spread") button.textContent = verbs[verb] ?? "";
    button.hidden = verb !== "spread" && !verbs[verb];
  }
  facts.forEach((_, index) => tell(total.cells[index + 2], shown.total[index] ?? ""));
  rows.forEach((cluster, index) => {
    const key = keyOf(layer, clustering, cluster.id);
    update(body.rows[index], cluster, touched.has(key) || sent.has(key));
  });
  sum();
}

for (const button of tools.querySelectorAll("button[data-verb]")) {
  button.addEventListener("click", () => edit(-1, button.dataset.verb, {}));
}
fill();
watch("value", fill);
