// One row per cluster. Runs once inside gr.HTML; rows are rebuilt only when the clusters change, so that a slider that
// is being dragged, or a field that is being typed in, is never replaced under the person's hand.
const body = element.querySelector("tbody");
const caption = element.querySelector("caption");
let signature = "";
let timer;

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const grouped = (value) => value.toLocaleString("en-US");

function send(cluster, value) {
  const sparsity = Math.min(100, Math.max(0, Number(value))) / 100;
  if (Number.isFinite(sparsity)) trigger("input", { cluster, sparsity });
}

function cell(row, text, className) {
  const td = row.insertCell();
  td.textContent = text;
  if (className) td.className = className;
  return td;
}

function control(row, cluster, type) {
  const input = document.createElement("input");
  Object.assign(input, { type, min: 0, max: 100, step: type === "range" ? 1 : 0.1 });
  input.setAttribute("aria-label", `Sparsity of cluster ${cluster}, percent`);
  row.querySelector(".sparsity div").append(input);
  return input;
}

function build(rows) {
  body.replaceChildren();
  for (const { id, glyph, colour, units, weights, energy } of rows) {
    const row = body.insertRow();
    row.dataset.cluster = id;
    const swatch = cell(row, glyph, "swatch");
    swatch.style.color = colour;
    cell(row, `cluster ${id}`, "name");
    cell(row, grouped(units), "number");
    cell(row, grouped(weights), "number");
    cell(row, percent(energy), "number");
    cell(row, "", "sparsity").append(document.createElement("div"));
    const range = control(row, id, "range");
    const number = control(row, id, "number");
    range.addEventListener("input", () => {
      number.value = range.value;
      clearTimeout(timer);
      timer = setTimeout(() => send(id, range.value), 120);
    });
    number.addEventListener("change", () => {
      range.value = number.value;
      send(id, number.value);
    });
    cell(row, "", "number damage");
  }
}

function fill() {
  const { rows, caption: text } = JSON.parse(props.value || '{"rows":[],"caption":""}');
  const now = rows.map((row) => [row.id, row.units, row.energy].join()).join(";");
  if (now !== signature) build(rows);
  signature = now;
  caption.textContent = text;
  element.querySelector("table").hidden = false;
  rows.forEach(({ sparsity, damage }, index) => {
    const row = body.rows[index];
    for (const input of row.querySelectorAll("input")) {
      if (input !== document.activeElement || input.type === "range") {
        if (!(input.type === "range" && input.matches(":active"))) input.value = (100 * sparsity).toFixed(1);
      }
    }
    row.querySelector(".damage").textContent = percent(damage, 2);
  });
}

fill();
watch("value", fill);
