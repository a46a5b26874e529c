// B as it is, swiped or as difference. Runs once inside gr.HTML, after shared.js.
const row = document.getElementById("pictures");
const swipeTools = element.querySelector(".look-swipe");
const gainTools = element.querySelector(".look-gain");
const under = swipeTools.querySelector("select");
const line = swipeTools.querySelector("input");
const buttons = [...element.querySelectorAll("[data-view]")];
let view = "picture";
let cover = null; // the picture that lies over B, up to the line

const isCover = (node) => node.classList?.contains("swipe-cover");
const isOwn = ({ target, addedNodes, removedNodes }) =>
  target.closest?.(".swipe-cover") || [...addedNodes, ...removedNodes].some(isCover);
const imageOf = (id) => document.querySelector(`#${id} img`);

function place() {
  cover?.remove();
  cover = null;
  const [mine, other] = [imageOf("picture-pruned"), imageOf(under.value)];
  if (view !== "swipe" || !mine || !other) return;
  const host = mine.parentElement;
  if (getComputedStyle(host).position === "static") host.style.position = "relative";
  cover = make("div", host, { className: "swipe-cover" });
  const image = make("img", cover, { src: other.src, alt: "", draggable: false });
  Object.assign(cover.style, {
    left: `${mine.offsetLeft}px`,
    top: `${mine.offsetTop}px`,
    width: `${mine.offsetWidth}px`,
    height: `${mine.offsetHeight}px`,
  });
  image.style.padding = getComputedStyle(mine).padding;
  make("div", cover, { className: "swipe-line" });
  for (const kind of ["pointerdown", "pointermove"]) {
    cover.addEventListener(kind, (event) => {
      if (kind === "pointermove" && !event.buttons) return;
      if (kind === "pointerdown") cover.setPointerCapture(event.pointerId);
      const box = cover.getBoundingClientRect();
      line.value = Math.round((100 * (event.clientX - box.left)) / box.width);
      move();
    });
  }
  move();
}

function move() {
  cover?.style.setProperty("--at", `${line.value}%`);
}

function show(next) {
  view = next;
  row.dataset.view = view;
  for (const button of buttons) button.ariaPressed = String(button.dataset.view === view);
  swipeTools.hidden = view !== "swipe";
  gainTools.hidden = view !== "difference";
  place();
}

for (const button of buttons) button.addEventListener("click", () => show(button.dataset.view));
line.addEventListener("input", move);
under.addEventListener("change", place);
gainTools.querySelector("select").addEventListener("change", ({ target }) => trigger("select", { gain: Number(target.value) }));
const later = timer(place);
// Pictures are replaced as they are drawn, and change their size with the window.
observe(
  new MutationObserver((changes) => {
    if (view === "swipe" && !changes.every(isOwn)) later.start(50);
  }),
  row,
  { subtree: true, childList: true, attributes: true, attributeFilter: ["src"] }
);
observe(new ResizeObserver(() => view === "swipe" && later.start(50)), row);
show("picture");
