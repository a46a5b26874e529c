// The sliders of blocks and kinds and the text below them. Runs once inside gr.HTML, after block_strip_bars.js.
const inside = element.querySelector(".strip-body");
const note = element.querySelector(".strip-note");
const detail = element.querySelector(".strip-detail");
const blocksHost = element.querySelector(".strip-blocks");
const kindsHost = element.querySelector(".strip-kinds");
const form = element.querySelector("form");
const field = form.querySelector(".strip-field input");
const keepBox = form.querySelector(".strip-keep input");
const copy = form.querySelector("[data-does=copy]");
const choice = form.querySelector("select");
const EMPTY = { note: "", blocks: [], kinds: [], text: "", presets: [], base: 50 };
const [NARROWEST, WIDEST, ROOM_FOR_NAME] = [12, 40, 150]; // pixels of a block, and of a stack's name
const MOST_NUMBERED = 24; // blocks of which each has its number below

let builtFrom = "";
let offeredFrom = "";
let shown = EMPTY;
let dirty = false; // whether the text was typed in and not applied yet

const edits = sparsityEdits({
  keep: () => keepBox.checked,
  answered(changed, text) {
    if (changed && text !== null) dirty = false;
    fill();
  },
});

function point(bar) {
  detail.textContent = bar ? `${bar.spoken}: ${valueText(bar)}` : "";
}

const row = (host) =>
  barRow({
    host,
    point,
    begin: edits.begin,
    base: () => shown.base,
    change: (bars, share) => edits.set(bars.map(({ key }) => key), share),
  });
const blockRow = row(blocksHost);
const kindRow = row(kindsHost);

function build({ blocks, kinds }) {
  blocksHost.replaceChildren();
  const stacks = new Map();
  for (const { stack, key } of blocks) stacks.set(stack, [...(stacks.get(stack) ?? []), key]);
  const places = new Map();
  for (const [stack, keys] of stacks) {
    const group = make("div", blocksHost, { className: "strip-stack" });
    Object.assign(group.style, {
      flexGrow: keys.length,
      minWidth: `${NARROWEST * keys.length}px`,
      maxWidth: `${Math.max(WIDEST * keys.length, ROOM_FOR_NAME)}px`,
    });
    const name = make("span", group, { className: "strip-stack-name", textContent: stack });
    name.title = `${stack}: blocks ${keys[0]} to ${keys.at(-1)}`;
    places.set(stack, make("div", group, { className: "strip-bars" }));
  }
  const every = blocks.length > MOST_NUMBERED ? 5 : 1;
  blockRow.build(
    blocks.map((bar) => ({
      ...bar,
      parent: places.get(bar.stack),
      label: bar.key,
      labelled: Number(bar.key) % every === 0,
      spoken: stacks.size > 1 ? `${bar.name} of ${bar.stack}` : bar.name,
    }))
  );
  kindRow.build(
    kinds.map((bar) => ({ ...bar, parent: kindsHost, label: bar.name, labelled: true, wide: true, spoken: bar.name }))
  );
}

function offer({ presets }) {
  const source = JSON.stringify(presets);
  if (source === offeredFrom) return;
  offeredFrom = source;
  choice.replaceChildren();
  make("option", choice, { textContent: "Presets ▾", value: "" });
  for (const { name, text, about } of presets) make("option", choice, { textContent: name, value: text, title: about });
}

function fill() {
  const value = edits.read(EMPTY);
  if (!value) return;
  shown = value;
  note.textContent = shown.note;
  note.hidden = !shown.note;
  inside.hidden = !shown.kinds.length;
  const source = JSON.stringify([shown.blocks, shown.kinds].map((bars) => bars.map(({ key, stack }) => [key, stack])));
  if (source !== builtFrom) build(shown);
  builtFrom = source;
  blockRow.update(shown.blocks, edits.isNewer);
  kindRow.update(shown.kinds, edits.isNewer);
  offer(shown);
  if (!dirty) field.value = shown.text;
}

function apply(text) {
  if (text.trim()) edits.write(text);
}

async function copyText() {
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    field.select(); // without a secure connection there is no clipboard to write to
    document.execCommand("copy");
  }
  copy.textContent = "Copied";
  copied.start(1500);
}
const copied = timer(() => (copy.textContent = "Copy"));

field.addEventListener("input", () => (dirty = field.value !== shown.text));
field.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  dirty = false;
  field.value = shown.text;
});
field.addEventListener("change", () => {
  if (field.value.trim()) return;
  dirty = false; // emptied: back to what is so
  field.value = shown.text;
});
// Several lines become one: a line break parts entries, and the field would drop it.
field.addEventListener("paste", (event) => {
  const text = event.clipboardData?.getData("text") ?? "";
  if (!/[\r\n]/.test(text)) return;
  event.preventDefault();
  field.setRangeText(text.trim().replace(/\s*[\r\n]+\s*/g, ", "), field.selectionStart, field.selectionEnd, "end");
  dirty = true;
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  apply(field.value);
});
copy.addEventListener("click", copyText);
choice.addEventListener("change", () => {
  const text = choice.value;
  choice.value = "";
  if (!text) return;
  dirty = true;
  field.value = text;
  edits.write(text, false); // it keeps the overall sparsity by itself, and names every layer
});

fill();
watch("value", fill);
