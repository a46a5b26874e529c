"""How long a person waits for the first page: from `python app.py` to the map in a real browser.

    python tests/benchmarks/startup.py

prints every run. The browser is open beforehand and asks for the page as soon as the port answers. `startup_s` stops
when all layers of the map are drawn, `first_meaningful_s` when the page answers what a newcomer asks, where weights can
go at little cost: layers in their groups, the heat map and the bar tell predicted damages. The calibration comes with
the bundled model. The server's CPU seconds say how much a busy machine has added.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from statistics import median

import psutil

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "browser"))

GOAL = 6.0
RUNS = 3
LAYERS = 78
MAP = f'#layer-map [data-points="{LAYERS}"]'
MEANINGFUL = f"""() => {{
  const told = selector => /\\d %/.test(document.querySelector(selector)?.innerText ?? "");
  return document.querySelector('#layer-plane [data-points="{LAYERS}"]') && document.querySelector('{MAP}') &&
    ['#layer-groups .damage', '#layer-list td.damage', '#bar [data-fact="Predicted damage"]'].every(told);
}}"""


def first_page(browser, folder: str) -> dict[str, float]:
    """Seconds until the port answers and until the map is drawn, and the server's CPU seconds until then."""
    from serving import free_port

    port = free_port()
    environment = {**os.environ, "XDG_CACHE_HOME": folder, "OMP_WAIT_POLICY": "PASSIVE"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a person's Python keeps what it has compiled
    command = [sys.executable, "app.py", "--port", str(port)]
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    start = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, cwd=TESTS.parent, env=environment, **quiet)
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None:
                raise RuntimeError("the app did not start")
            time.sleep(0.02)
        listening = time.perf_counter() - start
        page.goto(f"http://127.0.0.1:{port}", wait_until="commit")
        page.locator(MAP).first.wait_for(timeout=180_000)
        shown = time.perf_counter() - start
        page.wait_for_function(MEANINGFUL, timeout=180_000)
        meaningful = time.perf_counter() - start
        used = psutil.Process(server.pid).cpu_times()
    finally:
        server.terminate()
        server.wait(20)
        page.close()
    times = {"listening_s": listening, "map_s": shown, "meaningful_s": meaningful, "cpu_s": used.user + used.system}
    return {name: round(seconds, 2) for name, seconds in times.items()}


@cache
def started() -> tuple[dict[str, float], ...]:
    """A few starts with an empty cache; the first one, which reads all files from disk, comes before."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    runs = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        for _ in range(RUNS + 1):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(first_page(browser, folder))
        browser.close()
    return tuple(runs)


def measured(name: str) -> dict | str:
    """The median of all starts but the first."""
    try:
        runs = started()
    except ImportError:
        return "needs Playwright and Chromium"
    value = median(run[name] for run in runs[1:])
    return {"value": value, "unit": "s", "goal": f"≤ {GOAL:g}", "held": value <= GOAL, "detail": runs}


BENCHMARKS = {"startup_s": partial(measured, "map_s"), "first_meaningful_s": partial(measured, "meaningful_s")}

if __name__ == "__main__":
    print(json.dumps(measured("map_s"), indent=1))
