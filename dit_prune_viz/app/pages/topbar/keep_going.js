// Runs once inside gr.HTML, which supplies `element` and `trigger`: the bar's text is replaced again and again, its
// button asks that the work goes on when nobody looks.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-keeps-going]");
  if (button) trigger("select", { keeps: button.getAttribute("aria-pressed") !== "true" });
});
