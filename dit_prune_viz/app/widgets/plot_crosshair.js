// The unit under the pointer in one plot is shown by lines in another whose figure says where its channels lie:
// layout.meta.crosshair = { unit, columns, halves }, halves of a bin in y and x, which is drawn around its first channel.
const POINTED = "unit-pointed";

function pointAtUnit(id) {
  document.dispatchEvent(new CustomEvent(POINTED, { detail: id }));
}

function crosshair(host) {
  const lines = { y: null, x: null };

  function place(axis, channel) {
    const at = channel === null ? null : axesOf(host)?.[axis].at(channel + 0.5 - host.layout.meta.crosshair.halves[axis]);
    if (at === null || at === undefined) {
      if (lines[axis]) lines[axis].hidden = true;
      return;
    }
    lines[axis] ??= make("div", host, { className: "plot-cross" });
    const { x, y } = axesOf(host);
    const box =
      axis === "y"
        ? { left: x.start, top: at, width: x.length, height: 1 }
        : { left: at, top: y.start, width: 1, height: y.length };
    for (const [side, pixels] of Object.entries(box)) lines[axis].style[side] = `${pixels}px`;
    lines[axis].hidden = false;
  }

  function show({ detail: id }) {
    const about = host.layout?.meta?.crosshair;
    if (!about) return;
    const none = id === null || id === undefined;
    const single = about.unit === "weight";
    const row = none || about.unit === "column" ? null : single ? Math.floor(id / about.columns) : id;
    const column = none || about.unit === "row" ? null : single ? id % about.columns : id;
    place("y", row);
    place("x", column);
  }

  document.addEventListener(POINTED, show, { signal: removed });
}
