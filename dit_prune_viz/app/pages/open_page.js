// Runs once per page: the root says which page is open, for the style sheet.
() => {
  const find = () => {
    const row = document.querySelector("#tabs > .tab-wrapper");
    if (!row) return void requestAnimationFrame(find);
    const tell = () => {
      const open = row.querySelector('[role="tab"][aria-selected="true"]');
      document.documentElement.dataset.page = open?.dataset.tabId ?? "";
    };
    new MutationObserver(tell).observe(row, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
    tell();
  };
  find();
}
