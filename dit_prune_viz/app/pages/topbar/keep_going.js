// Runs once inside gr.HTML, which supplies `element` and `trigger`: the bar's text is replaced again and again, its
// button asks that the work goes on when nobody looks. What is pressed may be replaced before it is let go, which makes
// no click: a pointer counts when it goes down, and a click only where it comes from the keyboard.
function press({ target }) {
  const button = target.closest("[data-keeps-going]");
  if (button) trigger("select", { keeps: button.getAttribute("aria-pressed") !== "true" });
}
element.addEventListener("pointerdown", (event) => {
  if (event.button === 0) press(event);
});
element.addEventListener("click", (event) => {
  if (event.detail === 0) press(event);
});
