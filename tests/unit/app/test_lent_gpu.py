"""A Space that lends GPUs: the same pictures and numbers from another process, whatever state the app is in."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from zero_gpu import ZeroGpu

from dit_prune_viz.app.session import lent_gpu
from dit_prune_viz.app.session.comparison import check_prompts, compare
from dit_prune_viz.app.session.jobs import Busy, Jobs, Result
from dit_prune_viz.app.session.lent_gpu import LentGpu, refusal
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.plain_values import from_plain, to_plain
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import AppSettings, start
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pruning.recipe import Recipe

WORDS = "a red cat"


@pytest.fixture(autouse=True)
def one_thread():
    """As in the other process: sums of several threads differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def space():
    return ZeroGpu()


@pytest.fixture
def lent(space, tiny_clip):
    """A store whose model work is lent."""
    store = ModelStore(clip=tiny_clip, device="cpu", dtype="float32")
    store.work = LentGpu(space, store.times, device="cpu")
    return store


def calibrated(store, folder) -> Session:
    return Session(store).load_model(str(folder)).calibrate(8, 0)


def pixels(comparison) -> list[np.ndarray]:
    return [np.asarray(image) for side in (comparison.left, comparison.right) for image in side.images]


def test_the_same_as_without(lent, space, store, tiny_flux):
    here, there = calibrated(store, tiny_flux), calibrated(lent, tiny_flux)
    assert there.calibration.key == here.calibration.key
    for recipe in (Recipe("wanda", sparsity=0.5), Recipe("stw", sparsity=0.5, update="mean")):
        ask = {"prompts": [WORDS, "a dog"], "seed": 1, "steps": 3}
        mine, theirs = compare(here.prune(recipe), **ask), compare(there.prune(recipe), **ask)
        for one, other in zip(pixels(mine), pixels(theirs), strict=True):
            np.testing.assert_array_equal(one, other)
        assert theirs.right.clips == mine.right.clips
    assert space.forks == 1  # one process served all calls, as an idle one of ZeroGPU does


def test_dense_weights_stay_as_they_were(lent, tiny_flux):
    session = calibrated(lent, tiny_flux)
    before = {name: value.clone() for name, value in session.model.transformer.state_dict().items()}
    compare(session.prune(Recipe(sparsity=0.7)), WORDS, 0, 2)
    assert all(torch.equal(value, before[name]) for name, value in session.model.transformer.state_dict().items())


def test_a_process_forked_before_a_model_was_opened_opens_it_itself(lent, space, store, tiny_flux, tiny_sd3):
    first = calibrated(lent, tiny_flux)
    second, here = calibrated(lent, tiny_sd3), calibrated(store, tiny_sd3)
    assert space.forks == 1
    recipe = Recipe(sparsity=0.4)
    theirs, mine = compare(second.prune(recipe), WORDS, 2, 2), compare(here.prune(recipe), WORDS, 2, 2)
    np.testing.assert_array_equal(pixels(theirs), pixels(mine))
    assert len(pixels(compare(first.prune(recipe), WORDS, 2, 2))) == 2


def test_no_lock_of_another_thread_matters(lent, tiny_flux):
    """At the fork another thread holds what it would never let go of in the new process."""
    session = Session(lent).load_model(str(tiny_flux))
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with session.model.cache._lock, lent._clip_lock, lent.times._lock:
            held.set()
            release.wait(60)

    asked = (WORDS,), 8, 0, 2, 10
    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    # Begun by hand: in the app's own process the call itself needs those locks.
    serve = lent.work._lent("calibrate", session.model.number, session.model.settings, to_plain(asked), 60)
    lent.work._models[session.model.number] = session.model
    results = [kind for kind, _ in serve]
    release.set()
    assert results[0] == "began"
    assert results[-1] == "done"


def test_progress_comes_back_and_a_cancelled_job_stops_there(lent, space, tiny_flux):
    session = calibrated(lent, tiny_flux).prune(Recipe(sparsity=0.5))
    jobs, told = Jobs(), []

    def work(report):
        return compare(session, WORDS, 0, 150, progress=report)

    def follow() -> None:
        for update in jobs.run("me", work):
            told.append(update)
            if isinstance(update, Busy) and update.done > 1:
                jobs.cancel("me")

    with pytest.raises(Cancelled):
        follow()
    assert not any(isinstance(one, Result) for one in told)
    after = compare(session, WORDS, 0, 2)
    assert len(after.right.images) == 1
    assert space.forks == 1  # the process is idle again


def test_a_mistake_is_told_as_here(lent, tiny_flux):
    session = calibrated(lent, tiny_flux).prune(Recipe(sparsity=0.5))
    name, layer = next(iter(session.pruned.layers.items()))
    wrong = PrunedLayer(pack(torch.ones(2, 3, dtype=torch.bool)))
    requests = (replace(_request(session), prompt=WORDS),)
    steps = lent.work.stream(session.model, requests, layers={name: wrong}, preview_every=0, told=lambda done: None)
    with pytest.raises(UserError) as told:
        list(steps)
    assert layer.mask.shape != wrong.mask.shape
    assert "\n" not in str(told.value)


def _request(session: Session):
    return check_prompts(session.model, WORDS, 0, 2)[0]


SAID = {
    "ZeroGPU quota exceeded": "You have exceeded your free ZeroGPU quota (60s requested vs. 3s left). <b>Pro</b>",
    "ZeroGPU pending credits exceeded": "You have too many ZeroGPU credits allocated to running tasks.",
    "ZeroGPU illegal duration": "The requested GPU duration (120s) is larger than the maximum allowed",
    "ZeroGPU queue timeout": "No GPU was available after 60s. <a>Subscribe</a>",
    "ZeroGPU client error": "No GPU was available",
}


@pytest.mark.parametrize("title", SAID)
def test_what_zerogpu_refuses_is_one_sentence(lent, space, tiny_flux, title):
    space.refuses = title, SAID[title]
    session = Session(lent).load_model(str(tiny_flux))
    with pytest.raises(UserError) as told:
        session.calibrate(8, 0)
    sentence = str(told.value)
    assert sentence.endswith(".")
    assert not set("<>\n") & set(sentence)
    assert ("no GPU time left" in sentence) == ("quota" in title or "credits" in title)
    space.refuses = None
    assert session.calibrate(8, 0).calibration is not None


def test_a_killed_process_is_told_and_asks_for_more_time(lent, space, tiny_flux):
    session = Session(lent).load_model(str(tiny_flux))
    space.dies = True
    with pytest.raises(UserError, match="taken back"):
        session.calibrate(8, 0)
    space.dies = False
    assert session.calibrate(8, 0).calibration.samples == 8
    assert space.durations == [lent_gpu.UNKNOWN_SECONDS, lent_gpu.MOST_SECONDS]


def test_durations_follow_from_what_was_measured(lent, space, tiny_flux):
    session = calibrated(lent, tiny_flux).prune(Recipe(sparsity=0.5))
    requests = (_request(session),)

    def draw(steps: int) -> int:
        asked = tuple(replace(one, steps=steps) for one in requests)
        list(lent.work.stream(session.model, asked, layers={}, preview_every=0, told=lambda done: None))
        return space.durations[-1]

    assert draw(2) == lent_gpu.UNKNOWN_SECONDS
    assert draw(2) == lent_gpu.LEAST_SECONDS
    (key,) = [key for key, seconds in lent.times._known.items() if seconds and seconds < 60][-1:]
    lent.times.put(key, 2.0)
    assert draw(5) == lent_gpu.OPENING_SECONDS + 15  # 1.5 · 2 s · 5
    lent.times.put(key, 100.0)
    assert draw(5) == lent_gpu.MOST_SECONDS


def test_another_error_is_no_refusal():
    assert refusal(ValueError("x"), 60) is None


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
        torch.zeros(0, 4),
        torch.tensor(3.5),
        Image.effect_noise((8, 5), 20).convert("RGB"),
        {"a": (1, "b", None, [torch.ones(2, dtype=torch.bool)])},
    ],
)
def test_plain_values_come_back_as_they_were(value):
    back = from_plain(to_plain(value))
    if isinstance(value, dict):
        one, text, nothing, (flags,) = back["a"]
        assert (one, text, nothing) == (1, "b", None)
        assert flags.all()
    elif isinstance(value, torch.Tensor):
        assert back.dtype == value.dtype
        assert torch.equal(back, value)
    else:
        assert back.tobytes() == value.tobytes()


def test_the_app_itself_has_no_gpu_where_one_is_lent(space, tiny_flux, tiny_clip, monkeypatch):
    """The package lets torch say that there is CUDA everywhere. Nobody's quota pays for what is done at the start."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    space.refuses = "ZeroGPU quota exceeded", "Space app has reached its GPU limit."
    startup = start(AppSettings(LoadSettings(str(tiny_flux), dtype="float32"), str(tiny_clip), lend=space))
    session = startup.wait()
    assert session.model.device.type == "cpu"
    assert session.calibration is None
    assert "no GPU time left" in startup.problem


def test_a_known_calibration_asks_for_no_gpu(lent, space, bundled, tmp_path):
    session = Session(ModelStore(clip="", disk=DiskCache(tmp_path)), model=bundled)
    session.store.work = lent.work
    assert session.calibrate(128, 0).calibration.samples == 128  # the bundled model's own
    assert space.durations == []


def test_only_a_space_that_lends_is_asked(monkeypatch):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert lent_gpu.lent_by_space() is None
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert lent_gpu.lent_by_space() is None
