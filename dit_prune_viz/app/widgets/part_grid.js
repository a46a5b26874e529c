// Runs once inside gr.HTML, after shared.js. Cards are made once per part and moved when the order changes.
const head = element.querySelector(".parts-head");
const words = element.querySelector(".parts-words");
const order = element.querySelector('select[data-of="order"]');
const loud = element.querySelector('select[data-of="gain"]');
const list = element.querySelector(".parts-cards");
const empty = element.querySelector(".parts-empty");

let number = null; // of the analysis whose cards are shown
let cards = []; // what the server said of them last
let fitting = 1; // the amplification at which little of all the differences is cut off
let made = new Map(); // id → its element; "dense" is the picture that all are compared with

function figure(parent, alt, caption) {
  const box = make("figure", parent);
  make("img", box, { alt });
  make("figcaption", box, { textContent: caption });
  return box;
}

function build(id, { name, detail = "", drawn = name }) {
  const card = document.createElement("li");
  card.className = "part";
  make("strong", card, { textContent: name });
  make("span", card, { className: "part-detail", textContent: detail, title: detail });
  const pictures = make("div", card, { className: "part-pictures" });
  figure(pictures, drawn, "picture").dataset.of = "picture";
  if (id !== "dense") figure(pictures, `What changed ${drawn}`, "difference").dataset.of = "difference";
  make("dl", card);
  make("p", card, { className: "part-hint", hidden: true });
  if (id !== "dense") {
    const open = make("button", card, { type: "button", textContent: "Open in full" }, `Open in full: ${drawn}`);
    open.addEventListener("click", () => trigger("select", { id, number }));
  }
  return card;
}

function fill(card, { picture, difference, figures, hint = "" }) {
  for (const [of, source] of Object.entries({ picture, difference })) {
    const box = card.querySelector(`[data-of="${of}"]`);
    if (box && source) box.firstChild.src = source;
  }
  card.querySelector("dl").replaceChildren(
    ...figures.map(([name, value]) => {
      const pair = document.createElement("div");
      make("dt", pair, { textContent: name });
      make("dd", pair, { textContent: value });
      return pair;
    })
  );
  const words = card.querySelector(".part-hint");
  words.textContent = hint;
  words.hidden = !hint;
}

function amplify() {
  const gain = Number(loud.value || fitting);
  for (const box of list.querySelectorAll('[data-of="difference"]')) {
    box.firstChild.style.filter = `brightness(${gain})`;
    box.lastChild.textContent = gain > 1 ? `difference × ${gain}` : "difference";
  }
}

function compare(a, b) {
  const [x, y] = [a[order.value], b[order.value]];
  if (x === null || y === null) return (x === null) - (y === null) || a.order - b.order;
  return x - y || a.order - b.order;
}

function arrange() {
  const sorted = [...cards].sort(compare).map(({ id }) => made.get(id));
  if (made.has("dense")) sorted.unshift(made.get("dense"));
  if (sorted.length === list.children.length && sorted.every((card, i) => card === list.children[i])) return;
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  list.replaceChildren(...sorted);
  focused?.focus({ preventScroll: true });
}

function read() {
  // On a tab that was not open yet, gradio puts its own object in the place of a value that a listener skipped.
  const sent = typeof props.value === "string" && props.value;
  const value = sent ? JSON.parse(sent) : { number: null, cards: [] };
  if (value.number !== number) made = new Map();
  number = value.number;
  cards = value.cards;
  head.hidden = !cards.length;
  empty.hidden = cards.length > 0;
  order.parentElement.hidden = cards.length < 2;
  words.textContent = value.words ?? "";
  if (cards.length) {
    if (!made.has("dense")) made.set("dense", build("dense", { name: "Dense", detail: "nothing is pruned" }));
    fill(made.get("dense"), value.dense);
  }
  for (const card of cards) {
    if (!made.has(card.id)) made.set(card.id, build(card.id, card));
    fill(made.get(card.id), card);
  }
  fitting = value.gain ?? 1;
  arrange();
  amplify();
}

order.addEventListener("change", arrange);
loud.addEventListener("change", amplify);
read();
watch("value", read);
