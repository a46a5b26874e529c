// Runs once per page: gradio's lists lose the keyboard. Tab opens them again behind itself, and a choice leaves the
// focus nowhere.
() => {
  const isList = (element) => element?.matches?.('input[role="listbox"], input[role="combobox"]');
  const PASSING = new Set(["Tab", "Shift", "Control", "Alt", "Meta"]); // keys that mean nothing to a list
  let chosen = null; // the list in which something has just been chosen

  document.addEventListener(
    "keydown",
    (event) => {
      chosen = null;
      if (!isList(event.target)) return;
      if (PASSING.has(event.key)) event.stopPropagation();
      if (event.key === "Enter") chosen = event.target;
    },
    true
  );
  document.addEventListener(
    "mousedown",
    ({ target }) => {
      chosen = target.closest?.('ul[role="listbox"]') ? document.activeElement : null;
      // A list opens when it gets the focus: one that has it already, and is closed, gets it once more.
      const closed = isList(target) && target.getAttribute("aria-expanded") !== "true";
      if (closed && target === document.activeElement) target.blur();
    },
    true
  );
  document.addEventListener("focusout", ({ target, relatedTarget }) => {
    if (target !== chosen || relatedTarget) return;
    chosen = null;
    setTimeout(() => isList(target) && document.activeElement === document.body && focusClosed(target));
  });

  // The focus opens a list, at what is chosen; Escape closes it before anybody has seen it.
  function focusClosed(list) {
    list.focus({ preventScroll: true });
    list.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  }
}
