// Runs once per plot inside gr.HTML, which supplies `element`, `props`, `watch` and `trigger`.
// The div outlives every update, so Plotly.react keeps zoom and selection as long as the figure's uirevision is the same.
const host = element.querySelector(".plot");
const spoken = element.querySelector(".plot-spoken");
let drawn = false;
let targets = [];
let cursor = -1;

function colours() {
  const style = getComputedStyle(document.body);
  const read = (name) => style.getPropertyValue(name).trim();
  return { text: read("--body-text-color"), grid: read("--plot-grid"), panel: read("--block-background-fill") };
}

function template() {
  const { text, grid, panel } = colours();
  const axis = { gridcolor: grid, linecolor: grid, zerolinecolor: grid, tickcolor: grid, ticks: "outside", ticklen: 4 };
  const family = getComputedStyle(element).fontFamily;
  return {
    layout: {
      font: { color: text, family },
      xaxis: axis,
      yaxis: axis,
      hoverlabel: { bgcolor: panel, bordercolor: grid, font: { color: text, family } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: text, activecolor: "#0072B2" },
      newselection: { line: { color: text, width: 1.5, dash: "dot" } },
    },
  };
}

const maximise = {
  name: "maximise",
  title: "Maximise (Esc to leave)",
  icon: { width: 24, height: 24, path: "M3 3h7v2H5v5H3zM14 3h7v7h-2V5h-5zM3 14h2v5h5v2H3zM19 14h2v7h-7v-2h5z" },
  click: () => (document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen()),
};

const config = {
  displaylogo: false,
  showSendToCloud: false, // nothing leaves this machine
  responsive: true,
  modeBarButtonsToAdd: [maximise],
  modeBarButtonsToRemove: ["autoScale2d", "zoomIn2d", "zoomOut2d"],
  toImageButtonOptions: { scale: 2 },
};

function idsOf(points) {
  return points.map((point) => (Array.isArray(point.customdata) ? point.customdata[0] : point.customdata));
}

function listTargets() {
  targets = [];
  host._fullData.forEach((trace) => {
    if (!trace.customdata || trace.visible !== true) return;
    if (trace.type === "heatmap") {
      trace.y.forEach((y, row) =>
        trace.x.forEach((x, column) => {
          const id = trace.customdata[row]?.[column]?.[0];
          if (id) targets.push({ id, label: `${id}, ${y}, block ${x}`, x, y: row });
        })
      );
    } else {
      for (let i = 0; i < trace.x.length; i++) {
        const data = trace.customdata[i];
        const id = Array.isArray(data) ? data[0] : data;
        targets.push({ id, label: `${trace.name}: ${id}`, x: trace.x[i], y: trace.y[i] });
      }
    }
  });
}

function select(points) {
  trigger("select", { ids: idsOf(points), subject: host.layout.meta?.subject ?? "" });
}

function attach() {
  host.on("plotly_click", (event) => {
    const [id] = idsOf(event.points);
    if (id !== undefined && id !== "") trigger("click", { id });
  });
  host.on("plotly_selected", (event) => {
    if (event) select(event.points.filter((point) => point.data.meta?.units));
  });
  host.on("plotly_deselect", () => select([]));
}

function draw() {
  if (!props.value) return;
  const figure = JSON.parse(props.value);
  figure.layout.template = template();
  Plotly.react(host, figure.data, figure.layout, config).then(() => {
    if (!drawn) attach();
    drawn = true;
    listTargets();
    element.dataset.points = targets.length;
  });
  host.setAttribute("aria-label", figure.layout.meta?.alt ?? "plot");
}

// Arrow keys walk through the dots or cells, Enter opens the one that is announced.
host.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (step && targets.length) {
    cursor = (cursor + step + targets.length) % targets.length;
    const { x, y, label } = targets[cursor];
    Plotly.Fx.hover(host, { xval: x, yval: y });
    spoken.textContent = label;
    event.preventDefault();
  } else if ((event.key === "Enter" || event.key === " ") && targets[cursor]) {
    trigger("click", { id: targets[cursor].id });
    event.preventDefault();
  }
});
host.addEventListener("blur", () => drawn && Plotly.Fx.unhover(host));

// The first plot loads Plotly for all, from wherever the page itself comes: behind a proxy that may be a sub-path.
function load() {
  if (document.getElementById("plotly-js")) return;
  const root = window.gradio_config?.root ?? new URL(".", document.baseURI).href;
  const script = document.createElement("script");
  Object.assign(script, { id: "plotly-js", src: `${root.replace(/\/$/, "")}/${props.library}` });
  document.head.append(script);
}

function start() {
  if (!window.Plotly) return void setTimeout(start, 25);
  draw();
  watch("value", draw);
  new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  new ResizeObserver(() => drawn && host.clientWidth && Plotly.Plots.resize(host)).observe(element);
}
load();
start();
