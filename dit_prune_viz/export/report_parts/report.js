// The page of a report. Everything it needs is in the file: it asks for nothing.
"use strict";

const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);

// ---- dark and light -------------------------------------------------------------------------------------------------

const root = document.documentElement;
const preferred = matchMedia("(prefers-color-scheme: dark)");
const themeButton = byId("theme");

const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preferred.matches);

function themeChanged() {
  themeButton.textContent = isDark() ? "Light" : "Dark";
  themeButton.setAttribute("aria-label", isDark() ? "Switch to light colours" : "Switch to dark colours");
  redrawAll();
}

themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  themeChanged();
});
preferred.addEventListener("change", themeChanged);

// ---- plots ----------------------------------------------------------------------------------------------------------

// Plotly comes compressed. The policy of the page lets its text run, and nothing that differs from it.
const library = (async () => {
  const packed = Uint8Array.from(atob(byId("plotly").textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
})();
library.catch(() => {
  for (const host of all(".plot")) host.textContent = "This browser is too old to draw the figures; open it in a newer one.";
});

const drawn = new Set();
const CONFIG = {
  displaylogo: false,
  responsive: true,
  modeBarButtonsToRemove: ["autoScale2d", "zoomIn2d", "zoomOut2d", "lasso2d", "select2d"],
  toImageButtonOptions: { scale: 2 },
};

// Colours that stand in custom properties are resolved by an element that has them.
function colourOf(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function template() {
  const [text, line, card] = ["--text", "--line", "--card"].map(colourOf);
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line, ticks: "outside", ticklen: 4 };
  const font = { color: text, family: getComputedStyle(document.body).fontFamily };
  return {
    layout: {
      font,
      xaxis: axis,
      yaxis: axis,
      hoverlabel: { bgcolor: card, bordercolor: line, font },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: text, activecolor: "#0072B2" },
    },
  };
}

// A narrow screen has no room for a legend's columns beside long names, nor for the axis's.
function fitted(layout, width) {
  if (width >= 560) return layout;
  const { margin = {} } = layout;
  return { ...layout, margin: { ...margin, l: Math.min(margin.l ?? 56, 84), r: 4 } };
}

function draw(host) {
  const figure = JSON.parse(byId(host.dataset.figure).textContent);
  const layout = { ...fitted(figure.layout, host.clientWidth), template: template() };
  const first = !drawn.has(host);
  drawn.add(host);
  return Plotly.react(host, figure.data, layout, CONFIG).then(() => {
    host.dataset.drawn = host.dataset.figure;
    if (first) host.on("plotly_click", ({ points: [point] }) => layerClicked(point));
  });
}

function redrawAll() {
  for (const host of drawn) draw(host);
}

// Plots are drawn when they come near: a report may have many.
const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      draw(target);
    }
  },
  { rootMargin: "600px" }
);

library.then(() => {
  for (const host of all(".plot")) near.observe(host);
});

for (const chooser of all(".chooser")) {
  const host = chooser.querySelector(".plot");
  chooser.addEventListener("change", ({ target }) => {
    host.dataset.figure = target.value;
    host.setAttribute("aria-label", target.dataset.alt);
    chooser.querySelector(".help").textContent = target.dataset.help;
    library.then(() => draw(host));
  });
}

// ---- pictures -------------------------------------------------------------------------------------------------------

for (const slider of all(".wipe input")) {
  slider.addEventListener("input", () => slider.parentElement.style.setProperty("--at", `${slider.value}%`));
}

byId("compare")?.addEventListener("change", ({ target }) => {
  byId("main").classList.toggle("beside", target.value === "beside");
});

// ---- the table of layers --------------------------------------------------------------------------------------------

const table = byId("layer-table");
const body = table.tBodies[0];
const rows = [...body.rows];
const names = rows.map((row) => row.cells[0].textContent);
const find = byId("find");
const kind = byId("kind");
const ENTITIES = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'", "&amp;": "&" };

function filter() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  rows.forEach((row, place) => {
    const name = names[place].toLowerCase();
    const fits = words.every((word) => name.includes(word)) && (!kind.value || row.cells[2].textContent === kind.value);
    row.hidden = !fits;
    row.classList.remove("found");
    shown += fits;
  });
  byId("found").textContent = shown === rows.length ? `${shown} layers` : `${shown} of ${rows.length} layers`;
}

find.addEventListener("input", filter);
kind.addEventListener("change", filter);

// Values sort as numbers where a column has them, what is no number last.
function compare(column, down) {
  const sign = down ? -1 : 1;
  return (a, b) => {
    const [one, other] = [a, b].map(({ cells }) => cells[column].dataset.v ?? cells[column].textContent);
    const [first, second] = [one, other].map(Number);
    if (cellsAreNumbers[column]) {
      if (!Number.isFinite(first) || !Number.isFinite(second)) return Number.isFinite(second) - Number.isFinite(first);
      return sign * (first - second);
    }
    return sign * one.localeCompare(other, "en", { numeric: true });
  };
}

const heads = [...table.tHead.rows[0].cells];
const cellsAreNumbers = heads.map((head) => head.classList.contains("n"));

heads.forEach((head, column) => {
  head.firstElementChild.addEventListener("click", () => {
    const before = head.getAttribute("aria-sort");
    // Numbers are most telling from the greatest down.
    const down = before ? before === "ascending" : cellsAreNumbers[column];
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows.toSorted(compare(column, down)));
  });
});

// A click on a cell of the map or on a dot shows the layer in the table.
function layerClicked({ customdata }) {
  const text = Array.isArray(customdata) ? String(customdata[0]) : ""; // Plotly's texts are escaped
  const place = names.indexOf(text.replace(/&(lt|gt|quot|#x27|amp);/g, (found) => ENTITIES[found]));
  if (place < 0) return;
  if (rows[place].hidden) {
    find.value = kind.value = "";
    filter();
  }
  for (const row of rows) row.classList.toggle("found", row === rows[place]);
  rows[place].scrollIntoView({ block: "center" });
}

// ---- files ----------------------------------------------------------------------------------------------------------

function save(name, kind, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// A spreadsheet takes what begins with one of these for a formula.
function csvCell(text) {
  const safe = /^[=+\-@\t\r]/.test(text) && !Number.isFinite(Number(text)) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

byId("save-layers").addEventListener("click", () => {
  const lines = [heads.map((head) => head.dataset.key)];
  for (const row of body.rows) {
    if (!row.hidden) lines.push([...row.cells].map(({ dataset, textContent }) => dataset.csv ?? dataset.v ?? textContent));
  }
  save("layers.csv", "text/csv", lines.map((line) => line.map(csvCell).join(",") + "\n").join(""));
});

byId("save-recipe")?.addEventListener("click", () => {
  save("recipe.json", "application/json", byId("recipe-text").textContent);
});

// ---- print: in light colours, with all plots ------------------------------------------------------------------------

addEventListener("beforeprint", () => {
  root.dataset.printed = root.dataset.theme ?? "";
  root.dataset.theme = "light";
  byId("main").classList.add("beside");
  if (window.Plotly) for (const host of all(".plot")) draw(host);
});
addEventListener("afterprint", () => {
  if (root.dataset.printed) root.dataset.theme = root.dataset.printed;
  else delete root.dataset.theme;
  byId("main").classList.toggle("beside", document.querySelector("#compare input:checked")?.value === "beside");
  redrawAll();
});

themeChanged();
