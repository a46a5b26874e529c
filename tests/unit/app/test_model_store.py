"""Several people and one memory: large models replace each other, small ones lie side by side."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from dit_prune_viz.app.session import model_store, people
from dit_prune_viz.app.session.jobs import Jobs, Result
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.people import ModelInUse
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.pipelines.lock import WAITING


@pytest.fixture
def store(tiny_clip):
    return ModelStore(clip=tiny_clip, device="cpu", dtype="float32")


@pytest.fixture
def large(monkeypatch):
    """Every model counts as a large one."""
    monkeypatch.setattr(model_store, "LARGE", 1000)


def load(session: Session, person: str, source) -> Session:
    """A job of the person's that loads a model."""
    *_, last = Jobs().run(person, lambda report: session.load_model(str(source), report))
    assert isinstance(last, Result)
    session.store.people.saw(person, last.value)
    return last.value


def test_small_models_lie_side_by_side_and_their_work_stands_in_one_line(store, tiny_flux, tiny_sd3):
    mine, yours = load(Session(store), "me", tiny_flux), load(Session(store), "you", tiny_sd3)
    assert not mine.model.away
    assert mine.model.lock is yours.model.lock
    assert mine.model.also_pruning("norm_out").lock is mine.model.lock


def test_a_load_waits_for_work_on_other_models(store, tiny_flux, tiny_sd3):
    """Diffusers changes torch's default dtype for all threads while it loads."""
    mine, told, waits = load(Session(store), "me", tiny_flux), [], threading.Event()

    def report(done: int, total: int, what: str) -> None:
        told.append(what)
        if what.startswith(WAITING):
            waits.set()

    with ThreadPoolExecutor(1) as pool:
        with mine.model.lock.hold():
            loading = pool.submit(Session(store).load_model, str(tiny_sd3), report)
            assert waits.wait(60)
            assert not loading.done()
        assert loading.result(60).model.name == "tiny-sd3"
    assert mine.model.lock.free
    assert told[0].startswith("Loading")


def test_one_person_switches_between_large_models_of_which_one_is_in_memory(store, large, tiny_flux, tiny_sd3):
    first = load(Session(store), "me", tiny_flux).calibrate(8, 0)
    first = first.prune(first.recipe)
    weights = weakref.ref(first.model.transformer)
    second = load(first, "me", tiny_sd3)
    gc.collect()
    assert weights() is None  # although the session of before is still in hand
    assert first.model.away
    assert not second.model.away
    with pytest.raises(UserError, match="left the memory"):
        first.calibrate(8, 0)
    again = load(first, "me", tiny_flux)
    assert not again.model.away
    assert second.model.away
    assert again.calibrate(8, 0).report == first.report  # the recipe came along


def test_a_large_model_that_others_use_stays(store, large, monkeypatch, tiny_flux, tiny_sd3):
    mine, yours = load(Session(store), "me", tiny_flux), load(Session(store), "you", tiny_flux)
    with pytest.raises(ModelInUse, match=r"1 other session uses tiny-flux, the last one .* ago, and .*tiny-sd3"):
        load(mine, "me", tiny_sd3)
    assert not mine.model.away
    mine.calibrate(8, 0)
    assert load(mine, "me", tiny_flux).model is mine.model  # the same one again takes nothing away
    monkeypatch.setattr(people, "IDLE_SECONDS", 1e-9)
    working, ended = threading.Event(), threading.Event()

    def work(report):
        with yours.model.lock.hold(report):
            working.set()
            ended.wait(30)

    thread = threading.Thread(target=lambda: list(Jobs().run("you", work)))
    thread.start()
    assert working.wait(30)
    with pytest.raises(ModelInUse, match="at this moment"):  # however long ago it began
        load(mine, "me", tiny_sd3)
    ended.set()
    thread.join(30)
    assert load(mine, "me", tiny_sd3).model.name == "tiny-sd3"
    with pytest.raises(UserError, match="load it again"):
        yours.need_model()


def test_who_left_does_not_keep_a_model(store, large, tiny_flux, tiny_sd3):
    mine, yours = load(Session(store), "me", tiny_flux), load(Session(store), "you", tiny_flux)
    assert yours.model is mine.model
    del yours
    gc.collect()
    assert load(mine, "me", tiny_sd3).model.name == "tiny-sd3"


def test_a_load_that_fails_after_the_model_before_has_left_says_so(store, large, monkeypatch, tiny_flux, tiny_sd3):
    mine = load(Session(store), "me", tiny_flux)

    def stop(settings, progress, say, make_room):
        make_room(10**6)
        raise Cancelled

    monkeypatch.setattr(model_store, "open_model", stop)
    with pytest.raises(UserError, match="tiny-flux had left the memory when loading was cancelled"):
        load(mine, "me", tiny_sd3)


def test_a_model_that_cannot_be_opened_takes_nothing_away(store, large, tiny_flux, tmp_path):
    mine = load(Session(store), "me", tiny_flux)
    with pytest.raises(UserError):
        load(mine, "me", tmp_path / "nothing")
    assert not mine.model.away


def test_a_new_visitor_does_not_get_a_model_that_has_left(store, large, tiny_flux, tiny_sd3):
    startup = Startup(Session(store), str(tiny_flux), Jobs())
    startup.start()
    prepared = startup.wait()
    mine = load(prepared, "me", tiny_sd3)
    assert prepared.model.away
    visitor = startup.wait()  # me is at work with the other model
    assert visitor.model is None or not visitor.model.away
    assert not mine.model.away
    assert "tiny-sd3" in startup.problem
