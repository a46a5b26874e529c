// Ctrl-Z and Ctrl-Shift-Z (or Ctrl-Y, or with the Mac's ⌘) press Undo and Redo, except where text is being typed. Escape
// leads back to the Compare page from a layer that was opened there, unless something else is to be left with it.
// Runs once per page; the listener is the page's own.
() => {
  const isText = ({ isContentEditable, tagName, type }) =>
    isContentEditable || tagName === "TEXTAREA" || (tagName === "INPUT" && !["range", "checkbox"].includes(type));

  document.addEventListener("keydown", (event) => {
    const back = document.getElementById("to-workbench");
    const elsewhere = event.target.closest?.(".plot, input, textarea, select, [role=listbox]");
    if (event.key === "Escape" && back?.offsetParent && !elsewhere && !document.fullscreenElement) back.click();
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || event.altKey || !["z", "y"].includes(key) || isText(event.target)) return;
    event.preventDefault();
    document.getElementById(key === "y" || event.shiftKey ? "redo" : "undo")?.click();
  });
}
