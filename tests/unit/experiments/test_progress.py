"""Lines of progress: how far, and how long by the pace of the stage that runs."""

from __future__ import annotations

import pytest

from dit_prune_viz.experiments import progress
from dit_prune_viz.experiments.progress import TerminalProgress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_time_left_is_by_the_pace_of_the_stage(clock, capsys):
    tell = TerminalProgress(silent=False, unit="steps")
    for seconds, done in ((0, 0), (10, 10), (10, 20)):
        clock[0] += seconds
        tell(done, 40, "Drawing")
    clock[0] += 10
    tell(0, 78, "Looking")
    clock[0] += 6
    tell(6, 78, "Looking")
    clock[0] += 1
    tell(7, 78, "Looking")  # too soon for another line
    clock[0] += 600
    tell(0, 78, "Again")
    assert capsys.readouterr().err.splitlines() == [
        "[0/40 steps] Drawing",
        "[10/40 steps, about 30 s left] Drawing",
        "[20/40 steps, about 20 s left] Drawing",
        "[0/78 steps] Looking",
        "[6/78 steps, about 1 min 12 s left] Looking",
        "[0/78 steps] Again",
    ]


def test_a_silent_one_says_nothing(clock, capsys):
    TerminalProgress(silent=True)(1, 2, "Drawing")
    assert capsys.readouterr() == ("", "")
