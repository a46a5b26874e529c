"""The workbench without the page: the board of layers, the evidence, named versions, and jobs that give way."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from sessions import pruned_by

from dit_prune_viz.app.pages.actions import Actions, Frame
from dit_prune_viz.app.pages.compare.layout import CompareLayout, lay_out
from dit_prune_viz.app.pages.compare.listeners import CompareListeners
from dit_prune_viz.app.session import drawn_model, evidence, versions
from dit_prune_viz.app.session.board import cells, kinds_of, sensitivity_ranks, set_overall
from dit_prune_viz.app.session.comparison import compare
from dit_prune_viz.app.session.evidence import dot_of, evidence_figure
from dit_prune_viz.app.session.jobs import GaveWay, Jobs, Result
from dit_prune_viz.app.session.layer_edits import set_layers
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Sensed, Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.app.session.tradeoff import SIZE
from dit_prune_viz.app.session.versions import find_version, open_version, save_version
from dit_prune_viz.app.widgets import layer_board
from dit_prune_viz.caching import nbytes
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.experiments.results import Row
from dit_prune_viz.experiments.table import Unit
from dit_prune_viz.figures.style import message


def with_sensitivity(session: Session) -> Session:
    """Errors that fall from the first layer to the last."""
    names = [layer.name for layer in session.model.layers]
    errors = {name: 1 / (place + 1) for place, name in enumerate(names)}
    return replace(session, sensed=(Sensed(session.recipe, errors),))


def test_the_board_has_a_cell_per_layer_with_what_was_set_and_sensed(ready):
    name = ready.model.layers[3].name
    session = with_sensitivity(set_layers(ready, {name: 0.9}))
    found = {cell.name: cell for cell in cells(session)}
    assert list(found) == [layer.name for layer in ready.model.layers]
    assert found[name].share == pytest.approx(0.9, abs=0.01)
    assert [cell.name for cell in found.values() if cell.by_hand] == [name]
    assert set(kinds_of(session)) == {layer.kind for layer in ready.model.layers}
    many = len(found)
    ranks = sensitivity_ranks(session)
    assert [sum(rank == own for rank in ranks.values()) for own in range(4)] == [
        sum(4 * place // many == own for place in range(many)) for own in range(4)
    ]
    assert ranks[ready.model.layers[0].name] == 3
    assert {cell.rank for cell in cells(ready)} == {None}
    sent = json.loads(layer_board.show(session, 1.0))
    assert [cell["name"] for cell in sent["cells"] if cell["hand"]] == [name]
    assert sent["sensed"]
    assert json.loads(layer_board.show(None))["cells"] == []


def test_the_whole_model_is_set_by_its_recipe(ready):
    session = set_overall(ready, 0.7)
    assert session.recipe.sparsity == 0.7
    assert session.plan.by_hand == frozenset()
    assert {name: mask.bits.tolist() for name, mask in session.masks.items()} == {
        name: mask.bits.tolist() for name, mask in ready.prune(ready.recipe.at(0.7)).masks.items()
    }
    assert set_overall(ready, 0.5) is ready
    layer = ready.model.layers[0].name
    tuned = set_overall(set_layers(ready, {layer: 0.9}), 0.7)  # the layer stays, the others make up for it
    assert tuned.report.achieved == pytest.approx(0.7, abs=0.002)
    assert {cell.name: cell.share for cell in cells(tuned) if cell.by_hand} == {layer: pytest.approx(0.9, abs=0.01)}
    for wrong in (1.5, -0.1, None, "half", True):
        with pytest.raises(UserError):
            set_overall(ready, wrong)


def test_runs_of_plans_are_dots_and_parts_are_none(ready):
    runs = Runs()
    other = pruned_by(ready, "magnitude", "layer", 0.25)
    one = runs.add(other, drawn_model.of_session(other), compare(other, ["a cat", "two dogs"], 4, 2))
    layer = ready.model.layers[0].name
    part = drawn_model.of_cluster(ready.cluster(layer, k=2), layer, 0, drawn_model.WITHOUT)
    runs.add(ready, part, compare(ready, "a cat", 4, 2))
    dot = dot_of(runs.find(1), runs, "ssim", "sparsity", Unit("MB", 1e6))
    ssims = one.comparison.ssims
    assert (dot.x, dot.mean) == (pytest.approx(100 * other.report.achieved), pytest.approx(sum(ssims) / 2))
    assert dot.spread == pytest.approx(abs(ssims[0] - ssims[1]) / 2**0.5)
    assert not dot.alike  # the run that is shown drew another prompt
    figure = evidence_figure(ready, runs)
    assert [data[0] for trace in figure.data for data in trace.customdata] == [1]
    clip = evidence_figure(ready, runs, "clip")
    assert clip.data[0].y[0] == pytest.approx(one.comparison.right.clip)
    assert evidence_figure(ready, Runs(), "odd", "odd") == message(evidence_figure(None, Runs()).layout.meta["alt"])
    assert evidence_figure(ready, Runs(), over=SIZE).data == ()


@pytest.fixture
def kept(ready, tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "versions_folder", lambda session: tmp_path)
    return ready


def test_a_version_brings_its_plan_name_and_prompts_back(kept, tmp_path):
    tuned = set_layers(kept, {kept.model.layers[2].name: 0.8}, keep_overall=True)
    named, version = save_version(tuned, " spared  first ", ("a cat", "two dogs"), 4, 7)
    assert drawn_model.name_of_session(named).startswith("spared first, ")
    assert [path.name for path in tmp_path.iterdir()] == [f"{version.id}.json"]
    found = find_version(kept, version.id)
    assert (found, found.prompts, found.seed, found.steps) == (version, ("a cat", "two dogs"), 4, 7)
    opened = open_version(kept, found)
    assert {name: mask.bits.tolist() for name, mask in opened.masks.items()} == {
        name: mask.bits.tolist() for name, mask in tuned.masks.items()
    }
    assert drawn_model.name_of_session(opened) == drawn_model.name_of_session(named)
    assert save_version(tuned, "spared first", ("a cat", "two dogs"), 4, 7)[1].id == version.id


@pytest.mark.parametrize("id", [None, 3, "", "../secret", "0" * 15, "0" * 16, "G" * 16, ["0" * 16]])
def test_a_link_to_no_version_is_a_sentence(kept, tmp_path, id):
    (tmp_path / "secret.json").write_text("{}")
    with pytest.raises(UserError, match="leads to no saved version"):
        find_version(kept, id)


def test_a_broken_version_is_a_sentence_and_too_many_are_refused(kept, tmp_path, monkeypatch):
    for text in ("", "[]", "{}", '{"format": 2}', '{"format": 1, "name": "x", "odd": 1, "prompts": []}'):
        (tmp_path / f"{'a' * 16}.json").write_text(text)
        with pytest.raises(UserError, match="leads to no saved version"):
            find_version(kept, "a" * 16)
    monkeypatch.setattr(versions, "MOST", 1)
    with pytest.raises(UserError, match="saved versions"):
        save_version(kept, "one more")
    monkeypatch.setattr(versions, "MOST_BYTES", 10)
    with pytest.raises(UserError, match="too large"):
        save_version(kept, "large")


def test_work_that_gives_way_stops_for_the_next_job_of_its_owner_alone():
    jobs, begun = Jobs(), threading.Event()

    def work(report):
        begun.set()
        while True:
            report(0, 1, "drawing")
            threading.Event().wait(0.01)

    def watch(found: SimpleNamespace) -> None:
        try:
            list(jobs.run("anne", work, gives_way=True))
        except Cancelled as stopped:
            found.stopped = stopped

    found = SimpleNamespace(stopped=None)
    thread = threading.Thread(target=watch, args=(found,))
    thread.start()
    assert begun.wait(5)
    assert list(jobs.run("bert", lambda report: "other"))[-1] == Result("other")
    assert thread.is_alive()
    assert list(jobs.run("anne", lambda report: "mine"))[-1] == Result("mine")
    thread.join(5)
    assert isinstance(found.stopped, GaveWay)

    begun.clear()
    thread = threading.Thread(target=watch, args=(found,))
    thread.start()
    assert begun.wait(5)
    jobs.cancel("anne")  # a person who cancels means it
    thread.join(5)
    assert type(found.stopped) is Cancelled


@pytest.fixture
def page(ready):
    """The listeners of the page, of a visitor who begins with the session."""
    jobs = Jobs()
    startup = Startup(ready, "none", jobs)
    startup._done.set()
    actions = Actions(jobs, startup)
    with gr.Blocks():
        frame, layout = Frame(gr.State(None), gr.HTML(), gr.Button(), gr.State(None)), lay_out()
    visitor = SimpleNamespace(session_hash="anne")
    return SimpleNamespace(
        actions=actions, listeners=CompareListeners(frame, actions, layout), layout=layout, visitor=visitor
    )


ASKED = ("a cat\nthe moon", 4, 20, 1, None)


def labels(updates: list[tuple], layout: CompareLayout) -> list[str]:
    """What B is called, one after another."""
    place = 3 + layout.outputs.index(layout.pictures.right)
    called = [getattr(update[place], "label", None) for update in updates]
    return [label for label, before in zip(called, [None, *called], strict=False) if label and label != before]


def bars(updates: list[tuple]) -> str:
    return " ".join(str(update[1]) for update in updates)


def test_a_change_is_drawn_as_a_draft_and_then_in_full_without_the_dense_side(page, ready):
    runs, listeners, actions = Runs(), page.listeners, page.actions
    view = ("ssim", "sparsity")

    def redraw(on: bool = True) -> list[tuple]:
        return list(listeners.redraw(ready, runs, *view, on, *ASKED, page.visitor))

    assert len(redraw()) == 1  # nothing was ever drawn
    list(listeners.generate(ready, runs, *view, *ASKED, page.visitor))
    assert len(runs.runs) == 1
    assert len(redraw()) == 1  # nothing has changed
    layer = ready.model.layers[0].name
    list(actions.run(page.visitor, ready, lambda now, report: set_layers(now, {layer: 0.9}, keep_overall=True)))
    assert len(redraw(on=False)) == 1
    updates = redraw()
    assert len(runs.runs) == 2
    assert runs.shown.session.plan is actions.newest(page.visitor).plan
    first, *_, last = labels(updates, page.layout)
    assert first.startswith("B, draft: 4 steps")
    assert last == f"B: {runs.shown.drawn.name}"
    assert "Dense: denoising" not in bars(updates)
    # Back at the first plan its run is there, and nothing is drawn.
    list(actions.run(page.visitor, ready, lambda now, report: runs.find(1).session))
    assert len(redraw()) == 1
    assert runs.shown.number == 1


def test_drawing_a_change_begins_anew_after_what_a_person_does_meanwhile(page, ready):
    runs, listeners, actions = Runs(), page.listeners, page.actions
    list(listeners.generate(ready, runs, "ssim", "sparsity", *ASKED, page.visitor))
    first, second = (layer.name for layer in ready.model.layers[:2])
    list(actions.run(page.visitor, ready, lambda now, report: set_layers(now, {first: 0.9})))
    seen, begun = [], threading.Event()

    def watch() -> None:
        for update in listeners.redraw(ready, runs, "ssim", "sparsity", True, *ASKED, page.visitor):
            seen.append(update)
            if getattr(update[5], "label", None):  # the draft of the first change
                begun.set()

    thread = threading.Thread(target=watch)
    thread.start()
    assert begun.wait(30)
    list(actions.run(page.visitor, ready, lambda now, report: set_layers(now, {second: 0.9})))
    thread.join(60)
    assert not thread.is_alive()
    assert len(runs.runs) == 2  # the first change was not drawn in full
    assert runs.shown.session.plan.by_hand == {first, second}


def test_rows_that_are_kept_with_a_model_do_not_drive_its_pictures_out(ready):
    """A row names the bytes of a stored model, which are not its own."""
    row = Row("x", "wanda", "d", "50 %", 0.5, 0, 0.1, 1.0, 1.0, {"ssim": [0.5] * 10}, nbytes=1 << 40)
    assert nbytes(evidence._Held((row,) * 3)) == 3 * 10 * 64
