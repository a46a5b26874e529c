"""How long a person waits for the Layer page, measured from the browser: real app, headless Chromium, software WebGL.

The big layers belong to a one-block PixArt with random weights: its MLPs are as large as those of DiT-XL/2 and FLUX.1.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import ModuleType

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS), str(TESTS / "browser")]

LAYER, OTHER = "transformer_blocks.0.ff.net.2", "transformer_blocks.0.attn1.to_q"


def build(width: int, folder: Path) -> None:
    """Save a pipeline with a layer of width × 4·width weights."""
    from diffusers import PixArtTransformer2DModel
    from tiny_models import build_pixart

    pipeline = build_pixart()
    config = {**pipeline.transformer.config, "num_layers": 1, "attention_head_dim": 64}
    config |= {"num_attention_heads": width // 64, "cross_attention_dim": width}
    pipeline.register_modules(transformer=PixArtTransformer2DModel.from_config(config))
    pipeline.save_pretrained(folder)
    defaults = {"steps": 2, "max_sequence_length": 16, "prompts": ["a cat", "a tree"]}
    (folder / "generation_defaults.json").write_text(json.dumps(defaults))


def _browser_tests() -> ModuleType:
    """The settings of the browser tests, which say how to start Chromium."""
    spec = importlib.util.spec_from_file_location("browser_conftest", TESTS / "browser" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launched(playwright):
    """A headless Chromium, started as the browser tests start it."""
    flags = _browser_tests()
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, flags.NAMES)), None)
    return playwright.chromium.launch(executable_path=path, args=flags.FLAGS)


@contextmanager
def opened(width: int | None) -> Iterator:
    """The page with its Layer tab open, for a model that wide or the bundled one."""
    from playwright.sync_api import sync_playwright
    from serving import running_app

    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        if width is not None:
            build(width, Path(folder) / "model")
            arguments = ["--model", str(Path(folder) / "model")]
        with running_app(*arguments, XDG_CACHE_HOME=folder) as url, sync_playwright() as playwright:
            browser = launched(playwright)
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.set_default_timeout(120_000)
            page.goto(url)
            page.get_by_text("Predicted damage", exact=True).first.wait_for()
            page.get_by_role("tab", name="Layer").click()
            page.locator("#cluster-table tbody tr").first.wait_for()
            page.wait_for_timeout(3000)
            yield page
            browser.close()


WATCH = """([name, units]) => {
  const plots = () => [...document.querySelectorAll('#layer-views [data-drawn]')].map(plot => plot.dataset.drawn);
  const before = plots();
  window.opened = new Promise(resolve => document.addEventListener('pointerdown', () => {
    const start = performance.now();
    const look = () => {
      const now = plots();
      const there = document.querySelector(units).layout.title?.text?.startsWith(name) &&
        document.querySelector('#cluster-table caption').textContent.startsWith(name + ':') &&
        now.every((plot, i) => plot !== before[i]);
      there ? resolve(performance.now() - start) : requestAnimationFrame(look);
    };
    look();
  }, { capture: true, once: true }));
}"""
UNITS = "#units .js-plotly-plot"


def open_layer(page, name: str) -> float:
    """Seconds from the click on a layer to the frame in which its dots, plane, histogram, lines and table are drawn."""
    field = page.locator("#layer-picker input")
    field.click()
    field.fill(name)
    option = page.get_by_role("option", name=name).first
    option.wait_for()
    page.evaluate(WATCH, [name, UNITS])
    option.click()
    return page.evaluate("window.opened") / 1000


def layer_open(width: int, goal: float) -> dict:
    """The first time a layer is opened, nothing of it being known but its clusters' settings."""
    with opened(width) as page:
        received = []
        client = page.context.new_cdp_session(page)
        client.send("Network.enable")
        client.on("Network.dataReceived", lambda event: received.append(event["encodedDataLength"]))
        if page.locator("#layer-picker input").input_value().startswith(LAYER):
            raise RuntimeError("the layer to be measured is open already")
        received.clear()
        seconds = open_layer(page, LAYER)
        page.wait_for_timeout(1000)
        megabytes = sum(received) / 1e6
    held = seconds <= goal and megabytes <= 1.5
    detail = {"megabytes": round(megabytes, 2), "shape": [width, 4 * width]}
    return {"value": round(seconds, 2), "unit": "s", "goal": f"≤ {goal}, ≤ 1.5 MB", "held": held, "detail": detail}


def layer_reopen_ms() -> dict:
    """Back and forth between two layers that have been seen."""
    with opened(1152) as page:
        for name in (LAYER, OTHER):
            open_layer(page, name)
        times = [1000 * open_layer(page, name) for name in (LAYER, OTHER) * 3]
    value = round(median(times), 1)
    return {"value": value, "unit": "ms", "goal": "≤ 300", "held": value <= 300, "detail": [round(t) for t in times]}


WATCH_SLIDER = """slider => {
  const what = { childList: true, characterData: true, subtree: true };
  window.updates = 0;
  new MutationObserver(() => window.updates++).observe(slider.closest("tr").querySelector(".damage"), what);
}"""
"""Counts the figures of damage that a slider's row shows."""
MOVES = 100


def drag_slider(page, table: str) -> dict[str, float]:
    """Figures and moves a second while a pointer drags the first slider of a table, and seconds until undo is there."""
    slider = page.locator(f"{table} input[type=range]:enabled").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    slider.evaluate(WATCH_SLIDER)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    start = time.perf_counter()
    for step in range(MOVES):
        page.mouse.move(box["x"] + box["width"] * (0.3 + 0.6 * step / MOVES), box["y"] + box["height"] / 2)
        page.wait_for_timeout(20)
    seconds = time.perf_counter() - start
    figures = page.evaluate("window.updates")
    page.mouse.up()
    start = time.perf_counter()
    page.wait_for_function("!document.querySelector('#undo').disabled")
    settled = time.perf_counter() - start
    per_second = {"figures_per_s": round(figures / seconds, 1), "moves_per_s": round(MOVES / seconds, 1)}
    return {**per_second, "settled_s": round(settled, 2)}


def slider_hz() -> dict:
    """How many figures of predicted damage a second follow a slider that a pointer drags: the slower of a cluster's on
    the bundled model and of a group's on a map of FLUX.1's size."""
    from flux_map import group_slider

    with opened(None) as page:
        found = {"cluster": drag_slider(page, "#cluster-table")}
    found["group"] = group_slider()
    value = min(one["figures_per_s"] for one in found.values())
    return {"value": value, "unit": "per second", "goal": "≥ 10", "held": value >= 10, "detail": found}


def lasso_100k_ms() -> dict:
    """From the end of a lasso over 100,000 dots until the page says what it holds."""
    with opened(1152) as page:
        open_layer(page, LAYER)
        for label, option in (("Max. dots", "100,000"), ("Dots are", "weights")):
            page.get_by_label(label).click()
            page.get_by_role("option", name=option).click()
            page.wait_for_timeout(1500)
        dots = f"document.querySelector('{UNITS}')._fullData.reduce((n, t) => n + (t.meta?.units ? t.x.length : 0), 0)"
        page.wait_for_function(f"{dots} >= 100000")
        page.wait_for_timeout(3000)
        box = page.locator("#units .nsewdrag").first.bounding_box()
        page.mouse.move(box["x"] + 0.05 * box["width"], box["y"] + 0.05 * box["height"])
        page.mouse.down()
        for x, y in ((0.95, 0.05), (0.95, 0.95), (0.05, 0.95), (0.05, 0.05)):  # around most of them
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
        start = time.perf_counter()
        page.mouse.up()
        page.wait_for_function("document.querySelector('#selection').innerText.includes('selected')")
        value = round(1000 * (time.perf_counter() - start))
        words = page.locator("#selection").inner_text()
    return {"value": value, "unit": "ms", "goal": "≤ 500", "held": value <= 500, "detail": words.strip()[:80]}


def _with_browser(benchmark: Callable[[], dict]) -> Callable[[], dict | str]:
    def run() -> dict | str:
        try:
            import playwright  # noqa: F401
        except ImportError:
            return "needs Playwright and Chromium"
        return benchmark()

    return run


BENCHMARKS = {
    "layer_open_s_4m": _with_browser(lambda: layer_open(1152, 1.5)),
    "layer_open_s_38m": _with_browser(lambda: layer_open(3072, 5.0)),
    "layer_reopen_ms": _with_browser(layer_reopen_ms),
    "slider_hz": _with_browser(slider_hz),
    "lasso_100k_ms": _with_browser(lasso_100k_ms),
}
