// Runs once per page: names and roles that gradio's own parts lack.
() => {
  const mend = () => {
    // An empty picture has a name, but no role that may carry one.
    for (const empty of document.querySelectorAll("div.empty[aria-label]:not([role])")) {
      empty.setAttribute("role", "img");
    }
    // A picture is a button without a name.
    for (const button of document.querySelectorAll(".image-container > button:not([aria-label])")) {
      const label = button.closest(".block")?.querySelector("[data-testid=block-label]")?.textContent.trim();
      button.setAttribute("aria-label", label || "Picture");
    }
    // The head of a message is a button with the button that closes it inside.
    for (const head of document.querySelectorAll(".toast-header[role=button]")) {
      head.removeAttribute("role");
      head.removeAttribute("tabindex");
    }
  };
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
  mend();
}
