"""Actions: a sentence about what went wrong stays until something else is asked for."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from dit_prune_viz.app.pages.actions import Actions
from dit_prune_viz.app.session.jobs import Jobs
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.errors import UserError
from dit_prune_viz.pruning.recipe import Recipe

VISITOR = SimpleNamespace(session_hash="visitor")


@pytest.fixture
def session() -> Session:
    return Session(ModelStore(clip="none", device="cpu", dtype="float32"))


@pytest.fixture
def actions(session):
    jobs = Jobs()
    startup = Startup(session, "none", jobs)
    startup._done.set()
    return Actions(jobs, startup)


def fail(actions: Actions) -> None:
    def work(session, report):
        raise UserError("No such folder.")

    with pytest.raises(gr.Error, match="No such folder"):
        list(actions.run(VISITOR, None, work))


def test_work_that_only_looks_leaves_the_sentence_there(actions, session):
    fail(actions)
    looked = replace(session)
    list(actions.watch(VISITOR, None, lambda now, report: looked, step=None))
    after, bar, _ = actions.after_viewing(VISITOR, looked)
    assert after is looked
    assert "No such folder." in bar


def test_the_next_thing_that_is_asked_for_takes_the_sentence_away(actions, session):
    fail(actions)
    changed = replace(session)
    *_, (after, bar, _) = actions.run(VISITOR, None, lambda now, report: changed)
    assert after is changed
    assert "No such folder." not in bar
    assert "No such folder." not in actions.after_viewing(VISITOR, changed)[1]


def test_looking_does_not_wait_for_other_work_and_both_stay(actions, session):
    """A layer is opened while something else runs: at once, without a word in the bar, and neither loses the other."""
    go_on, working = threading.Event(), threading.Event()
    mine, found = Recipe("wanda"), Clusters("row", "kmeans", np.zeros(3, np.int16), 1)

    def change(now, report):
        working.set()
        assert go_on.wait(30)
        return replace(now, recipe=mine)

    def look(now, report):
        report(0, 1, "Clustering")
        return replace(now, clusters={**now.clusters, "layer": found}, asked={"layer": ("row", "kmeans", 1)})

    slow = threading.Thread(target=lambda: list(actions.watch(VISITOR, session, change)))
    slow.start()
    assert working.wait(30)
    *_, looked = actions.watch(VISITOR, session, look, step=None, looks=True)
    assert actions.newest(VISITOR) is looked.value
    assert looked.value.clusters == {"layer": found}
    assert [type(one) for one in actions.after_viewing(VISITOR, looked.value)[1:]] == [type(gr.skip())] * 2
    go_on.set()
    slow.join(30)
    both = actions.newest(VISITOR)
    assert (both.recipe, both.clusters, both.asked) == (mine, {"layer": found}, {"layer": ("row", "kmeans", 1)})
    list(actions.undo(both, VISITOR))
    back = actions.newest(VISITOR)
    assert (back.recipe, back.clusters) == (session.recipe, {"layer": found})


def test_what_was_changed_meanwhile_is_not_undone_by_looking(actions, session):
    old, new = (Clusters("row", kind, np.zeros(3, np.int16), 1) for kind in ("kmeans", "gmm"))
    go_on, looking = threading.Event(), threading.Event()

    def look(now, report):
        looking.set()
        assert go_on.wait(30)
        return replace(now, clusters={"layer": old})

    slow = threading.Thread(target=lambda: list(actions.watch(VISITOR, session, look, step=None, looks=True)))
    slow.start()
    assert looking.wait(30)
    list(actions.watch(VISITOR, session, lambda now, report: replace(now, clusters={"layer": new})))
    go_on.set()
    slow.join(30)
    assert actions.newest(VISITOR).clusters == {"layer": new}


def test_cancel_stops_looking_too(actions, session):
    def look(now, report):
        while True:
            report(0, 1, "Clustering")
            time.sleep(0.01)

    updates = actions.watch(VISITOR, session, look, step=None, looks=True)
    next(updates)
    actions.cancel(VISITOR)
    *_, (_, bar, _) = updates
    assert "Cancelled" in bar


def test_undo_takes_the_sentence_away_and_another_visitor_never_sees_it(actions, session):
    fail(actions)
    assert "No such folder." not in actions.after_viewing(SimpleNamespace(session_hash="another"), session)[1]
    list(actions.undo(session, VISITOR))
    assert "No such folder." not in actions.after_viewing(VISITOR, session)[1]
