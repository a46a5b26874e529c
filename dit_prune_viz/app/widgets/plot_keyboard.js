// Arrow keys walk through the dots or cells of a plot, Enter opens or selects the one that is announced, Escape
// selects nothing.

const cellsWithId = (trace) => trace.customdata.flat().filter((data) => idOf(data) !== null).length;

// Through how many dots and cells the keys can walk, without listing them.
function countTargets(host) {
  return shownTraces(host)
    .filter((trace) => trace.customdata)
    .reduce((sum, trace) => sum + (trace.type === "heatmap" ? cellsWithId(trace) : trace.x.length), 0);
}

function targetsIn(trace) {
  const targets = [];
  if (trace.type !== "heatmap") {
    const { x, y, name, text, customdata, meta } = trace;
    for (let i = 0; i < x.length; i++) {
      const id = idOf(customdata[i]);
      const opens = meta?.opens ? text[i] : null;
      const label = opens === null ? `${name ?? ""}: ${id}` : `${opens}, ${name}`;
      targets.push({ id, label, x: x[i], y: y[i], unit: Boolean(meta?.units), opens });
    }
    return targets;
  }
  trace.y.forEach((_, row) =>
    trace.x.forEach((block, column) => {
      const data = trace.customdata[row]?.[column];
      const id = idOf(data);
      if (id !== null) targets.push({ id, label: `${id}, ${data[2]}`, x: block, y: row, unit: false, opens: null });
    })
  );
  return targets;
}

// selectUnits(ids, mode) and openTarget(id, mode) do what a click on the dot or cell would do.
function walkWithKeys(host, { selectUnits, openTarget }) {
  const spoken = element.querySelector(".plot-spoken");
  let targets = null; // listed when the keys first ask
  let cursor = -1;

  function move(step) {
    targets ??= shownTraces(host).filter((trace) => trace.customdata).flatMap(targetsIn);
    if (!targets.length) return false;
    cursor = (cursor + step + targets.length) % targets.length;
    hoverOver(host, targets[cursor]);
    spoken.textContent = targets[cursor].label;
    return true;
  }

  host.addEventListener("keydown", (event) => {
    if (event.target !== host || !host.data) return; // a button of the toolbar; nothing is drawn yet
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const target = targets?.[cursor];
    if (step) {
      if (move(step)) event.preventDefault();
    } else if ((event.key === "Enter" || event.key === " ") && target) {
      const mode = modeOf(event);
      if (target.unit && (target.opens === null || mode !== "set")) selectUnits([target.id], mode);
      else openTarget(target.opens ?? target.id, mode);
      event.preventDefault();
    } else if (event.key === "Escape" && unitTraces(host).length && !document.fullscreenElement) {
      selectUnits([], "set");
    }
  });
  host.addEventListener("blur", () => host.data && stopHovering(host));

  return { redrawn: () => void (targets = null) };
}
