// Runs once per plot inside gr.HTML, which supplies `element`, `props`, `watch` and `trigger`.
// The div outlives every update, so Plotly.react keeps zoom and selection as long as the figure's uirevision is the same.
const host = element.querySelector(".plot");
const spoken = element.querySelector(".plot-spoken");
const detail = element.querySelector(".plot-detail");
let drawn = false;
let draws = 0;
let waiting = false; // for somebody to see it
let targets = null; // what the arrow keys walk through, listed when they first do
let cursor = -1;
let mode = "set"; // what the drag or click that is going on does to the selection: set, add (shift), subtract (alt)
let displayed = ""; // the selected units that are shown, packed
let owner = ""; // the page, as the server calls it

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

function save(format) {
  const layout = { ...host.layout, paper_bgcolor: colours().panel, selections: [] };
  const name = (host.layout.title?.text ?? "plot").split("<")[0];
  Plotly.downloadImage({ data: host.data, layout }, { format, filename: name, scale: 2, width: 1100, height: 700 });
}

const camera = "M4 7h4l2-3h4l2 3h4v12H4zM12 9a4 4 0 1 0 .01 0z";
const saving = ["png", "svg"].map((format) => ({
  name: `save-${format}`,
  title: `Save as ${format.toUpperCase()}`,
  icon: { width: 24, height: 24, path: format === "png" ? camera : "M12 3v10l4-4 1.5 1.5L12 16l-5.5-5.5L8 9l4 4zM4 18h16v2H4z" },
  click: () => save(format),
}));

const config = {
  displaylogo: false,
  showSendToCloud: false, // nothing leaves this machine
  responsive: true,
  plotGlPixelRatio: window.devicePixelRatio || 1, // of 2 by default, which is four times the work for software WebGL
  modeBarButtonsToAdd: [...saving, maximise],
  modeBarButtonsToRemove: ["toImage", "autoScale2d", "zoomIn2d", "zoomOut2d"],
};

function idOf(point) {
  return Array.isArray(point.customdata) ? point.customdata[0] : point.customdata;
}

// Dots of a layer's units: they alone carry whole numbers, and they alone show the page's selection.
const unitTraces = () => (host._fullData ?? []).filter((trace) => trace.meta?.units && trace.visible === true);

function countTargets() {
  return host._fullData.reduce((sum, trace) => {
    if (!trace.customdata || trace.visible !== true) return sum;
    if (trace.type !== "heatmap") return sum + trace.x.length;
    return sum + trace.customdata.flat().filter((cell) => cell?.[0]).length;
  }, 0);
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
        const label = `${trace.name}: ${id}`;
        targets.push({ id, label, x: trace.x[i], y: trace.y[i], unit: Boolean(trace.meta?.units) });
      }
    }
  });
}

function pack(ids) {
  const bytes = new Uint8Array(Int32Array.from(ids).buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}

function unpackBytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

const subject = () => host.layout.meta?.subject ?? "";

// The page has the last word on what is selected. What Plotly shows after a drag stands until the page answers: drawing
// 100,000 dots once more would only keep it from being asked.
let unseen = []; // what was selected since
let expected = null; // shows it if the page has nothing to say
let held = false; // the pointer: a plot that is drawn again would drop what is being dragged
function select(ids, how, wait = 0) {
  trigger("select", { packed: pack(ids), mode: how, subject: subject() });
  unseen.push([ids, how]);
  clearTimeout(expected);
  expected = setTimeout(showUnseen, wait);
}

function showUnseen() {
  if (unseen.length && !held) showSelection(withUnseen());
}

function answered() {
  if (!held && (unseen.length || sentSelection() !== displayed)) showSelection(sentSelection());
}

const modeOf = (event) => (event.shiftKey ? "add" : event.altKey ? "subtract" : "set");

function hold(event) {
  mode = modeOf(event);
  held = true;
}

function release() {
  if (!held) return;
  held = false;
  clearTimeout(expected); // what came meanwhile, unless this was a drag, which ends in a moment
  expected = unseen.length ? setTimeout(showUnseen, 1000) : setTimeout(answered);
}

function withUnseen() {
  let chosen = idsIn(displayed) ?? new Set();
  for (const [ids, how] of unseen) {
    if (how === "set") chosen = new Set();
    for (const id of ids) how === "subtract" ? chosen.delete(id) : chosen.add(id);
  }
  return chosen.size ? pack([...chosen].sort((a, b) => a - b)) : "";
}

// The dots inside what was drawn last, whatever was drawn before: the page knows what to add it to.
function inside(event) {
  const found = [];
  const { lassoPoints: lasso, range } = event;
  const [xs, ys] = lasso ? [lasso.x, lasso.y] : [range.x, range.y];
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const within = (x, y) => {
    let odd = false;
    for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
      if (ys[i] > y !== ys[j] > y && x < ((xs[j] - xs[i]) * (y - ys[i])) / (ys[j] - ys[i]) + xs[i]) odd = !odd;
    }
    return odd;
  };
  for (const { x, y, customdata } of unitTraces()) {
    for (let i = 0; i < x.length; i++) {
      if (x[i] < left || x[i] > right || y[i] < low || y[i] > high) continue;
      if (!lasso || within(x[i], y[i])) found.push(customdata[i]);
    }
  }
  return found;
}

function attach() {
  host.on("plotly_click", (event) => {
    const point = event.points[0];
    const id = idOf(point);
    if (id === undefined || id === "") return;
    if (point.data.meta?.units) select([id], mode);
    else trigger("click", { id, mode });
  });
  host.on("plotly_selected", (event) => {
    if (!event?.lassoPoints && !event?.range) return; // an outline was taken away, nothing was drawn
    if (unitTraces().length) select(inside(event), mode, 1000);
    else if (event.range) trigger("select", { range: event.range, mode });
    Plotly.relayout(host, { selections: [] }); // takes the outline away, draws nothing again
  });
  host.on("plotly_doubleclick", () => host.layout.dragmode !== "zoom" && unitTraces().length && select([], "set"));
  host.on("plotly_hover", (event) => look(event.points[0]));
  host.on("plotly_unhover", () => look(null));
}

// Details of the dot under the pointer are looked up once it rests there.
let looking = null;
function look(point) {
  if (!detail) return;
  clearTimeout(looking);
  if (!point?.data.meta?.units) return void (detail.textContent = "");
  const id = idOf(point);
  looking = setTimeout(async () => {
    detail.textContent = await server.details({ owner, subject: subject(), id });
  }, 60);
}

function sentSelection() {
  const sent = props.selection ? JSON.parse(props.selection) : null;
  return sent?.subject === subject() ? sent.ids : "";
}

const idsIn = (packed) => (packed ? new Set(new Int32Array(unpackBytes(packed))) : null);

function indicesIn(trace, chosen) {
  if (!chosen) return null;
  const found = [];
  for (let i = 0; i < trace.customdata.length; i++) if (chosen.has(trace.customdata[i])) found.push(i);
  return found;
}

function showSelection(packed) {
  const traces = drawn ? unitTraces() : [];
  if (!traces.length) return;
  const chosen = idsIn(packed);
  displayed = packed;
  clearTimeout(expected);
  unseen = [];
  const selectedpoints = traces.map((trace) => indicesIn(trace, chosen));
  Plotly.update(host, { selectedpoints }, { selections: [] }, traces.map((trace) => trace.index));
}

function draw() {
  if (!props.value) return;
  waiting = host.clientWidth === 0; // on a page that is not open; it is drawn when somebody can see it
  if (waiting) return;
  const sent = JSON.parse(props.value);
  const figure = sent.figure ?? sent;
  owner = sent.owner ?? "";
  figure.layout.template = template();
  figure.layout.selectionrevision = ++draws; // the page says what is selected, not Plotly
  const started = performance.now();
  Plotly.react(host, figure.data, figure.layout, config).then(() => {
    if (!drawn) attach();
    drawn = true;
    targets = null;
    element.dataset.points = countTargets();
    element.dataset.drawn = `${draws} ${Math.round(performance.now() - started)}`;
    showFrames();
    displayed = "";
    unseen = [];
    if (sentSelection()) showSelection(sentSelection());
  });
  host.setAttribute("aria-label", figure.layout.meta?.alt ?? "plot");
}

// Timesteps: the dots' heights in every bin are fetched once, then a slider or the play button moves them.
const steps = element.querySelector(".plot-steps");
let frames = null; // { at, count, values, all }: dots in ascending order, bin after bin; heights of all bins
let fetching = null; // the frames on their way: a drawing asks for them once, however fast the slider moves
let wanted = 0;
let playing = null;

function showFrames() {
  if (!steps) return;
  const labels = host.layout.meta?.frames ?? [];
  steps.hidden = labels.length < 2;
  const slider = steps.querySelector("input");
  slider.max = labels.length;
  frames = fetching = null;
  if (Number(slider.value) > labels.length) slider.value = 0;
  if (Number(slider.value)) moveTo(Number(slider.value));
  else nameFrame(0);
}

function nameFrame(frame) {
  const labels = host.layout.meta?.frames ?? [];
  steps.querySelector("output").textContent = frame ? `timesteps ${labels[frame - 1]}` : "all timesteps";
  element.dataset.frame = frame;
}

const movingTraces = () => host._fullData.filter((trace) => trace.meta?.units); // hidden clusters move, too

async function fetchFrames() {
  const traces = movingTraces();
  const ids = Int32Array.from(traces.flatMap((trace) => [...trace.customdata])).sort();
  const values = await server.frames({ owner, subject: subject(), dots: ids.length });
  if (!values) return null;
  const at = new Map();
  ids.forEach((id, i) => at.set(id, i));
  const all = new Map(traces.map((trace) => [trace.index, Float32Array.from(trace.y)]));
  return { at, count: ids.length, values: new Float32Array(unpackBytes(values)), all };
}

async function moveTo(frame) {
  wanted = frame;
  if (!frames) {
    const mine = (fetching ??= fetchFrames());
    const found = await mine.catch(() => null);
    if (mine === fetching) [frames, fetching] = [found, null]; // else they are of a drawing before this one
    if (!frames || frame !== wanted) return;
  }
  const traces = movingTraces();
  const y = traces.map((trace) => {
    if (!frame) return frames.all.get(trace.index);
    const moved = new Float32Array(trace.customdata.length);
    const start = (frame - 1) * frames.count;
    for (let i = 0; i < moved.length; i++) moved[i] = frames.values[start + frames.at.get(trace.customdata[i])];
    return moved;
  });
  nameFrame(frame);
  await Plotly.restyle(host, { y }, traces.map((trace) => trace.index));
}

if (steps) {
  const slider = steps.querySelector("input");
  const button = steps.querySelector("button");
  const stop = () => {
    clearInterval(playing);
    playing = null;
    button.textContent = "▶";
    button.setAttribute("aria-label", "Play through the timesteps");
  };
  slider.addEventListener("input", () => {
    stop();
    moveTo(Number(slider.value));
  });
  button.addEventListener("click", () => {
    if (playing) return stop();
    button.textContent = "⏸";
    button.setAttribute("aria-label", "Pause");
    playing = setInterval(() => {
      if (fetching) return;
      slider.value = Number(slider.value) >= Number(slider.max) ? 0 : Number(slider.value) + 1;
      moveTo(Number(slider.value));
    }, 600);
  });
}

// Arrow keys walk through the dots or cells, Enter opens or selects the one that is announced, Escape selects nothing.
host.addEventListener("keydown", (event) => {
  if (event.target !== host) return; // a button of the toolbar
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (step && drawn) {
    if (!targets) listTargets();
    if (!targets.length) return;
    cursor = (cursor + step + targets.length) % targets.length;
    const { id, x, y, label, unit } = targets[cursor];
    Plotly.Fx.hover(host, { xval: x, yval: y });
    host.emit("plotly_hover", { points: [{ customdata: id, data: { meta: { units: unit } } }] }); // Fx.hover tells nobody
    spoken.textContent = label;
    event.preventDefault();
  } else if ((event.key === "Enter" || event.key === " ") && targets?.[cursor]) {
    const how = modeOf(event);
    if (targets[cursor].unit) select([targets[cursor].id], how);
    else trigger("click", { id: targets[cursor].id, mode: how });
    event.preventDefault();
  } else if (event.key === "Escape" && drawn && unitTraces().length && !document.fullscreenElement) {
    select([], "set");
  }
});
host.addEventListener("blur", () => {
  if (!drawn) return;
  Plotly.Fx.unhover(host);
  host.emit("plotly_unhover", {});
});
host.addEventListener("pointerdown", hold, true);
for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, release, true);

// The first plot loads Plotly for all, from wherever the page itself comes: behind a proxy that may be a sub-path.
function load() {
  if (document.getElementById("plotly-js")) return;
  const root = window.gradio_config?.root ?? new URL(".", document.baseURI).href;
  const script = document.createElement("script");
  Object.assign(script, { id: "plotly-js", src: `${root.replace(/\/$/, "")}/${host.dataset.library}` });
  document.head.append(script);
}

function start() {
  if (!window.Plotly) return void setTimeout(start, 25);
  draw();
  watch("value", draw);
  watch("selection", answered);
  new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  new ResizeObserver(() => {
    if (waiting) draw();
    else if (drawn && host.clientWidth) Plotly.Plots.resize(host);
  }).observe(element);
}
load();
start();
