// Runs once per page: its parts say which page is open, for the style sheet. They lie inside what gradio calls .contain,
// as all that it lets a style sheet speak of inside @media.
() => {
  const PARTS = "#hints, #topbar, #body";
  const find = () => {
    const row = document.querySelector("#tabs > .tab-wrapper");
    if (!row) return void requestAnimationFrame(find);
    const tell = () => {
      const open = row.querySelector('[role="tab"][aria-selected="true"]')?.dataset.tabId ?? "";
      for (const part of document.querySelectorAll(PARTS)) part.dataset.page = open;
    };
    new MutationObserver(tell).observe(row, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
    tell();
  };
  find();
}
