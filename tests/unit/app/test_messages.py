"""What the server tells a widget's script, and how the scripts are put together."""

from __future__ import annotations

import json

import pytest

from dit_prune_viz.app.widgets import cluster_table, messages, threshold_line
from dit_prune_viz.app.widgets.scripts import APP, script


def test_a_value_says_when_its_computation_began():
    assert json.loads(messages.value(12.5, rows=[1, 2], note="ä")) == {"at": 12.5, "rows": [1, 2], "note": "ä"}


def test_values_begun_before_an_answer_are_older_than_it_and_those_begun_after_are_newer():
    before = messages.now()
    answered = messages.answer(3, changed=True).props["answered"]
    after = messages.now()
    assert before <= answered["at"] <= after
    assert answered["number"] == 3


def test_an_answer_brings_the_value_of_its_own_time_along():
    props = messages.answer(3, changed=True, show=lambda at: messages.value(at, rows=[])).constructor_args
    assert json.loads(props["value"]) == {"at": props["answered"]["at"], "rows": []}
    assert "value" not in messages.answer(3, changed=False, show=lambda at: "none").constructor_args


def test_an_event_that_changed_nothing_makes_no_value_outdated():
    assert messages.answer(4, changed=False).props["answered"] == {"number": 4, "at": None}


@pytest.mark.parametrize("widget", [cluster_table.table, lambda: threshold_line.line("dots")], ids=["table", "line"])
def test_a_widget_starts_without_an_answer_and_with_the_browser_s_end_of_the_protocol(widget):
    made = widget()
    assert made.props["answered"] == {"number": 0, "at": None}
    before, after = made.js_on_load.index("function messages("), made.js_on_load.index("= messages({")
    assert before < after


def test_a_script_is_its_files_in_the_order_they_are_named():
    names = ("widgets/shared.js", "widgets/runs_strip.js")
    first, second = (APP.joinpath(name).read_text(encoding="utf-8") for name in names)
    assert script(*names) == f"{first}\n{second}"
    with pytest.raises(FileNotFoundError):
        script("widgets/nothing.js")
