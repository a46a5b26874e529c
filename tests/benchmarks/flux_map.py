"""How the Map does with a model of FLUX.1's size: 494 layers in the published shapes.

    python tests/benchmarks/flux_map.py PORT

serves such a model without the memory or the minutes that it takes: all weights are views of one small store, and what
a plan measures of a layer is measured in one block of each sort and holds for the others. Everything else is the app's
own: the session, the page, and a real browser that looks at it.

`map_open_ms`: from the address to the frame in which the scatter, the heat map, the list and the table of groups of all
layers are drawn.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path += [str(ROOT), str(HERE), str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

import torch
from torch import Tensor, nn

from dit_prune_viz.caching import Cache

LAYERS = 494
STORE = 96 << 20
"""Values that all weights are views of; the largest layer has 57 million."""
BINS, TOKENS = 10, 4096
OPENINGS = 4
GOAL = 1500
_BLOCK = re.compile(r"^((?:single_)?transformer_blocks)\.\d+\.")
_MEASURED = ("heterogeneity", "costs", "curves")


class OneOfEach(Cache):
    """A cache in which what is measured of a layer in the first block of its sort is known of all the others."""

    def find(self, key: Hashable, default=None):
        return super().find(_first(key), default)


def _first(key: Hashable) -> Hashable:
    if not (isinstance(key, tuple) and key[0] in _MEASURED):
        return key
    what, basis, name, *settings = key
    return what, basis, first_of_its_sort(name), *settings


def first_of_its_sort(name: str) -> str:
    return _BLOCK.sub(r"\1.0.", name)


def transformer() -> nn.Module:
    """FLUX.1-dev in bfloat16, its weights views of one store whose scale changes along it."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        model = FluxTransformer2DModel(guidance_embeds=True)
    generator = torch.Generator().manual_seed(0)
    store = torch.empty(STORE, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
    pieces = store.view(64, -1)
    pieces *= torch.logspace(-1, 0.5, 64).bfloat16()[:, None]
    for place, (name, parameter) in enumerate(list(model.named_parameters())):
        owner, _, last = name.rpartition(".")
        room = STORE - parameter.numel()
        start = (place * 7_919_993) % room
        view = store[start : start + parameter.numel()].view(parameter.shape)
        setattr(model.get_submodule(owner), last, nn.Parameter(view, requires_grad=False))
    return model.eval()


def session():
    """A calibrated and pruned session of it, as a page has it once a model is ready."""
    from tiny_models import build_flux

    from dit_prune_viz.app.session.model_store import ModelStore
    from dit_prune_viz.app.session.session import Session
    from dit_prune_viz.calibration.layer_statistics import layer_statistics
    from dit_prune_viz.calibration.result import Calibration
    from dit_prune_viz.calibration.statistics import Statistics
    from dit_prune_viz.pipelines.defaults import Defaults
    from dit_prune_viz.pipelines.layers import list_layers
    from dit_prune_viz.pipelines.model import Model
    from dit_prune_viz.pruning.recipe import Recipe
    from dit_prune_viz.resources import BUNDLED_CLIP

    pipeline = build_flux()
    pipeline.register_modules(transformer=transformer())
    layers = list_layers(pipeline.transformer)
    assert len(layers) == LAYERS
    generator = torch.Generator().manual_seed(1)

    def squares(width: int) -> Tensor:
        return (
            TOKENS * torch.rand(BINS, width, generator=generator).double() * 10 ** torch.randn(1, generator=generator)
        )

    edges = tuple(i / BINS for i in range(BINS + 1))
    tokens = {layer.name: torch.full((BINS,), TOKENS) for layer in layers}
    calibration = Calibration(
        128, 0, 0.0, (0.5,), edges, {layer.name: squares(layer.shape[1]) for layer in layers}, tokens
    )
    model = Model(
        source="FLUX.1-dev in shape",
        name="FLUX.1-dev in shape",
        family="flux",
        pipeline=pipeline,
        layers=layers,
        parameters=sum(one.numel() for one in pipeline.transformer.parameters()),
        defaults=Defaults(64, 64, 2, 1.0, 16, ("a cat", "a tree")),
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
        fingerprint="0" * 64,
        cache=OneOfEach(2 << 30),
    )
    known = Statistics(model, calibration)
    look_at(model)
    measure_one_of_each(known, Recipe())
    store = ModelStore(clip=BUNDLED_CLIP, device="cpu")
    found = layer_statistics(model, calibration)
    return Session(store, model=model, statistics=known, layer_statistics=found).prune(Recipe())


def look_at(model) -> None:
    """What the map shows of the weights, told from a thousandth of each."""
    from dit_prune_viz.calibration.layer_statistics import LayerStatistics

    found = {}
    for layer in model.layers:
        some = model.weight(layer.name)[::1000].float()
        found[layer.name] = LayerStatistics(float(some.square().mean().sqrt()), 0.07)
    model.cache.put(("weight statistics", model.also_prune), found)


def measure_one_of_each(known, recipe) -> None:
    """G_out and damage curves of one block of each sort, both ways of ranking."""
    from dit_prune_viz.pruning.scores import Scores

    names = list(dict.fromkeys(first_of_its_sort(layer.name) for layer in known.model.layers))
    scores = Scores(recipe, known)
    for timestep in (None, "uniform"):
        measures = scores.measures(timestep)
        measures.g_out(names)
        for groups in ("row", "layer"):
            measures.curves(dict.fromkeys(names, groups))


def serve(port: int) -> None:
    """The app, as `python app.py` serves it, with that session prepared."""
    from dit_prune_viz.app.server import build_app
    from dit_prune_viz.app.session.jobs import Jobs
    from dit_prune_viz.app.session.startup import Startup
    from dit_prune_viz.app.theme import launch_options

    class Ready(Startup):
        def start(self) -> None:
            self._done.set()

    startup = Ready(session(), "FLUX.1-dev in shape", Jobs())
    startup.start()
    app = build_app(startup)
    sys.setswitchinterval(0.0005)
    app.launch(server_name="127.0.0.1", server_port=port, **launch_options())


@contextmanager
def served() -> Iterator[str]:
    """The address of the app in a process of its own."""
    import urllib.request

    from serving import free_port

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, str(HERE / "flux_map.py"), str(port)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(url, timeout=30).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the app did not open") from None
                time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(20)


DRAWN = f"""() => {{
  const plot = selector => document.querySelector(selector + ' [data-points="{LAYERS}"]');
  return plot('#layer-plane') && plot('#layer-map') && document.querySelectorAll('#layer-groups tbody tr').length > 1
    && document.querySelectorAll('#layer-list tbody tr').length > 1;
}}"""


def open_map(browser, url: str) -> tuple[object, float]:
    """A new page with the map, and the milliseconds that it took."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.set_default_timeout(120_000)
    page.add_init_script("localStorage.setItem('dit-prune-viz hints seen', 'yes')")
    page.add_init_script(
        "const look = () => { if (document.body && (" + DRAWN + ")()) window.drawnAt = performance.now(); "
        "else requestAnimationFrame(look); }; requestAnimationFrame(look);"
    )
    page.goto(url, wait_until="commit")
    page.wait_for_function("window.drawnAt")
    return page, page.evaluate("window.drawnAt")


def map_open_ms() -> dict | str:
    """The median of a few pages; the first one, for which server and browser read their files, comes before."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "needs Playwright and Chromium"
    with served() as url, chromium() as browser:
        times = []
        for _ in range(OPENINGS):
            page, milliseconds = open_map(browser, url)
            times.append(round(milliseconds))
            page.wait_for_timeout(3000)
            page.close()
    value = median(times[1:])
    detail = {"all": times, "layers": LAYERS}
    return {"value": value, "unit": "ms", "goal": f"≤ {GOAL}", "held": value <= GOAL, "detail": detail}


def group_slider() -> dict[str, float]:
    """What `explorer.drag_slider` finds of a group's slider."""
    from explorer import drag_slider

    with served() as url, chromium() as browser:
        page, _ = open_map(browser, url)
        page.wait_for_timeout(5000)
        return drag_slider(page, "#layer-groups")


@contextmanager
def chromium() -> Iterator:
    """A headless browser as the browser tests start it."""
    from explorer import launched
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launched(playwright)
        yield browser
        browser.close()


BENCHMARKS = {"map_open_ms": map_open_ms}

if __name__ == "__main__":
    serve(int(sys.argv[1]))
