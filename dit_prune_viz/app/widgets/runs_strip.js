// A card per run: its first button goes back to it, its second pins it as the left side. The server renders the cards;
// a button that had the focus gets it back when they are drawn anew.
let focused = null;

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-does]");
  if (!button) return;
  const { does, run } = button.dataset;
  focused = run ? `button[data-does="${does}"][data-run="${run}"]` : null;
  trigger(does === "pin" ? "select" : "submit", { id: Number(run) });
});

watch("value", () => {
  if (!focused) return;
  const selector = focused;
  focused = null;
  setTimeout(() => {
    if (document.activeElement === document.body) element.querySelector(selector)?.focus();
  });
});
