"""Actions: a sentence about what went wrong stays until something else is asked for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest

from dit_prune_viz.app.pages.actions import Actions
from dit_prune_viz.app.session.jobs import Jobs
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.errors import UserError

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
    after, bar, _ = actions.after_viewing("visitor", looked)
    assert after is looked
    assert "No such folder." in bar


def test_the_next_thing_that_is_asked_for_takes_the_sentence_away(actions, session):
    fail(actions)
    changed = replace(session)
    *_, (after, bar, _) = actions.run(VISITOR, None, lambda now, report: changed)
    assert after is changed
    assert "No such folder." not in bar
    assert "No such folder." not in actions.after_viewing("visitor", changed)[1]


def test_undo_takes_the_sentence_away_and_another_visitor_never_sees_it(actions, session):
    fail(actions)
    assert "No such folder." not in actions.after_viewing("another", session)[1]
    list(actions.undo(session, VISITOR))
    assert "No such folder." not in actions.after_viewing("visitor", session)[1]
