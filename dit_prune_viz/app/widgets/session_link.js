// Runs once inside gr.HTML, after shared.js. A page asks now and then, and whenever it comes to sight, whether something
// has happened in its session elsewhere; after a gap it asks for all of it.
const EVERY_MS = 10_000;
const SLOWLY_MS = 25_000; // while nobody sees the page

let asked = performance.now();

function ask() {
  asked = performance.now();
  trigger("select", {});
}

const clock = setInterval(() => {
  const pause = document.visibilityState === "visible" ? EVERY_MS : SLOWLY_MS;
  if (performance.now() - asked >= pause) ask();
}, 2000);
onRemoved(() => clearInterval(clock));

document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && ask(), { signal: removed });
document.addEventListener("session-gap", () => trigger("submit", {}), { signal: removed });
