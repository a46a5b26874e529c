// Which cells of a board are chosen, by pointer and by keyboard. Runs inside gr.HTML, after shared.js.
//
// grid:               the element with the cells; each has `dataset.row` and `dataset.column`, headers are in row or
//                     column 0
// membersOf(cell):    the keys that a cell or a header stands for
// changed(keys):      other keys are chosen
// open(cell):         a cell was double-clicked, or Enter was pressed on it
// point(cell):        the one under the pointer or the keyboard, null for none
function boardSelection({ grid, membersOf, changed, open, point }) {
  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  let chosen = new Set();
  let drag = null; // {from, base, mode}: where the pointer came down, and what was chosen before
  let current = null; // [row, column] of the cell that has the tab stop

  const placeOf = (cell) => [Number(cell.dataset.row), Number(cell.dataset.column)];
  const cells = () => [...grid.querySelectorAll("[data-row]")];
  const at = (row, column) => grid.querySelector(`[data-row="${row}"][data-column="${column}"]`);
  const cellOf = (event) => event.target.closest("[data-row]");

  function paint() {
    for (const cell of cells()) {
      const keys = membersOf(cell);
      const some = keys.length > 0 && keys.every((key) => chosen.has(key));
      cell.classList.toggle("chosen", some);
      cell.setAttribute("aria-selected", String(some));
    }
  }

  function set(keys, mode, base) {
    const next = new Set(mode === "set" ? [] : base);
    for (const key of keys) mode === "subtract" ? next.delete(key) : next.add(key);
    chosen = next;
    paint();
    changed([...chosen]);
  }

  // What lies in the rectangle between two cells, by where they are on the screen: columns may differ in width.
  function between(first, last) {
    const [one, other] = [placeOf(first), placeOf(last)];
    const inside = (value, a, b) => value >= Math.min(a, b) && value <= Math.max(a, b);
    const found = cells().filter((cell) => {
      const [row, column] = placeOf(cell);
      return inside(row, one[0], other[0]) && inside(column, one[1], other[1]);
    });
    return found.flatMap(membersOf);
  }

  function stopAt(cell) {
    if (!cell) return;
    for (const other of cells()) other.tabIndex = -1;
    cell.tabIndex = 0;
    current = placeOf(cell);
  }

  grid.addEventListener("pointerdown", (event) => {
    const cell = cellOf(event);
    if (!cell || event.button) return;
    event.preventDefault();
    stopAt(cell);
    cell.focus({ preventScroll: true });
    const mode = modeOf(event);
    // A cell that alone is chosen is let go of by another click.
    const again = mode === "set" && chosen.size && membersOf(cell).length === chosen.size;
    const off = again && membersOf(cell).every((key) => chosen.has(key));
    drag = { from: cell, base: new Set(chosen), mode, moved: false, off };
    if (!off) set(membersOf(cell), mode, drag.base);
  });
  grid.addEventListener("pointermove", (event) => {
    const over = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-row]");
    if (!over || !grid.contains(over)) return;
    point(over);
    if (!drag || (over === drag.from && !drag.moved)) return;
    drag.moved = true;
    set(between(drag.from, over), drag.mode, drag.base);
  });
  const end = () => {
    if (drag && drag.off && !drag.moved) set([], "set", []);
    drag = null;
  };
  for (const kind of ["pointerup", "pointercancel"]) document.addEventListener(kind, end, { signal: removed });
  grid.addEventListener("pointerleave", () => drag || point(null));
  grid.addEventListener("dblclick", (event) => {
    const cell = cellOf(event);
    if (cell) open(cell);
  });
  grid.addEventListener("focusin", (event) => {
    const cell = cellOf(event);
    if (cell) point(cell);
  });
  grid.addEventListener("focusout", () => point(null));

  grid.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    if (!cell || event.altKey || ((event.ctrlKey || event.metaKey) && event.key !== "a")) return;
    const [row, column] = placeOf(cell);
    const move = MOVES[event.key];
    if (move) {
      let [down, right] = [row + move[0], column + move[1]];
      let next = at(down, right);
      while (!next && down > 0 && right > 0 && grid.querySelector(`[data-row="${down}"]`) && right < 1000) {
        [down, right] = [down + move[0], right + move[1]]; // over an empty place
        next = at(down, right);
      }
      if (next) {
        stopAt(next);
        next.focus();
        if (event.shiftKey) set(membersOf(next), "add", chosen);
      }
    } else if (event.key === " ") {
      const has = membersOf(cell).every((key) => chosen.has(key));
      set(membersOf(cell), has ? "subtract" : "add", chosen);
    } else if (event.key === "Enter") {
      open(cell);
    } else if (event.key === "a") {
      set(cells().flatMap(membersOf), "set", []);
    } else if (event.key === "Escape") {
      set([], "set", []);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });

  return {
    get keys() {
      return [...chosen];
    },
    clear: () => set([], "set", []),
    choose: (keys) => set(keys, "set", []),
    // The cells were made anew: those of the keys that are still there stay chosen.
    rebuilt(keys) {
      const known = new Set(keys);
      chosen = new Set([...chosen].filter((key) => known.has(key)));
      const stop = (current && at(...current)) ?? at(1, 1) ?? cells()[0];
      stopAt(stop);
      paint();
      changed([...chosen]);
    },
    repaint: paint,
  };
}
