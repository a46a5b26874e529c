// How a plot looks: the page's colours, and the toolbar's own buttons.

const MAXIMISE = "M3 3h7v2H5v5H3zM14 3h7v7h-2V5h-5zM3 14h2v5h5v2H3zM19 14h2v7h-7v-2h5z";
const CAMERA = "M4 7h4l2-3h4l2 3h4v12H4zM12 9a4 4 0 1 0 .01 0z";
const [LETTER, TOOLBAR] = [7.2, 205]; // pixels that a letter of a title and the buttons take, about
const ARROW = "M12 3v10l4-4 1.5 1.5L12 16l-5.5-5.5L8 9l4 4zM4 18h16v2H4z";

function pageColours() {
  const style = getComputedStyle(document.body);
  const read = (name) => style.getPropertyValue(name).trim();
  return { text: read("--body-text-color"), grid: read("--plot-grid"), panel: read("--block-background-fill") };
}

function plotTemplate() {
  const { text, grid, panel } = pageColours();
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

// A title that reaches below the toolbar, which stands at the right, moves down out of its way.
function clearOfToolbar(host, layout) {
  const [first, ...more] = (layout.title?.text ?? "").split("<br>");
  const words = first.replace(/<[^>]*>/g, "");
  if (!words || words.length * LETTER + TOOLBAR < host.clientWidth) return;
  const below = more.length ? 42 : 28; // Plotly lifts a title of two lines
  layout.title = { ...layout.title, y: 1, yref: "container", yanchor: "top", pad: { ...layout.title.pad, t: below } };
  layout.margin = { ...layout.margin, t: (layout.margin?.t ?? 44) + below - 12 };
}

function toolbarButton(name, title, path, click) {
  return { name, title, icon: { width: 24, height: 24, path }, click };
}

function maximise() {
  return document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen();
}

function saveAs(host, format) {
  const layout = { ...host.layout, paper_bgcolor: pageColours().panel, selections: [] };
  const shown = host.layout.meta?.file ?? (host.layout.title?.text ?? "").split("<")[0];
  const filename = shown.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^-|-$/g, "") || host.closest("[id]")?.id || "plot";
  Plotly.downloadImage({ data: host.data, layout }, { format, filename, scale: 2, width: 1100, height: 700 });
}

function plotConfig(host) {
  return {
    displaylogo: false,
    showSendToCloud: false, // nothing leaves this machine
    responsive: true,
    plotGlPixelRatio: window.devicePixelRatio || 1, // of 2 by default, which is four times the work for software WebGL
    modeBarButtonsToAdd: [
      toolbarButton("save-png", "Save as PNG", CAMERA, () => saveAs(host, "png")),
      toolbarButton("save-svg", "Save as SVG", ARROW, () => saveAs(host, "svg")),
      toolbarButton("maximise", "Maximise (Esc to leave)", MAXIMISE, maximise),
    ],
    modeBarButtonsToRemove: ["toImage", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  };
}
