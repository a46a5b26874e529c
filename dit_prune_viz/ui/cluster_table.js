// One row per cluster. Runs once inside gr.HTML; rows are rebuilt only when the clusters change, so that a slider that
// is being dragged, or a field that is being typed in, is never replaced under the person's hand.
const table = element.querySelector("table");
const body = element.querySelector("tbody");
const EMPTY = '{"at":0,"layer":null,"clustering":"","caption":"","rows":[]}';

let signature = "";
let shownAt = 0; // when the server computed what is shown
let number = 0; // of the last event that was sent
let sent = null; // edits on their way to the server, by row; null when all are answered
const touched = new Map(); // edits that wait until then: the last value of every row

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const grouped = (value) => value.toLocaleString("en-US");
const keyOf = (layer, clustering, cluster) => [layer, clustering, cluster].join("\n");

function edit(layer, clustering, cluster, value) {
  const sparsity = Math.min(100, Math.max(0, Number(value))) / 100;
  touched.set(keyOf(layer, clustering, cluster), { layer, clustering, cluster, sparsity });
  send();
}

function send() {
  if (sent || !touched.size) return;
  sent = new Map(touched);
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
}

function cell(row, text, className, label) {
  const td = row.insertCell();
  td.textContent = text;
  td.className = className;
  if (label) td.dataset.label = label; // takes the header's place on a narrow screen
  return td;
}

function control(row, cluster, type) {
  const input = document.createElement("input");
  Object.assign(input, { type, min: 0, max: 100, step: type === "range" ? 1 : 0.1 });
  input.setAttribute("aria-label", `Sparsity of cluster ${cluster}, percent`);
  row.querySelector(".sparsity div").append(input);
  return input;
}

function build({ layer, clustering, rows }) {
  body.replaceChildren();
  for (const { id, glyph, colour, units, weights, energy } of rows) {
    const row = body.insertRow();
    row.dataset.cluster = id;
    const swatch = cell(row, glyph, "swatch");
    swatch.style.color = colour;
    cell(row, `cluster ${id}`, "name");
    cell(row, grouped(units), "number", "units");
    cell(row, grouped(weights), "number weights");
    cell(row, percent(energy), "number", "energy");
    cell(row, "", "sparsity").append(document.createElement("div"));
    const range = control(row, id, "range");
    const field = control(row, id, "number");
    range.addEventListener("input", () => {
      field.value = range.value;
      edit(layer, clustering, id, range.value);
    });
    field.addEventListener("change", () => {
      if (field.value === "") return fill(); // emptied, or not a number
      range.value = field.value;
      edit(layer, clustering, id, field.value);
    });
    cell(row, "", "number damage", "damage");
  }
}

function fill() {
  const shown = JSON.parse(props.value || EMPTY);
  if (shown.at < shownAt) return; // overtaken by an edit; the table that knows of it is on its way
  shownAt = shown.at;
  const { layer, clustering, caption, rows } = shown;
  const now = keyOf(layer, clustering, rows.length);
  if (now !== signature) build(shown);
  signature = now;
  element.querySelector("caption").textContent = caption;
  table.hidden = rows.length === 0;
  rows.forEach(({ id, sparsity, damage }, index) => {
    const row = body.rows[index];
    const key = keyOf(layer, clustering, id);
    const [range, field] = row.querySelectorAll("input");
    if (!touched.has(key) && !sent?.has(key)) {
      if (!range.matches(":active")) range.value = 100 * sparsity;
      if (field !== document.activeElement || field.value === "") field.value = (100 * sparsity).toFixed(1);
    }
    row.querySelector(".damage").textContent = percent(damage, 2);
  });
}

fill();
watch("value", fill);
watch("answered", receive);
