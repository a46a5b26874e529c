// Which of a plot's units are selected. The server has the last word; what Plotly shows after a drag stands until it
// answers, because drawing 100,000 dots once more would only delay the answer.

// Dots that stand for a layer's units: they alone carry whole numbers, and they alone show the selection.
const unitTraces = (host) => shownTraces(host).filter((trace) => trace.meta?.units);

// Even-odd rule: whether a point lies in the polygon with these corners.
function inPolygon(xs, ys, x, y) {
  let odd = false;
  for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
    if (ys[i] > y !== ys[j] > y && x < ((xs[j] - xs[i]) * (y - ys[i])) / (ys[j] - ys[i]) + xs[i]) odd = !odd;
  }
  return odd;
}

// The units inside what was drawn last, whatever was drawn before: the server knows what to add it to.
function unitsInside(host, { lassoPoints: lasso, range }) {
  const { x: xs, y: ys } = lasso ?? range;
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const found = [];
  for (const { x, y, customdata } of unitTraces(host)) {
    for (let i = 0; i < x.length; i++) {
      if (x[i] < left || x[i] > right || y[i] < low || y[i] > high) continue;
      if (!lasso || inPolygon(xs, ys, x[i], y[i])) found.push(customdata[i]);
    }
  }
  return found;
}

function changedBy(steps, packed) {
  let chosen = new Set(unpack(packed));
  for (const [ids, mode] of steps) {
    if (mode === "set") chosen = new Set();
    for (const id of ids) mode === "subtract" ? chosen.delete(id) : chosen.add(id);
  }
  return chosen.size ? pack([...chosen].sort((a, b) => a - b)) : "";
}

function indicesOf(trace, chosen) {
  const found = [];
  for (let i = 0; i < trace.customdata.length; i++) if (chosen.has(trace.customdata[i])) found.push(i);
  return found;
}

function unitSelection(host, subject) {
  let displayed = ""; // the selected units that are shown, packed
  let unconfirmed = []; // what was selected here since
  let mode = "set"; // what the click or drag that is going on does to the selection
  let pointerDown = false; // a plot that is drawn again would drop what is being dragged
  const catchUp = timer(() => {
    if (pointerDown) return;
    if (unconfirmed.length) show(changedBy(unconfirmed, displayed));
    else if (sent() !== displayed) show(sent());
  });

  // What the server says is selected, if it speaks of the units that are drawn.
  function sent() {
    const selection = props.selection ? JSON.parse(props.selection) : null;
    return selection?.subject === subject() ? selection.ids : "";
  }

  function show(packed) {
    const traces = unitTraces(host);
    if (!traces.length) return;
    displayed = packed;
    unconfirmed = [];
    catchUp.stop();
    const chosen = packed ? new Set(unpack(packed)) : null;
    const selectedpoints = traces.map((trace) => (chosen ? indicesOf(trace, chosen) : null));
    // Only what is selected has an outline, if dots are large enough for one.
    const outline = traces.map((trace, place) => {
      if (!selectedpoints[place]?.length || trace.marker.size < 4) return 0;
      const widths = new Array(trace.x.length).fill(0);
      for (const i of selectedpoints[place]) widths[i] = 1;
      return widths;
    });
    const look = { selectedpoints, "marker.line.width": outline, "marker.line.color": pageColours().text };
    Plotly.update(host, look, { selections: [] }, traces.map((trace) => trace.index));
  }

  function hold(event) {
    mode = modeOf(event);
    pointerDown = true;
  }

  function release() {
    if (!pointerDown) return;
    pointerDown = false;
    catchUp.start(unconfirmed.length ? 1000 : 0); // a drag ends in a moment, and is confirmed
  }

  host.addEventListener("pointerdown", hold, true);
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, release, { capture: true, signal: removed });
  }

  return {
    get mode() {
      return mode;
    },
    // The selection is shown if the server has said nothing for so many milliseconds.
    change(ids, how, wait = 0) {
      trigger("select", { packed: pack(ids), mode: how, subject: subject() });
      unconfirmed.push([ids, how]);
      catchUp.start(wait);
    },
    confirmed() {
      if (!pointerDown && (unconfirmed.length || sent() !== displayed)) show(sent());
    },
    redrawn() {
      displayed = "";
      unconfirmed = [];
      if (sent()) show(sent());
    },
  };
}
