// The slider and the play button below a plot of units: they move the dots through the timestep bins. The heights in
// all bins are fetched once for each drawing.

// Drawn, because not every font has these signs.
const icon = (shape) => `<svg viewBox="0 0 16 16" width="12" height="12" aria-hidden="true"><path d="${shape}"/></svg>`;
const [PLAY, PAUSE] = [icon("M4 2v12l10-6z"), icon("M3 2h4v12H3zM9 2h4v12H9z")];

const unitTracesToMove = (host) => allTraces(host).filter((trace) => trace.meta?.units); // hidden clusters move, too

function timestepPlayer(host, fetchHeights) {
  const strip = element.querySelector(".plot-steps");
  if (!strip) return { redrawn() {} };
  const slider = strip.querySelector("input");
  const button = strip.querySelector("button");
  const labels = () => host.layout.meta?.frames ?? [];
  let heights = null; // { rowOf: unit → row, count, bins: bin after bin, all: the heights over all timesteps }
  let fetching = null; // a promise of them: a drawing asks once, however fast the slider moves
  let wanted = 0;
  let playing = null;

  function name(frame) {
    strip.querySelector("output").textContent = frame ? `timesteps ${labels()[frame - 1]}` : "all timesteps";
    element.dataset.frame = frame;
  }

  async function fetchAll() {
    const traces = unitTracesToMove(host);
    const ids = Int32Array.from(traces.flatMap((trace) => [...trace.customdata])).sort();
    const packed = await fetchHeights(ids.length);
    if (!packed) return null;
    const rowOf = new Map();
    ids.forEach((id, row) => rowOf.set(id, row));
    const all = new Map(traces.map((trace) => [trace.index, Float32Array.from(trace.y)]));
    return { rowOf, count: ids.length, bins: new Float32Array(unpackBytes(packed)), all };
  }

  function heightsOf(trace, frame) {
    if (!frame) return heights.all.get(trace.index);
    const start = (frame - 1) * heights.count;
    return Float32Array.from(trace.customdata, (id) => heights.bins[start + heights.rowOf.get(id)]);
  }

  async function moveTo(frame) {
    wanted = frame;
    if (!heights) {
      const mine = (fetching ??= fetchAll());
      const found = await mine.catch(() => null);
      if (mine === fetching) [heights, fetching] = [found, null]; // else they are of a drawing before this one
      if (!heights || frame !== wanted || removed.aborted) return;
    }
    const traces = unitTracesToMove(host);
    const y = traces.map((trace) => heightsOf(trace, frame));
    name(frame);
    await Plotly.restyle(host, { y }, traces.map((trace) => trace.index));
  }

  function stop() {
    clearInterval(playing);
    playing = null;
    button.innerHTML = PLAY;
    button.setAttribute("aria-label", "Play through the timesteps");
  }

  function play() {
    button.innerHTML = PAUSE;
    button.setAttribute("aria-label", "Pause");
    playing = setInterval(() => {
      if (fetching) return;
      slider.value = Number(slider.value) >= Number(slider.max) ? 0 : Number(slider.value) + 1;
      moveTo(Number(slider.value));
    }, 600);
  }

  slider.addEventListener("input", () => {
    stop();
    moveTo(Number(slider.value));
  });
  button.addEventListener("click", () => (playing ? stop() : play()));
  onRemoved(stop);
  stop();

  return {
    redrawn() {
      strip.hidden = labels().length < 2;
      slider.max = labels().length;
      heights = fetching = null;
      if (Number(slider.value) > labels().length) slider.value = 0;
      if (Number(slider.value)) moveTo(Number(slider.value));
      else name(0);
    },
  };
}
