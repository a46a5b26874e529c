// Runs once at the beginning of the page's head, before any part of gradio: which session the page shows, and a
// connection that may break. What gradio asks for through its queue carries the session's id; where the network or the
// server goes away, requests wait until it is back, and the page goes on under a new name with the same session. It
// never reloads itself.
(() => {
  const HEADER = "x-dit-prune-viz-session"; // as in workspaces.py
  const STORED = "dit-prune-viz session";
  const GOOD = /^[A-Za-z0-9_-]{32}$/;
  const SILENT_MS = 45_000; // the server says something every 15 seconds
  const GATEWAY = [502, 504]; // a proxy whose server is away
  const plain = window.fetch.bind(window);
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

  // The id: that of the address, else the one this browser used last, else a new one; ?session=new asks for that.
  function stored(value) {
    try {
      if (value) localStorage.setItem(STORED, value);
      return localStorage.getItem(STORED);
    } catch {
      return null; // a browser may forbid a page to remember anything
    }
  }

  function newId() {
    const bytes = crypto.getRandomValues(new Uint8Array(24));
    return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
  }

  const address = new URL(location.href);
  const asked = address.searchParams.get("session");
  const id = [asked, asked === "new" ? null : stored()].find((one) => GOOD.test(one ?? "")) ?? newId();
  stored(id);
  address.searchParams.set("session", id);
  history.replaceState(history.state, "", address);

  // The connection.
  const joined = new Map(); // events that the server has not finished: their ids → the numbers of their listeners
  let name = null; // the page's name for the server after a gap; gradio's own before
  let generation = 0; // counted up with every gap
  let away = null; // a promise while there is a gap
  let cutOff = new AbortController(); // of what was opened before the next gap

  const config = () => window.gradio_config ?? {};
  const api = (path) => new URL(new URL(config().root ?? ".", location.href).pathname.replace(/\/$/, "") +
    `${config().api_prefix ?? "/gradio_api"}/${path}`, location.origin);

  // A line over the page; `button` lets the person reload it.
  function say(text, button = null) {
    document.getElementById("connection")?.remove();
    if (!text) return;
    const line = document.createElement("div");
    Object.assign(line, { id: "connection", textContent: text });
    line.setAttribute("role", "status");
    Object.assign(line.style, {
      position: "fixed", bottom: "12px", left: "50%", transform: "translateX(-50%)", zIndex: 2000, padding: "8px 16px",
      borderRadius: "8px", background: "#1e293b", color: "white", font: "14px system-ui, sans-serif",
      boxShadow: "0 2px 12px rgb(0 0 0 / 40%)",
    });
    if (button) {
      const reload = document.createElement("button");
      Object.assign(reload, { type: "button", textContent: button, onclick: () => location.reload() });
      Object.assign(reload.style, { marginLeft: "12px", textDecoration: "underline", cursor: "pointer" });
      line.append(reload);
    }
    document.body.append(line);
  }

  const listener = ({ id, targets, inputs, outputs }) => [id, targets, inputs, outputs];
  const shape = (of) => JSON.stringify((of.dependencies ?? []).map(listener));

  // Until the server answers, and takes this page for one of its own.
  async function answers() {
    for (let wait = 300; ; wait = Math.min(1.5 * wait, 3000)) {
      try {
        const options = { cache: "no-store", signal: AbortSignal.timeout(8000) };
        const answer = await plain(api("app_id"), options);
        const same = answer.ok && (await answer.json()).app_id === config().app_id;
        const now = same ? null : await plain(new URL("config", api("").href.replace(/[^/]+\/$/, "")), options);
        if (same) return;
        if (now.status === 401) say("The app was started anew.", "Sign in again");
        else if (now.ok && shape(await now.json()) === shape(config())) return;
        else if (now.ok) say("The app was started anew, in another version. Your work is kept.", "Reload the page");
      } catch {
        // still away
      }
      await sleep(wait);
    }
  }

  async function comeBack() {
    say("Reconnecting …");
    await answers();
    generation += 1;
    name = newId().slice(0, 16);
    cutOff.abort();
    cutOff = new AbortController();
    beat();
    say(null);
    away = null;
    setTimeout(() => document.dispatchEvent(new CustomEvent("session-gap")), 50);
  }

  const reconnected = () => (away ??= comeBack());

  // The server notices by this when the page is closed, and the page when the connection breaks. Gradio opens the first
  // and reads nothing in it.
  async function beat(url = api(`heartbeat/${name}`), closed = new AbortController().signal) {
    const own = generation;
    try {
      const signal = AbortSignal.any([closed, cutOff.signal]);
      const answer = await plain(url, { headers: { [HEADER]: id }, signal });
      const reader = answer.body.getReader();
      while (!(await reader.read()).done);
    } catch {
      // dealt with below
    }
    if (own === generation && !closed.aborted && !leaving) reconnected();
  }

  let leaving = false;
  window.addEventListener("pagehide", () => (leaving = true));
  window.addEventListener("pageshow", () => (leaving = false));
  window.addEventListener("offline", () => reconnected());

  // What is asked for is asked for again once the server is back.
  async function send(request) {
    const text = await request.clone().text();
    for (;;) {
      const body = name ? JSON.stringify({ ...JSON.parse(text), session_hash: name }) : text;
      const headers = new Headers(request.headers);
      headers.set(HEADER, id);
      try {
        const answer = await plain(request.url, { method: "POST", body, headers, credentials: request.credentials });
        if (!GATEWAY.includes(answer.status)) {
          if (answer.ok && request.url.endsWith("/queue/join")) {
            const { event_id } = await answer.clone().json();
            joined.set(event_id, JSON.parse(text).fn_index);
          }
          return answer;
        }
      } catch (problem) {
        if (leaving) throw problem;
      }
      await reconnected();
    }
  }

  const event = (message) => `data: ${JSON.stringify(message)}\n\n`;

  // For a listener whose answer is lost: it changes nothing, and the listener may be asked again.
  function nothing(event_id, fn_index) {
    const outputs = (config().dependencies ?? []).find((one) => one.id === fn_index)?.outputs ?? [];
    const data = outputs.map(() => ({ __type__: "update" }));
    const times = { duration: 0, average_duration: 0 };
    const output = { data, is_generating: false, ...times, render_config: null, changed_state_ids: [] };
    return event({ msg: "process_completed", event_id, output, success: true, title: null });
  }

  // The whole messages of one stream, handed to `pass`; whether it ended as it should.
  async function read(request, pass) {
    const url = new URL(request.url);
    if (name) url.searchParams.set("session_hash", name);
    const silent = new AbortController();
    const signal = AbortSignal.any([request.signal, cutOff.signal, silent.signal]);
    const headers = new Headers(request.headers);
    headers.set(HEADER, id);
    let clock = 0;
    const heard = () => {
      clearTimeout(clock);
      clock = setTimeout(() => silent.abort(), SILENT_MS);
    };
    try {
      heard();
      const answer = await plain(url, { headers, signal, credentials: request.credentials });
      if (!answer.ok) return false;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ; ) {
        const { done, value } = await reader.read();
        if (done) return false;
        heard();
        rest += value;
        const end = rest.lastIndexOf("\n\n") + 2;
        if (end < 2) continue;
        const messages = rest.slice(0, end);
        rest = rest.slice(end);
        for (const message of messages.split("\n\n").filter(Boolean)) {
          const head = message.slice(0, 300);
          const kind = /"msg":\s*"(\w+)"/.exec(head)?.[1];
          if (kind === "unexpected_error") return false; // the server stops, or knows nothing of this page
          if (kind === "process_completed") joined.delete(/"event_id":\s*"(\w+)"/.exec(head)?.[1]);
          pass(`${message}\n\n`);
          if (kind === "close_stream") return true;
        }
      }
    } catch {
      return false;
    } finally {
      clearTimeout(clock);
    }
  }

  // One stream for gradio, made of as many as it takes.
  async function follow(request, controller) {
    const text = new TextEncoder();
    const pass = (message) => controller.enqueue(text.encode(message));
    for (;;) {
      const own = generation;
      const whole = await read(request, pass);
      if (whole || request.signal.aborted || leaving) break;
      const lost = [...joined];
      if (own === generation) await reconnected();
      for (const [event_id, fn_index] of lost) {
        joined.delete(event_id);
        pass(nothing(event_id, fn_index));
      }
      while (!joined.size && !request.signal.aborted) await sleep(30);
      if (request.signal.aborted) break;
    }
    try {
      controller.close();
    } catch {
      // gradio has closed it
    }
  }

  window.fetch = (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input, document.baseURI);
    const queue = /\/(queue\/(join|data)|run\/\w+|(heartbeat)\/\w+)$/.exec(url.pathname);
    if (!queue || url.origin !== location.origin) return plain(input, init);
    const request = new Request(input, init);
    if (queue[2] !== "data" && !queue[3]) return send(request);
    if (queue[3]) beat(url, request.signal);
    const stream = queue[3] ? {} : { start: (controller) => void follow(request, controller) };
    const headers = { "content-type": "text/event-stream" };
    return Promise.resolve(new Response(new ReadableStream(stream), { headers }));
  };
})();
