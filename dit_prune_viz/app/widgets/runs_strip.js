// A card per run: its first button goes back to it, its second makes it A, and so does dropping it on A's picture. The
// server renders the cards; a button that had the focus gets it back when they are drawn anew.
const RUN = "application/x-dit-prune-viz-run";
const host = element.querySelector(".runs-host");
let focused = null;

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-does]");
  if (!button) return;
  const { does, run } = button.dataset;
  focused = run ? `button[data-does="${does}"][data-run="${run}"]` : null;
  trigger(does === "make-a" ? "select" : "submit", { id: Number(run) });
});

element.addEventListener("dragstart", (event) => {
  const card = event.target.closest("[data-run]");
  if (card) event.dataTransfer.setData(RUN, card.dataset.run);
});
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(
    kind,
    (event) => {
      if (!event.target.closest?.("#picture-a") || !event.dataTransfer.types.includes(RUN)) return;
      event.preventDefault();
      event.stopPropagation();
      if (kind === "drop") trigger("select", { id: Number(event.dataTransfer.getData(RUN)), make: true });
    },
    { capture: true, signal: removed }
  );
}

function fill() {
  host.innerHTML = props.value; // the server escapes what people wrote
  if (!focused) return;
  const selector = focused;
  focused = null;
  if (document.activeElement === document.body) host.querySelector(selector)?.focus();
}

fill();
watch("value", fill);
