// Runs once inside gr.HTML, after shared.js. Gradio says nothing of a tab that a listener opens, so this watches the row
// of tabs itself. What lies on the page says which one is open, for the style sheet: it may speak of nothing else inside
// @media.
const PARTS = "#hints, #topbar, #body";
let told = null;

function tell(row) {
  const open = row.querySelector('[role="tab"][aria-selected="true"]')?.dataset.tabId ?? "";
  if (open === told) return;
  const known = told !== null; // the server knows how a page begins
  told = open;
  for (const part of document.querySelectorAll(PARTS)) part.dataset.page = open;
  if (known) trigger("select", { page: open });
}

function find() {
  if (removed.aborted) return;
  const row = document.querySelector("#tabs > .tab-wrapper");
  if (!row) return void requestAnimationFrame(find);
  tell(row);
  const changes = { subtree: true, attributes: true, attributeFilter: ["aria-selected"] };
  observe(new MutationObserver(() => tell(row)), row, changes);
}

// The server has forgotten it.
document.addEventListener("session-gap", () => told && trigger("select", { page: told }), { signal: removed });
find();
