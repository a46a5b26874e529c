"""Calls of several clients of a running app: each gets its own, in turn, and stops when nobody waits for it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from gradio_client import Client
from many_clients import client_of, play, play_together, script
from starlette.middleware import Middleware

from dit_prune_viz.app.heartbeats import Heartbeats
from dit_prune_viz.app.server import build_app
from dit_prune_viz.app.session import workspaces as workspaces_module
from dit_prune_viz.app.session.startup import AppSettings, start
from dit_prune_viz.app.session.workspaces import Workspaces
from dit_prune_viz.app.theme import launch_options
from dit_prune_viz.pipelines.load_settings import LoadSettings

SOON = 120.0
PICTURE = ("a cat", 0, 200)


@contextmanager
def running(tiny_flux, tiny_clip):
    """An app, and what it is served with."""
    startup = start(AppSettings(LoadSettings(str(tiny_flux), "cpu", "float32"), str(tiny_clip)))
    workspaces = Workspaces(startup.jobs.cancel)
    app = build_app(startup, workspaces)
    middleware = [Middleware(Heartbeats, pages=workspaces)]
    _, address, _ = app.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, app_kwargs={"middleware": middleware}, **launch_options()
    )
    startup.wait()
    yield startup, address, app, workspaces
    app.close()


@pytest.fixture(scope="module")
def served(tiny_flux, tiny_clip):
    with running(tiny_flux, tiny_clip) as served:
        yield served


@pytest.fixture
def url(served):
    return served[1]


@pytest.fixture
def lock(served):
    return served[0].wait().model.lock


def pruned(url: str, sparsity: float = 0.5) -> Client:
    client = client_of(url)
    client.predict("magnitude", "auto", sparsity, api_name="/prune")
    return client


def wait_until(true, seconds: float = SOON) -> float:
    begin = time.monotonic()
    while not true():
        assert time.monotonic() - begin < seconds
        time.sleep(0.01)
    return time.monotonic() - begin


def told(job) -> str:
    data = job.status().progress_data
    return data[0].desc if data else ""


def test_a_cancelled_job_stops_and_frees_its_place(url, lock):
    client = pruned(url)
    job = client.submit(*PICTURE, api_name="/generate")
    wait_until(lambda: not lock.free)
    job.cancel()
    assert wait_until(lambda: lock.free) < 5
    assert client.predict("a cat", 0, 2, api_name="/generate")[2]["seconds"] > 0  # the session is whole


def test_a_client_that_goes_away_leaves_no_work_behind(url, lock):
    client = pruned(url)
    stream = httpx.Client(timeout=SOON)
    session = client.session_hash
    index = next(one.fn_index for one in client.endpoints.values() if one.api_name == "/generate")
    body = {"data": [None, *PICTURE, 1, None], "fn_index": index, "session_hash": session}
    stream.post(f"{url}gradio_api/queue/join", json=body).raise_for_status()
    with stream.stream("GET", f"{url}gradio_api/queue/data", params={"session_hash": session}) as answer:
        next(answer.iter_lines())
        wait_until(lambda: not lock.free)
    stream.close()
    assert wait_until(lambda: lock.free) < 10


@contextmanager
def taken(lock):
    """Somebody holds the lock."""
    started, release = threading.Event(), threading.Event()

    def hold():
        with lock.hold():
            started.set()
            release.wait(SOON)

    thread = threading.Thread(target=hold)
    thread.start()
    assert started.wait(SOON)
    try:
        yield
    finally:
        release.set()
        thread.join(SOON)


def test_whoever_waits_is_told_the_place_in_line(url, lock):
    first, second = pruned(url), pruned(url)
    with taken(lock):
        ahead = first.submit("a cat", 1, 2, api_name="/generate")
        wait_until(lambda: "next in line" in told(ahead))
        behind = second.submit("a cat", 1, 2, api_name="/generate")
        wait_until(lambda: "2nd in line" in told(behind))
    assert ahead.result(SOON)[2]["clip"] == behind.result(SOON)[2]["clip"]


def test_light_calls_do_not_wait_for_a_generation(url, lock):
    client, other = pruned(url), pruned(url)
    layer = other.predict("magnitude", "auto", 0.4, api_name="/prune")["layers"][0]["name"]
    job = client.submit(*PICTURE, api_name="/generate")
    wait_until(lambda: not lock.free)
    other.predict(layer, "row", "kmeans", 2, api_name="/cluster")
    other.predict(layer, 0, 0.9, api_name="/set_cluster_sparsity")
    other.predict(layer, "row", "0-3", api_name="/selection")
    other.predict(f"{layer}:20", False, api_name="/set_sparsities")
    assert not job.done()
    job.cancel()
    wait_until(lambda: lock.free)


def test_calls_of_one_client_build_on_each_other_though_they_came_together(url):
    client = client_of(url)
    *layers, last = [one["name"] for one in client.predict("magnitude", "auto", 0.5, api_name="/prune")["layers"]][:5]
    wanted = {layer: 10 * place for place, layer in enumerate(layers, 1)}
    jobs = [client.submit(f"{layer}:{percent}", False, api_name="/set_sparsities") for layer, percent in wanted.items()]
    for job in jobs:
        job.result(SOON)
    plan = client.predict(f"{last}:90", False, api_name="/set_sparsities")
    found = {one["name"]: one["sparsity"] for one in plan["layers"]}
    assert {layer: round(100 * found[layer]) for layer in wanted} == wanted


def test_clients_at_the_same_time_get_bit_for_bit_what_each_gets_alone(url, tiny_flux, tiny_clip):
    layers = [one["name"] for one in client_of(url).predict("magnitude", "auto", 0.5, api_name="/prune")["layers"]]
    scripts = [script(seed, 8, layers) for seed in range(3)]
    together = play_together(url, scripts)
    with running(tiny_flux, tiny_clip) as (_, other, *_):  # nothing is known from before
        alone = [play(other, actions) for actions in scripts]
    for mine, expected in zip(together, alone, strict=True):
        assert [(one.action, one.digest) for one in mine] == [(one.action, one.digest) for one in expected]
    digests = [one.digest for mine in alone for one in mine if one.action.name == "generate"]
    assert len(set(digests)) == len(digests) >= 3  # they did not all draw the same


def test_many_waiting_calls_leave_room_for_others(url, lock):
    clients = [pruned(url) for _ in range(3)]
    with taken(lock):
        jobs = [client.submit("a cat", seed, 2, api_name="/generate") for client in clients for seed in range(15)]
        assert client_of(url).predict("magnitude", "auto", 0.3, api_name="/prune")["target"] == 0.3
        assert not any(job.done() for job in jobs)
        for job in jobs:
            job.cancel()
    wait_until(lambda: lock.free)


def test_what_a_client_holds_goes_with_it_but_not_in_a_gap(served):
    _, url, app, workspaces = served
    kept = app.state_holder.session_data
    workspaces.alone_seconds, before = 1.5, set(kept)
    client, gone = pruned(url, 0.25), pruned(url, 0.75)
    assert kept.keys() >= {client.session_hash, gone.session_hash}
    gone.close()
    client._refresh_heartbeat.set()  # it hangs up, and connects again
    wait_until(lambda: gone.session_hash not in kept)
    time.sleep(2.5)
    assert client.session_hash in kept
    assert client.predict(api_name="/save_recipe") is not None
    client.close()
    wait_until(lambda: kept.keys() <= before)


def test_what_a_client_without_a_connection_holds_goes_after_a_pause(served, monkeypatch):
    _, url, app, workspaces = served
    monkeypatch.setattr(workspaces_module, "SILENT_SECONDS", 1.0)
    page = "a-page-of-its-own"
    join = f"{url}gradio_api/queue/join"
    fn = next(i for i, one in app.fns.items() if one.api_name == "clusters")
    with httpx.Client(timeout=60) as http:
        http.post(join, json={"data": [None, "x"], "fn_index": fn, "session_hash": page}).raise_for_status()
        with http.stream("GET", f"{url}gradio_api/queue/data", params={"session_hash": page}) as answer:
            assert any("process_completed" in line for line in answer.iter_lines())
    wait_until(lambda: page not in app.state_holder.session_data)
    assert page not in workspaces._left
