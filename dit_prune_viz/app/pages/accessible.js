// Runs once per page: names and roles that gradio's own parts lack. Only what is added to the page is looked at.
() => {
  const MENDS = {
    // An empty picture has a name, but no role that may carry one.
    "div.empty[aria-label]:not([role])": (empty) => empty.setAttribute("role", "img"),
    // A picture is a button without a name.
    ".image-container > button:not([aria-label])": (button) => {
      const label = button.closest(".block")?.querySelector("[data-testid=block-label]")?.textContent.trim();
      button.setAttribute("aria-label", label || "Picture");
    },
    // The head of a message is a button with the button that closes it inside.
    ".toast-header[role=button]": (head) => {
      head.removeAttribute("role");
      head.removeAttribute("tabindex");
    },
  };
  const any = Object.keys(MENDS).join(", ");

  function mend(part) {
    for (const [selector, change] of Object.entries(MENDS)) if (part.matches(selector)) change(part);
  }

  function mendIn(added) {
    if (!(added instanceof HTMLElement)) return; // text, or the inside of a plot
    mend(added);
    if (added.firstElementChild) added.querySelectorAll(any).forEach(mend);
  }

  const watch = new MutationObserver((changes) => {
    for (const { addedNodes } of changes) addedNodes.forEach(mendIn);
  });
  watch.observe(document.body, { childList: true, subtree: true });
  mendIn(document.body);
}
