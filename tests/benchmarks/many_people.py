"""Many people at one app, as real clients over HTTP: whose pictures they get, how long they wait, what they leave.

`DPV_PEOPLE_QUICK=10` does a tenth of everything.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import median

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS), str(TESTS / "browser")]

CLIENTS = 8
QUICK = int(os.environ.get("DPV_PEOPLE_QUICK", "1"))
ACTIONS, FURTHER, LIGHT, CANCELS = 200 // QUICK, 500 // QUICK, 100 // QUICK, max(3, 20 // QUICK)
STEPS = 20


@contextmanager
def app() -> Iterator[tuple[str, list[str]]]:
    """An app in a process of its own, and the layers of its model."""
    from many_clients import Action, client_of, play
    from serving import running_app

    with running_app("--cache", "off") as url:
        play(url, [Action("generate", ("a cat", 0, 1))])  # all that is opened at the first picture is there
        plan = client_of(url).predict("magnitude", "auto", 0.5, api_name="/prune")
        yield url, [layer["name"] for layer in plan["layers"]]


@cache
def together() -> tuple[float, int]:
    """The share of actions that give the same together and alone, and how many there were."""
    from many_clients import play, play_together, script

    with app() as (url, layers):
        scripts = [script(seed, math.ceil(ACTIONS / CLIENTS), layers) for seed in range(CLIENTS)]
        mixed = play_together(url, scripts)
    with app() as (url, _):
        alone = [play(url, actions) for actions in scripts]
    pairs = [pair for one, other in zip(mixed, alone, strict=True) for pair in zip(one, other, strict=True)]
    for one, other in pairs:
        if one.digest != other.digest:
            print("differs:", one.action, file=sys.stderr)
    return sum(one.digest == other.digest for one, other in pairs) / len(pairs), len(pairs)


def clients_identical() -> dict:
    """Eight clients with plans of their own at the same time, against each of them alone in a fresh app."""
    share, count = together()
    detail = f"{count} actions of {CLIENTS} clients; load {_load()}"
    return {"value": share, "unit": "share", "goal": "1", "held": share == 1, "detail": detail}


def light_action_p95_ms() -> dict:
    """Clustering, sliders and looks of one client while two others draw without a pause."""
    from many_clients import Action, client_of, in_parallel, play, script

    with app() as (url, layers):
        done = threading.Event()

        def draw(seed: int) -> int:
            client, drawn = client_of(url), 0
            client.predict("magnitude", "auto", 0.4 + 0.1 * seed, api_name="/prune")
            while not done.is_set():
                client.predict("a cat", seed + 10 * drawn, 10, api_name="/generate")
                drawn += 1
            return drawn

        def look() -> list[float]:
            try:
                actions = [Action("prune", ("magnitude", "auto", 0.5))]
                actions += [one for one in script(1, 3 * LIGHT, layers) if one.light and one.name != "prune"][:LIGHT]
                time.sleep(5)  # until the others draw
                return [one.seconds for one in play(url, actions)[1:]]
            finally:
                done.set()

        seconds, *drawn = in_parallel([look, lambda: draw(0), lambda: draw(1)])
    value = 1000 * _p95(seconds)
    detail = f"median {1000 * median(seconds):.0f} ms of {len(seconds)}; {sum(drawn)} pairs drawn; load {_load()}"
    return {"value": value, "unit": "ms", "goal": "≤ 300", "held": value <= 300, "detail": detail}


def memory_growth_500() -> dict:
    """Resident memory after further actions of clients that come and go, beside that after the first ones."""
    from many_clients import play_together, script

    with app() as (url, layers):
        each = 25

        def act(count: int, first: int) -> None:
            seeds = [first + place for place in range(math.ceil(count / each))]
            for begin in range(0, len(seeds), 4):
                play_together(url, [script(seed, each, layers, steps=1) for seed in seeds[begin : begin + 4]])
            time.sleep(12)  # memory is given back every ten seconds, after a job
            play_together(url, [script(0, 2, layers, steps=1)])

        act(max(ACTIONS, 50), 0)
        before = _resident(url)
        act(max(FURTHER, 50), 1000)
        after = _resident(url)
    growth = after / before - 1
    detail = f"{before / 1e6:.0f} → {after / 1e6:.0f} MB over {max(FURTHER, 50)} actions"
    return {"value": 100 * growth, "unit": "%", "goal": "≤ 5", "held": growth <= 0.05, "detail": detail}


def cancel_ms() -> dict:
    """From a cancel to the moment in which the next person's picture begins, beside the length of a step."""
    from many_clients import client_of

    import dit_prune_viz.app.session.model_work as model_work
    from dit_prune_viz.app.server import build_app
    from dit_prune_viz.app.session.startup import AppSettings, start
    from dit_prune_viz.app.theme import launch_options
    from dit_prune_viz.pipelines.load_settings import LoadSettings
    from dit_prune_viz.resources import BUNDLED_CLIP, BUNDLED_MODEL

    began, steps = [], []
    startup = start(AppSettings(LoadSettings(str(BUNDLED_MODEL), "cpu", "float32"), str(BUNDLED_CLIP)))
    server = build_app(startup)
    _, url, _ = server.launch(server_name="127.0.0.1", prevent_thread_lock=True, **launch_options())
    startup.wait()
    draw = model_work.stream_batch

    def timed(*arguments, told, **more):
        began.append(time.perf_counter())

        def tell(done: int) -> None:
            steps.append(time.perf_counter())
            told(done)

        return draw(*arguments, told=tell, **more)

    model_work.stream_batch = timed
    try:
        waits = [_cancel(url, client_of, began, seed) for seed in range(CANCELS)]
        _wait(lambda: not startup.jobs.count())  # a thread that still draws would abort the process at its end
    finally:
        model_work.stream_batch = draw
        server.close()
    step = 1000 * median(b - a for a, b in itertools.pairwise(steps) if b - a < 60)
    value, goal = 1000 * _p95(waits), step + 200
    detail = f"a step takes {step:.0f} ms; median {1000 * median(waits):.0f} ms of {len(waits)}; load {_load()}"
    return {"value": value, "unit": "ms", "goal": f"≤ {goal:.0f}", "held": value <= goal, "detail": detail}


def _cancel(url: str, client_of: Callable, began: list[float], seed: int) -> float:
    """Seconds from the cancel of one client's picture to the start of another's, which waits for it."""
    first, second = client_of(url), client_of(url)
    for client in (first, second):
        client.predict("magnitude", "auto", 0.5, api_name="/prune")
    count = len(began)
    running = first.submit("a cat", 1000 + seed, STEPS, api_name="/generate")
    _wait(lambda: len(began) > count)
    waiting = second.submit("a dog", 1000 + seed, STEPS, api_name="/generate")
    _wait(lambda: (waiting.status().progress_data or [None])[0] is not None)
    count, cancelled = len(began), time.perf_counter()
    running.cancel()
    _wait(lambda: len(began) > count)
    seconds = began[count] - cancelled
    waiting.cancel()
    return seconds


def _wait(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("nothing happened for two minutes")
        time.sleep(0.005)


def _p95(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def _resident(url: str) -> int:
    """Bytes of the process that serves an address."""
    import psutil

    port = url.rsplit(":", 1)[1].strip("/")
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "app.py" in line and port in line:
            return process.memory_info().rss
    raise RuntimeError(f"no process serves {url}")


BENCHMARKS = {
    "clients_identical": clients_identical,
    "light_action_p95_ms": light_action_p95_ms,
    "memory_growth_500": memory_growth_500,
    "cancel_ms": cancel_ms,
}
