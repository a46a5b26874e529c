// Vertical sliders side by side, which take one tab stop together. Runs inside gr.HTML, after sparsity_edits.js.
//
// host:                   the element that they are put into
// change(bars, share):    a person gives them this sparsity, in per cent; what they say is changed already
// begin():                a gesture begins
// point(bar):             the one under the pointer or the keyboard, null for none
// base():                 per cent to go back to
function barRow({ host, change, begin, point, base }) {
  const STEPS = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
  let bars = [];
  let current = 0; // the one that has the tab stop
  let anchor = 0; // the other end of the range that is moved together
  let drag = null; // {from, last}: where the pointer came down, and the value that was set last

  const inRange = () => bars.slice(Math.min(anchor, current), Math.max(anchor, current) + 1);
  const clamp = (share) => Math.min(100, Math.max(0, Math.round(share)));
  const usable = (some) => some.filter((bar) => !bar.fixed);

  function set(some, share) {
    const chosen = usable(some);
    for (const bar of chosen) {
      Object.assign(bar, { mean: share, low: share, high: share });
      draw(bar);
    }
    if (chosen.length) change(chosen, share);
    point(bars[current]);
  }

  function draw(bar) {
    const { element, mean, low, high, by_hand, fixed } = bar;
    element.style.setProperty("--mean", `${mean}%`);
    element.style.setProperty("--low", `${low}%`);
    element.style.setProperty("--high", `${high}%`);
    element.classList.toggle("mixed", high - low > 0.05);
    element.classList.toggle("by-hand", by_hand);
    element.ariaValueNow = shareText(mean);
    element.ariaValueText = valueText(bar);
    element.ariaDisabled = fixed ? "true" : null;
    element.lastElementChild.textContent = bar.labelled ? (element.dataset.label ?? "") : "";
    element.querySelector(".strip-value")?.replaceChildren(`${shareText(mean)} %`);
  }

  function move(index, extend) {
    current = Math.min(bars.length - 1, Math.max(0, index));
    if (!extend) anchor = current;
    const range = new Set(inRange());
    bars.forEach((bar, i) => {
      bar.element.tabIndex = i === current ? 0 : -1;
      bar.element.classList.toggle("in-range", range.size > 1 && range.has(bar));
    });
  }

  // The height on a bar's track, in per cent.
  function shareAt(bar, y) {
    const box = bar.element.firstElementChild.getBoundingClientRect();
    return clamp((100 * (box.bottom - y)) / box.height);
  }

  function indexAt(x) {
    const middles = bars.map(({ element }) => {
      const box = element.getBoundingClientRect();
      return Math.abs((box.left + box.right) / 2 - x);
    });
    return middles.indexOf(Math.min(...middles));
  }

  // With Shift all bars that the pointer passes get the value, else the one on which it came down.
  function dragTo(event) {
    const index = event.shiftKey ? indexAt(event.clientX) : drag.from;
    if (event.shiftKey) move(index, true);
    const share = shareAt(bars[drag.from], event.clientY);
    const key = `${anchor} ${current} ${share}`;
    if (key === drag.last) return;
    drag.last = key;
    set(event.shiftKey ? inRange() : [bars[drag.from]], share);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // undo and redo
    const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const step = STEPS[event.key];
    const end = { Home: 0, End: 100, Delete: base(), Backspace: base() }[event.key];
    if (side === undefined && step === undefined && end === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (side !== undefined) {
      move(current + side, event.shiftKey);
      bars[current].element.focus();
    } else {
      set(inRange(), end ?? clamp(bars[current].mean + step));
    }
  }

  function add(bar, index) {
    const element = make("div", bar.parent, { className: "strip-bar", tabIndex: index ? -1 : 0 }, bar.spoken);
    Object.assign(element.dataset, { key: bar.key, label: bar.label });
    element.setAttribute("role", "slider");
    element.setAttribute("aria-orientation", "vertical");
    [element.ariaValueMin, element.ariaValueMax] = [0, 100];
    const track = make("div", element, { className: "strip-track" });
    for (const name of ["strip-fill", "strip-span", "strip-dot"]) make("div", track, { className: name });
    if (bar.wide) make("span", element, { className: "strip-value" });
    make("span", element, { className: "strip-label" });
    element.addEventListener("focus", () => {
      if (index !== current) move(index, false);
      begin();
      point(bar);
    });
    element.addEventListener("blur", () => point(null));
    element.addEventListener("pointerenter", () => drag || point(bar));
    element.addEventListener("pointerleave", () => drag || point(null));
    element.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      move(index, event.shiftKey);
      element.focus({ preventScroll: true });
      if (!usable([bar]).length) return;
      element.setPointerCapture(event.pointerId);
      drag = { from: index, last: null };
      begin();
      dragTo(event);
    });
    element.addEventListener("pointermove", (event) => drag && dragTo(event));
    for (const kind of ["pointerup", "pointercancel"]) element.addEventListener(kind, () => (drag = null));
    element.addEventListener("dblclick", () => {
      drag = null;
      set([bar], base());
    });
    // Without focus the wheel scrolls the page.
    element.addEventListener(
      "wheel",
      (event) => {
        if (document.activeElement !== element || !event.deltaY) return;
        event.preventDefault();
        set(inRange(), clamp(bar.mean - Math.sign(event.deltaY)));
      },
      { passive: false }
    );
    element.addEventListener("keydown", onKey);
    return element;
  }

  return {
    build(made) {
      host.querySelectorAll(".strip-bar").forEach((element) => element.remove());
      bars = made;
      bars.forEach((bar, index) => (bar.element = add(bar, index)));
      bars.forEach(draw);
      move(0, false);
    },
    // Values of the server; a bar that a person moves keeps its own.
    update(values, isNewer) {
      values.forEach((value, index) => {
        const bar = bars[index];
        if (isNewer(value.key) || (drag && inRange().includes(bar))) return;
        Object.assign(bar, value);
        draw(bar);
      });
    },
  };
}

function valueText({ mean, low, high, fixed, by_hand }) {
  const span = high - low > 0.05 ? `, its layers ${shareText(low)} to ${shareText(high)} %` : "";
  return `${shareText(mean)} %${span}${by_hand ? ", set by hand" : ""}${fixed ? ", fixed by the recipe" : ""}`;
}
