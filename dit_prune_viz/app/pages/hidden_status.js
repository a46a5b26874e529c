// Runs once at the beginning of the page's head, before any part of gradio. Whenever a listener begins, goes on or
// ends, gradio tells every input of every listener that ever ran how far it is, and looks each of them up in the whole
// page: some 7,000 walks through 436 components after one press of a key, most of what the browser does then. It does
// so even where progress is hidden, and no setting spares it the inputs, as one does the outputs (see actions.py). What
// is hidden is therefore missing from the list that gradio goes through.
(() => {
  const entries = Object.entries;
  const isHidden = ([, status]) => status?.show_progress === "hidden" && status.fn_index !== undefined;
  Object.entries = (object) => {
    const found = entries(object);
    return found.some(isHidden) ? found.filter((one) => !isHidden(one)) : found;
  };
})();
