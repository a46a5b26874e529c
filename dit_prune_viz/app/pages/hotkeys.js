// Ctrl-Z and Ctrl-Shift-Z (or Ctrl-Y, or with the Mac's ⌘) press Undo and Redo, except where text is being typed.
// Runs once per page; the listener is the page's own.
() => {
  const isText = ({ isContentEditable, tagName, type }) =>
    isContentEditable || tagName === "TEXTAREA" || (tagName === "INPUT" && !["range", "checkbox"].includes(type));

  document.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || event.altKey || !["z", "y"].includes(key) || isText(event.target)) return;
    event.preventDefault();
    document.getElementById(key === "y" || event.shiftKey ? "redo" : "undo")?.click();
  });
}
