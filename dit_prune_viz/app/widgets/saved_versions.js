// Versions that this browser has saved. Runs once inside gr.HTML, after shared.js.
const list = element.querySelector("select");
const said = element.querySelector(".saved-words");
const copy = element.querySelector("[data-does=copy]");
const KEPT = "dit-prune-viz versions";
const MOST = 50;

// A browser may forbid a page to remember anything; then the links alone bring versions back.
function remembered(value) {
  try {
    if (value) localStorage.setItem(KEPT, JSON.stringify(value));
    return JSON.parse(localStorage.getItem(KEPT) ?? "[]");
  } catch {
    return value ?? [];
  }
}

function fill(versions) {
  list.replaceChildren();
  list.hidden = !versions.length;
  make("option", list, { textContent: "Saved ▾", value: "" });
  for (const { id, name } of versions) make("option", list, { textContent: name, value: id });
}

function show() {
  const { id, name, link } = props.value ? JSON.parse(props.value) : {};
  if (!id) return;
  fill(remembered([{ id, name }, ...remembered().filter((one) => one.id !== id)].slice(0, MOST)));
  said.replaceChildren();
  make("a", said, { textContent: `link to “${name}”`, href: link, target: "_blank", rel: "noopener" });
  copy.hidden = !navigator.clipboard; // there is none without a secure connection
}

list.addEventListener("change", () => {
  if (list.value) trigger("select", { id: list.value });
  list.value = "";
});
const copied = timer(() => (copy.textContent = "Copy link"));
copy.addEventListener("click", async () => {
  await navigator.clipboard.writeText(said.querySelector("a").href);
  copy.textContent = "Copied";
  copied.start(1500);
});
fill(remembered());
show();
watch("value", show);
