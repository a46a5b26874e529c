"""The log: one line of JSON for every action, and nothing in it that leads into a session."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest

from dit_prune_viz.app.pages.actions import Actions
from dit_prune_viz.app.pages.calls import Calls
from dit_prune_viz.app.session import action_log
from dit_prune_viz.app.session.comparison import check_prompts
from dit_prune_viz.app.session.jobs import Jobs
from dit_prune_viz.errors import UserError

SECRET = "a-session-id-that-nobody-may-read"


@pytest.fixture
def log(capsys):
    """Reads what was written since, a dictionary a line."""
    before = [logging.getLogger(f"dit_prune_viz{name}") for name in ("", ".prompts")]
    kept = [(one, one.level, list(one.handlers), one.propagate) for one in before]

    def set_up(**options):
        action_log.set_up(**options)
        return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]

    yield set_up
    for one, level, handlers, propagate in kept:
        one.setLevel(level)
        one.handlers, one.propagate = handlers, propagate


class Prepared:
    """Stands for the start-up of an app whose session is there."""

    early = problem = None

    def __init__(self, session):
        self._session, self.jobs = session, Jobs()

    def watch(self):
        return iter(())

    def wait(self):
        return self._session


def watched(ready, work) -> list:
    request = SimpleNamespace(session_hash=SECRET)
    return list(Actions(Jobs(), Prepared(ready)).watch(request, ready, work, step=None))


def test_an_action_is_one_line_with_its_time_and_a_digest(log, ready):
    def sharpen(session, report):
        return session

    read = log()
    watched(ready, sharpen)
    watched(ready, sharpen)
    first, second = read()
    assert {key: first[key] for key in ("action", "outcome", "level")} == {
        "action": "sharpen",
        "outcome": "ok",
        "level": "info",
    }
    assert isinstance(first["ms"], int)
    assert first["session"] == second["session"] == action_log.digest(SECRET)
    assert len(first["session"]) == 8
    assert SECRET not in json.dumps([first, second])
    assert action_log.digest("another") != first["session"]


def test_what_fails_says_how_but_not_with_which_words(log, ready):
    def refuse(session, report):
        raise UserError("the prompt 'my secret wish' is bad.")

    def fail(session, report):
        raise ZeroDivisionError

    read = log(verbose=True)
    for work in (refuse, fail):
        with pytest.raises(Exception):  # noqa: B017, PT011 - gradio's
            watched(ready, work)
    lines = [(line["action"], line["outcome"]) for line in read()]
    assert lines == [("refuse", "begun"), ("refuse", "refused"), ("fail", "begun"), ("fail", "failed")]


def test_a_client_that_goes_away_leaves_a_line(log, ready):
    read = log()
    request = SimpleNamespace(session_hash=SECRET)

    def slow(session, report):
        report.emit("a picture")
        report.cancel.wait(10)

    actions = Actions(Jobs(), Prepared(ready))
    stream = actions.watch(request, ready, slow, step=None)
    assert next(stream) == "a picture"
    stream.close()
    (work,) = actions.workspace(request).works
    actions.leave(request)  # the page had no id that anybody could come back with
    assert work.over.wait(10)
    assert [line["outcome"] for line in read()] == ["cancelled"]


def test_the_api_has_lines_as_well(log, ready):
    read = log()
    calls, request = Calls(Prepared(ready)), SimpleNamespace(session_hash=SECRET)

    def load_model(session):
        return calls.look(request, session, lambda s: s.need_model().name)

    assert load_model(ready) == "tiny-flux"
    with pytest.raises(Exception, match="no folder"):
        calls.look(request, ready, lambda s: s.load_model("no folder"))
    lines = read()
    assert [line["outcome"] for line in lines] == ["ok", "refused"]
    assert lines[0]["action"] == "load_model"


def test_prompts_are_written_only_where_that_is_asked_for(log, ready):
    read = log(verbose=True)
    check_prompts(ready.model, "my secret wish", 0, 2)
    assert "my secret wish" not in json.dumps(read())
    read = log(prompts=True)
    check_prompts(ready.model, "my\nwish", 0, 2)
    assert [line["prompts"] for line in read()] == [["my\nwish"]]


def test_no_text_can_begin_a_line_of_its_own(log):
    read = log()
    action_log.write(action='x\n{"time": 0, "forged": true}\u2028')
    (line,) = read()
    assert "forged" not in line
