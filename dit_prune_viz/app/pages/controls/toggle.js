// Runs once inside gr.HTML, which supplies `element`. The style sheet shows the column while it has the class "open".
const button = element.querySelector("button");
button.addEventListener("click", () => {
  const open = button.ariaExpanded !== "true";
  button.ariaExpanded = String(open);
  document.getElementById(button.getAttribute("aria-controls"))?.classList.toggle("open", open);
});
