"""Jobs: progress, results, mistakes, cancel at every moment, and an owner's jobs one after another."""

from __future__ import annotations

import os
import sys
import threading
import time
from itertools import islice

import pytest

from dit_prune_viz.app.session.jobs import Busy, Jobs, Queued, Reporter, Result
from dit_prune_viz.app.session.priority import LATER
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.pipelines.lock import ModelLock


def endless(stopped: threading.Event):
    """Work that goes on until it is cancelled."""

    def work(report: Reporter) -> None:
        try:
            while True:
                report(1, 4, "working")
                time.sleep(0.01)
        finally:
            stopped.set()

    return work


def test_progress_emitted_items_and_the_result_come_through():
    seen = threading.Event()

    def work(report: Reporter) -> str:
        report(1, 4, "a quarter")
        assert seen.wait(5)
        report.emit("picture")
        return "done"

    running = Jobs().run("me", work)
    first = next(running)
    assert (first.done, first.total, first.what, first.share) == (1, 4, "a quarter", 0.25)
    seen.set()
    assert list(running) == ["picture", Result("done")]


@pytest.mark.parametrize("second", [(1, 8), (0, 4), (1, 4)], ids=["longer", "from nothing", "as long"])
def test_time_left_of_a_stage_does_not_count_the_one_before(monkeypatch, second):
    clock = [0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    report = Reporter()
    for now, (done, total) in ((0, (1, 4)), (100, (2, 4)), (300, (4, 4)), (301, second), (303, (2, second[1]))):
        clock[0] = now
        report(done, total, "working")
    left = [report.messages.get().seconds_left for _ in range(5)]
    assert left[1] == 100
    assert left[3] is None
    assert left[4] == 2 / 2 * (second[1] - 2)


def test_a_failure_is_raised_where_the_job_is_watched_and_the_next_job_runs():
    jobs, failure = Jobs(), UserError("No.")

    def work(report: Reporter) -> None:
        raise failure

    with pytest.raises(UserError) as caught:
        list(jobs.run("me", work))
    assert caught.value is failure
    assert list(jobs.run("me", lambda report: 7)) == [Result(7)]


def test_cancel_in_the_middle_stops_the_owner_s_job_and_no_other():
    jobs, stopped = Jobs(), threading.Event()
    running = jobs.run("me", endless(stopped))
    assert isinstance(next(running), Busy)
    assert not jobs.cancel("you")
    assert not stopped.is_set()
    assert jobs.cancel("me")
    with pytest.raises(Cancelled):
        list(running)
    assert stopped.wait(2)
    assert not jobs.cancel("me")


def test_a_job_that_is_cancelled_while_it_waits_never_begins():
    jobs, began, stopped = Jobs(), threading.Event(), threading.Event()
    first = jobs.run("me", endless(stopped))
    assert isinstance(next(first), Busy)
    second = jobs.run("me", lambda report: began.set())
    assert next(second) == Queued()
    jobs.cancel("me")
    with pytest.raises(Cancelled):
        list(second)
    with pytest.raises(Cancelled):
        list(first)
    assert not began.is_set()


def test_a_job_that_ends_before_it_notices_the_cancel_gives_no_result():
    jobs, cancelled, updates = Jobs(), threading.Event(), []

    def work(report: Reporter) -> str:
        report(0, 1, "last words")
        assert cancelled.wait(5)
        return "too late"

    running = jobs.run("me", work)
    updates.append(next(running))
    jobs.cancel("me")
    cancelled.set()
    with pytest.raises(Cancelled):
        updates.extend(running)
    assert not any(isinstance(update, Result) for update in updates)


def test_one_job_of_an_owner_can_be_stopped_by_itself():
    jobs, stopped, stop = Jobs(), threading.Event(), threading.Event()
    mine = jobs.run("me", endless(stopped), cancel=stop)
    next(mine)
    behind = jobs.run("me", lambda report: 7)
    assert next(behind) == Queued(1)
    stop.set()
    with pytest.raises(Cancelled):
        list(mine)
    assert list(behind)[-1] == Result(7)


def test_leaving_a_job_cancels_it_and_lets_the_next_one_begin():
    jobs, stopped = Jobs(), threading.Event()
    running = jobs.run("me", endless(stopped))
    next(running)
    running.close()
    assert stopped.wait(2)
    assert list(jobs.run("me", lambda report: 7)) == [Result(7)]


def test_an_owner_s_jobs_run_one_after_another_in_order():
    jobs, order, release = Jobs(), [], threading.Event()

    def first(report: Reporter) -> None:
        report(0, 1, "waiting")
        assert release.wait(5)
        order.append("first")

    ahead = jobs.run("me", first)
    next(ahead)
    behind = [jobs.run("me", lambda report, name=name: order.append(name)) for name in ("second", "third")]
    for place, waiting in enumerate(behind, 1):
        assert set(islice(waiting, 2)) == {Queued(place)}
    release.set()
    assert list(ahead) == [Result(None)]
    for waiting in behind:
        list(waiting)
    assert order == ["first", "second", "third"]


def test_jobs_of_two_owners_run_at_the_same_time():
    jobs, stopped = Jobs(), threading.Event()
    mine = jobs.run("me", endless(stopped))
    next(mine)
    assert list(jobs.run("you", lambda report: 7)) == [Result(7)]
    mine.close()


@pytest.mark.skipif(sys.platform != "linux", reason="no niceness of a thread elsewhere")
def test_work_on_a_model_lets_light_work_go_first():
    lock, own = ModelLock(), os.getpriority(os.PRIO_PROCESS, 0)

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def light(report: Reporter) -> list[int]:
        return [niceness()]

    def heavy(report: Reporter) -> list[int]:
        found = [niceness()]
        with lock.hold(report):
            found.append(niceness())
            helper = threading.Thread(target=lambda: found.append(niceness()))
            helper.start()
            helper.join()
        return found

    (found,) = Jobs().run("one", heavy)
    assert found.value == [own, max(own, LATER), max(own, LATER)]
    (found,) = Jobs().run("two", light)
    assert found.value == [own]
    assert niceness() == own
