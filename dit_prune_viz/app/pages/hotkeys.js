// Ctrl-Z and Ctrl-Shift-Z (or Ctrl-Y, or with the Mac's ⌘) press Undo and Redo, except where text is being typed.
() => {
  document.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || event.altKey || !["z", "y"].includes(key)) return;
    const target = event.target;
    const text = target.isContentEditable || target.tagName === "TEXTAREA";
    if (text || (target.tagName === "INPUT" && target.type !== "range" && target.type !== "checkbox")) return;
    event.preventDefault();
    document.getElementById(key === "y" || event.shiftKey ? "redo" : "undo")?.click();
  });
}
