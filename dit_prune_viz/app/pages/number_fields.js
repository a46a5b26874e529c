// Number fields of the whole page take what is typed with Enter or when they are left. What is no number, or none that
// can be, is told in a sentence below the field, and the old value comes back. Runs once per page.
() => {
  const SECONDS = 8;
  const bubble = document.createElement("p");
  bubble.className = "field-problem";
  bubble.setAttribute("role", "alert");
  (document.querySelector(".gradio-container") ?? document.body).append(bubble);
  const old = new WeakMap(); // field → its value before it was touched
  let own = false; // whether an event comes from here
  let hiding = 0;

  const isField = (target) => target instanceof HTMLInputElement && target.type === "number";
  const isOfSlider = (field) => Boolean(field.closest(".block")?.querySelector("input[data-testid=range-input]"));

  function nameOf(field) {
    const block = field.closest(".block");
    const label = field.getAttribute("aria-label")?.replace(/^number input for /, "") ?? "";
    return block?.querySelector("[data-testid=block-info]")?.textContent.trim() || label || field.labels?.[0]?.textContent || "This";
  }

  function rangeOf(field) {
    const what = field.closest(".whole") ? "a whole number" : "a number";
    const [low, high] = [field.min, field.max].map((bound) => bound && Number(bound).toLocaleString("en-US"));
    if (low && high) return `${what} from ${low} to ${high}`;
    return low ? `${what} of at least ${low}` : what;
  }

  function isGood(field) {
    const value = field.valueAsNumber;
    if (!Number.isFinite(value)) return false;
    if (field.closest(".whole") && !Number.isInteger(value)) return false;
    return !(field.min && value < Number(field.min)) && !(field.max && value > Number(field.max));
  }

  function send(field) {
    own = true;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    own = false;
  }

  function hide() {
    clearTimeout(hiding);
    bubble.textContent = "";
    bubble.classList.remove("shown");
  }

  function tell(field, given) {
    const before = old.get(field);
    const now = before ? `; it is ${before} again.` : ".";
    bubble.textContent = `${nameOf(field)} is ${rangeOf(field)}, not ${given || "empty"}${now}`;
    bubble.classList.add("shown");
    const { left, bottom } = field.getBoundingClientRect();
    bubble.style.left = `${Math.max(8, Math.min(left, innerWidth - bubble.offsetWidth - 8))}px`;
    bubble.style.top = `${Math.max(8, Math.min(bottom + 4, innerHeight - bubble.offsetHeight - 8))}px`;
    clearTimeout(hiding);
    hiding = setTimeout(hide, 1000 * SECONDS);
  }

  // Whether the field holds a number that can be; else the old one is put back.
  function settle(field) {
    if (isGood(field)) {
      old.set(field, field.value);
      hide();
      return true;
    }
    const given = field.value;
    if (old.get(field)) field.value = old.get(field);
    tell(field, given);
    return false;
  }

  // In the capturing phase all this comes before the listeners of the fields themselves.
  document.addEventListener("focusin", ({ target }) => {
    if (isField(target) && isGood(target)) old.set(target, target.value);
  });
  document.addEventListener(
    "input",
    (event) => {
      const field = event.target;
      if (own || !isField(field) || !isOfSlider(field)) return;
      // 1 and 15 on the way to 150 are no wishes; arrows have no inputType.
      if (event.inputType || !settle(field)) event.stopImmediatePropagation();
    },
    true
  );
  function commit(event) {
    const field = event.target;
    if (own || !isField(field) || (event.type === "keydown" && event.key !== "Enter")) return;
    const good = settle(field);
    if (!good || isOfSlider(field)) send(field);
    if (!good) event.stopImmediatePropagation();
  }
  for (const event of ["change", "keydown"]) document.addEventListener(event, commit, true);
}
