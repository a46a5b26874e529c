// Runs once per plot inside gr.HTML, which supplies `element`, `props`, `watch`, `trigger` and `server`.
// The div outlives every update, so Plotly.react keeps zoom and legend as long as the figure's uirevision is the same.
const host = element.querySelector(".plot");
const detail = element.querySelector(".plot-detail");
const subject = () => host.layout?.meta?.subject ?? "";
const config = plotConfig(host); // one for all drawings: at a changed one Plotly starts anew and forgets the zoom
const NO_PLOTLY =
  "This chart cannot be drawn because plotly.min.js did not load. Reload the page. If that does not help, check that " +
  "the app is still running and that any proxy in front of it passes on paths below /gradio_api/.";
const LATE =
  `plotly.min.js, which draws this chart, has not arrived within ${PLOTLY_LIMIT / 1000} seconds. The chart appears ` +
  "as soon as it does. If it does not, reload the page.";

let drawn = false;
let draws = 0;
let unseen = false; // the page it is on was not open when it was to be drawn
let owner = ""; // the visit whose layer is drawn, as the server calls it

const selection = unitSelection(host, subject);
const player = timestepPlayer(host, (dots) => server.frames({ owner, subject: subject(), dots }));
crosshair(host);
const keys = walkWithKeys(host, { selectUnits: selection.change, openTarget: open });

function open(id, mode) {
  trigger("click", { id, mode });
}

// Details of the dot under the pointer are looked up once it rests there.
let rested = null;
const lookUp = timer(async () => {
  detail.textContent = await server.details({ owner, subject: subject(), id: rested });
});

function hover(point) {
  if (!detail) return;
  lookUp.stop();
  const unit = point?.data.meta?.units;
  pointAtUnit(unit ? idOf(point.customdata) : null);
  if (!unit) return void (detail.textContent = "");
  rested = idOf(point.customdata);
  lookUp.start(60);
}

function listen() {
  host.on("plotly_click", ({ points: [point] }) => {
    const id = idOf(point.customdata);
    if (id === null) return;
    const opened = openedBy(point);
    const selects = point.data.meta?.units && (opened === null || selection.mode !== "set");
    if (selects) selection.change([id], selection.mode);
    else open(opened, selection.mode);
  });
  host.on("plotly_selected", (event) => {
    const drawn = event?.lassoPoints ?? event?.range;
    if (!drawn?.x || !drawn.y) return; // an outline was taken away, or drawn beside the dots
    if (unitTraces(host).length) selection.change(unitsInside(host, event), selection.mode, 1000);
    else if (event.range) trigger("select", { range: event.range, mode: selection.mode });
    Plotly.relayout(host, { selections: [] }); // takes the outline away, draws nothing again
  });
  host.on("plotly_doubleclick", () => {
    if (host.layout.dragmode !== "zoom" && unitTraces(host).length) selection.change([], "set");
  });
  host.on("plotly_hover", (event) => hover(event.points[0]));
  host.on("plotly_unhover", () => hover(null));
}

function draw() {
  if (!props.value) return;
  unseen = host.clientWidth === 0;
  if (unseen) return; // it is drawn when somebody can see it
  const sent = JSON.parse(props.value);
  const figure = sent.figure ?? sent;
  owner = sent.owner ?? "";
  if (!drawn) {
    host.setAttribute("aria-label", figure.layout.meta?.alt ?? "plot");
    host.replaceChildren();
    if (!figure.data.length) return void make("p", host, { className: "plot-empty", textContent: figure.layout.meta?.alt });
  }
  decodeArrays(figure.data);
  figure.layout.template = plotTemplate();
  clearOfToolbar(host, figure.layout);
  figure.layout.selectionrevision = ++draws; // the server says what is selected, not Plotly
  const started = performance.now();
  Plotly.react(host, figure.data, figure.layout, config).then(() => {
    if (!removed.aborted) afterDrawing(performance.now() - started);
  });
  host.setAttribute("aria-label", figure.layout.meta?.alt ?? "plot");
}

function afterDrawing(milliseconds) {
  const first = !drawn;
  drawn = true;
  if (first) listen();
  keys.redrawn();
  element.dataset.points = countTargets(host);
  element.dataset.drawn = `${draws} ${Math.round(milliseconds)}`;
  player.redrawn();
  selection.redrawn();
  if (first) host.dispatchEvent(new Event(READY, { bubbles: true }));
}

function resize() {
  if (unseen) draw();
  else if (drawn && host.clientWidth) Plotly.Plots.resize(host);
}

function explain(sentence) {
  host.replaceChildren();
  make("p", host, { className: "plot-problem", role: "status", textContent: sentence });
}

function start() {
  if (removed.aborted) return;
  host.replaceChildren();
  draw();
  watch("value", draw);
  watch("selection", selection.confirmed);
  observe(new MutationObserver(draw), document.body, { attributes: true, attributeFilter: ["class"] }); // dark or light
  observe(new ResizeObserver(resize), element);
  onRemoved(() => Plotly.purge(host)); // it listens to the window, and holds the figure and its WebGL context
}

const late = timer(() => explain(LATE));
late.start(PLOTLY_LIMIT);
loadPlotly(host.dataset.library)
  .finally(late.stop)
  .then(start, () => explain(NO_PLOTLY));
