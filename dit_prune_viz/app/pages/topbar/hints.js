// Runs once inside gr.HTML, which supplies `element` and `props`, after shared.js.
const strip = element.querySelector(".hints");
const text = element.querySelector(".hints-text");
const place = element.querySelector(".hints-step");
const button = (name) => element.querySelector(`[data-do=${name}]`);
const SEEN = "dit-prune-viz hints seen";
const ABOUT = ["#layer-plane", "#controls, #controls-toggle", "#topbar", '#tabs [role="tablist"]']; // as in the style sheet
const SEEN_PIXELS = 120; // of what a hint is about, at least
let step = 0;

// A browser may forbid a page to remember anything; then the hints are there on every visit.
function remembered(value) {
  try {
    if (value) localStorage.setItem(SEEN, value);
    return localStorage.getItem(SEEN);
  } catch {
    return null;
  }
}

function show(to) {
  strip.hidden = to === null;
  strip.closest("#hints")?.toggleAttribute("data-shown", to !== null); // the gap around it goes, too
  if (to === null) {
    delete document.documentElement.dataset.hint;
    return remembered("yes");
  }
  document.documentElement.dataset.hint = to + 1; // the style sheet outlines what it is about
  step = to;
  text.textContent = props.steps[step];
  place.textContent = `${step + 1} of ${props.steps.length}`;
  button("back").disabled = step === 0;
  button("next").textContent = step === props.steps.length - 1 ? "Done" : "Next";
  bringIntoView();
}

// What a hint is about is on the screen, unless it lies on a page that is not open.
function bringIntoView() {
  const about = [...document.querySelectorAll(ABOUT[step])].find((one) => one.offsetParent);
  if (!about) return;
  const { top, bottom, height } = about.getBoundingClientRect();
  const seen = Math.min(bottom, innerHeight) - Math.max(top, 0);
  if (seen < Math.min(SEEN_PIXELS, height)) about.scrollIntoView({ block: "nearest" });
}

button("next").addEventListener("click", () => show(step + 1 < props.steps.length ? step + 1 : null));
button("back").addEventListener("click", () => show(step - 1));
button("close").addEventListener("click", () => show(null));
strip.addEventListener("keydown", (event) => event.key === "Escape" && show(null));
const showAgain = () => {
  show(0);
  button("next").focus();
};
document.addEventListener("show-hints", showAgain, { signal: removed });
onRemoved(() => delete document.documentElement.dataset.hint);
if (!remembered()) show(0);
