// What the scripts share about Plotly: how it is loaded, when a plot is there, where things lie on it.

const PLOTLY_LIMIT = 20_000; // milliseconds after which a page that waits for plotly.min.js says so

// A promise of plotly.min.js, which the first plot loads for all. It comes from wherever the page itself comes: behind
// a proxy that may be a sub-path.
function loadPlotly(path) {
  window.plotlyLoaded ??= new Promise((resolve, reject) => {
    const root = window.gradio_config?.root ?? new URL(".", document.baseURI).href;
    const source = document.createElement("script");
    source.src = `${root.replace(/\/$/, "")}/${path}`;
    source.addEventListener("load", () => (window.Plotly ? resolve() : reject(new Error("not a script"))));
    source.addEventListener("error", () => reject(new Error("not found")));
    document.head.append(source);
  });
  return window.plotlyLoaded;
}

// `plot.js` says with this event that a plot has been drawn for the first time and takes Plotly's listeners.
const READY = "plot-ready";

// Calls `action(host)` with the plot in the component `id`: now, or once it is drawn, and again if it is made anew.
function whenPlotReady(id, action) {
  const host = document.getElementById(id)?.querySelector(".plot");
  if (host?.on) action(host);
  const ready = ({ target }) => target.closest(`#${id}`) && action(target);
  document.addEventListener(READY, ready, { signal: removed });
}

function onPlot(host, event, action) {
  host.on(event, action);
  onRemoved(() => host.removeListener?.(event, action));
}

// What the pointer does over a point, for the keyboard; Plotly.Fx shows the label but tells no listener.
function hoverOver(host, { id, x, y, unit, opens }) {
  Plotly.Fx.hover(host, { xval: x, yval: y });
  const meta = { units: unit, opens: opens !== null };
  host.emit("plotly_hover", { points: [{ customdata: id, text: opens, data: { meta } }] });
}

function stopHovering(host) {
  Plotly.Fx.unhover(host);
  host.emit("plotly_unhover", {});
}

// The only function that reads fields Plotly keeps to itself: nothing public says where the axes lie while they move.
// Each axis has its `start` and `length` in pixels of the plot's div; `at` and `valueAt` go from values (on a log axis,
// their log10) to pixels and back.
function axesOf(host) {
  const { xaxis, yaxis } = host._fullLayout ?? {};
  if (!xaxis || !yaxis) return null;
  const axis = ({ _offset: start, _length: length, range: [first, last] }, upwards) => ({
    start,
    length,
    at(value) {
      const share = (value - first) / (last - first);
      return start + length * (upwards ? 1 - share : share);
    },
    inSight: (pixel) => pixel >= start - 1 && pixel <= start + length + 1,
    valueAt(pixel) {
      const share = Math.min(1, Math.max(0, (pixel - start) / length));
      return first + (last - first) * (upwards ? 1 - share : share);
    },
  });
  return { x: axis(xaxis, false), y: axis(yaxis, true) };
}

// The traces that are shown, not hidden by a click on the legend, with their place in the plot's data.
function shownTraces(host) {
  return allTraces(host).filter(({ visible = true }) => visible === true);
}

const allTraces = (host) => (host.data ?? []).map((trace, index) => ({ ...trace, index }));

// Plotly would decode typed arrays (base64) at each redrawing and keep the result to itself.
function decodeArrays(traces) {
  const kinds = { i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array, i4: Int32Array, u4: Uint32Array };
  Object.assign(kinds, { f4: Float32Array, f8: Float64Array });
  for (const trace of traces) {
    for (const name of ["x", "y", "customdata"]) {
      const sent = trace[name];
      if (sent?.bdata && !sent.shape) trace[name] = new kinds[sent.dtype](unpackBytes(sent.bdata));
    }
  }
}

// What a click on a point opens, null if nothing: dots that can be selected, too, carry it as their text.
function openedBy({ customdata, text, data }) {
  if (data.meta?.opens) return text;
  return data.meta?.units ? null : idOf(customdata);
}

// The id that a point carries, alone or first in a list; null if it has none.
function idOf(customdata) {
  const id = Array.isArray(customdata) ? customdata[0] : customdata;
  return id === undefined || id === "" ? null : id;
}
