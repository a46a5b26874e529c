"""The lock of a model: one piece of work at a time, re-entrant for its own, given up by whoever is cancelled."""

from __future__ import annotations

import contextvars
import threading

import pytest

from dit_prune_viz.errors import Cancelled
from dit_prune_viz.pipelines.lock import WAITING, ModelLock

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
