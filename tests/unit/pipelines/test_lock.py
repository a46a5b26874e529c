"""The lock of a model: one piece of work at a time, re-entrant for its own, given up by whoever is cancelled."""

from __future__ import annotations

import contextvars
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit_prune_viz.errors import Cancelled
from dit_prune_viz.pipelines.lock import WAITING, WORKER, ModelLock, Place

SOON = 10.0


def in_thread(work, context=None) -> threading.Thread:
    thread = threading.Thread(target=work if context is None else context.run, args=() if context is None else (work,))
    thread.start()
    return thread


def test_it_is_free_before_and_after_whatever_happens():
    lock = ModelLock()
    assert lock.free
    with lock.hold():
        assert not lock.free
        with lock.hold():
            assert not lock.free
        assert not lock.free
    assert lock.free
    with pytest.raises(ZeroDivisionError), lock.hold():
        raise ZeroDivisionError
    assert lock.free


def test_a_thread_with_a_copied_context_takes_it_again():
    lock, done = ModelLock(), threading.Event()

    def work():
        with lock.hold():
            done.set()

    with lock.hold():
        in_thread(work, contextvars.copy_context()).join(SOON)
        assert done.is_set()
        assert not lock.free  # the thread did not let go of what is not its own
    assert lock.free


def test_any_other_thread_waits_and_is_told_so():
    lock, told, entered = ModelLock(), [], threading.Event()
    waits = threading.Event()

    def progress(*step):
        told.append(step)
        waits.set()

    def work():
        with lock.hold(progress):
            entered.set()

    with lock.hold():
        thread = in_thread(work)
        assert waits.wait(SOON)
        assert not entered.is_set()
    thread.join(SOON)
    assert entered.is_set()
    assert set(told) == {(0, 1, f"{WAITING}: next in line")}
    assert lock.free


def test_a_copied_context_that_outlives_its_work_does_not_own_the_lock():
    lock, entered = ModelLock(), threading.Event()
    before = contextvars.copy_context()

    def work():
        with lock.hold():
            entered.set()

    with lock.hold():
        thread = in_thread(work, before)
        assert not entered.wait(0.5)
    thread.join(SOON)
    assert entered.is_set()


def test_waiting_can_be_cancelled():
    lock, caught = ModelLock(), []

    def stop(*_):
        raise Cancelled

    def work():
        try:
            with lock.hold(stop):
                caught.append("entered")
        except Cancelled:
            caught.append("cancelled")

    with lock.hold():
        in_thread(work).join(SOON)
        assert caught == ["cancelled"]
    assert lock.free  # and the one who gave up took nothing
    with lock.hold(stop):  # nobody waits for a free lock
        assert not lock.free


def test_two_models_have_two_locks():
    first, second = ModelLock(), ModelLock()
    with first.hold():
        assert second.free
        with second.hold():
            assert not second.free
        assert second.free
        assert not first.free


def test_whoever_waits_comes_before_work_that_takes_it_again_at_once():
    lock, order, waits = ModelLock(), [], threading.Event()

    def other():
        with lock.hold(lambda *_: waits.set()):
            order.append("other")

    with lock.hold():
        thread = in_thread(other)
        assert waits.wait(SOON)
    for _ in range(3):  # such as the cells of a comparison, with nothing in between
        with lock.hold():
            order.append("cell")
    thread.join(SOON)
    assert order == ["other", "cell", "cell", "cell"]


class Slow:
    """A worker that says that it still takes 40 s."""

    owner = "slow"

    def seconds_left(self) -> float:
        return 40.0

    def begins(self) -> None:
        pass


def test_whoever_waits_is_told_the_place_and_the_time_that_those_ahead_take():
    lock, told = ModelLock(), {"first": [], "second": []}
    waits = {name: threading.Event() for name in told}

    def wait(name: str, worker: object):
        WORKER.set(worker)

        def progress(done: int, total: int, what: str):
            told[name].append(what)
            waits[name].set()

        with lock.hold(progress):
            pass

    threads = []
    token = WORKER.set(Slow())
    with lock.hold():
        assert lock.owners == {"slow"}
        for name, worker in (("first", Slow()), ("second", None)):
            threads.append(in_thread(lambda name=name, worker=worker: wait(name, worker), contextvars.Context()))
            assert waits[name].wait(SOON)
        assert lock.end.ahead == 3
    WORKER.reset(token)
    for thread in threads:
        thread.join(SOON)
    assert told["first"][0] == f"{WAITING}: next in line, about 40 s"
    assert told["second"][0] == f"{WAITING}: 2nd in line"  # nobody knows how long the first one of them takes


@given(st.integers(1, 10_000))
def test_places_have_words(ahead):
    words = Place(ahead, 90.0).words
    name = words.removeprefix(f"{WAITING}: ").removesuffix(" in line, about 1 min 30 s")
    assert name == ("next" if ahead == 1 else f"{ahead}{name[-2:]}")
    teens = 10 < ahead % 100 < 20
    if ahead > 1:
        assert (name[-2:] == "th") == (teens or ahead % 10 not in (1, 2, 3))
