"""What a browser sends may be anything: it reaches what its own session holds, and nothing else, without a fault."""

from __future__ import annotations

import base64
import itertools
import json
import math
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from dit_prune_viz.app import server
from dit_prune_viz.app.pages.actions import Actions, Frame
from dit_prune_viz.app.pages.compare import layout as compare_layout
from dit_prune_viz.app.pages.compare.listeners import CompareListeners
from dit_prune_viz.app.pages.layer import layout as layer_layout
from dit_prune_viz.app.pages.layer import unit_reading
from dit_prune_viz.app.pages.layer.listeners import LayerListeners
from dit_prune_viz.app.pages.layer.page_state import PageStates
from dit_prune_viz.app.pages.layer.unit_answers import UnitAnswers
from dit_prune_viz.app.pages.map.page import MapListeners
from dit_prune_viz.app.pages.map.sparsity_edits import SparsityListeners
from dit_prune_viz.app.pages.table_edits import edit_table
from dit_prune_viz.app.session import drawn_model
from dit_prune_viz.app.session.browser_values import read_edits, read_range, read_whole
from dit_prune_viz.app.session.jobs import Jobs
from dit_prune_viz.app.session.layer_subject import clustering_id, is_clustered, layer_of, owned_layer, subject
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.selection import packed
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.app.session.tradeoff import uploaded_file
from dit_prune_viz.app.widgets import block_strip, cluster_table
from dit_prune_viz.errors import UserError

_numbers = itertools.count(1)
ODD = (None, True, -1, 10**30, 1.5, math.nan, "", "x", "../../etc/passwd", [], [0], {}, {"x": 1})
"""Values that name nothing."""


@pytest.fixture(scope="module")
def ready(tiny_clip, tiny_flux) -> Session:
    return Session(ModelStore(clip=tiny_clip, device="cpu", dtype="float32")).load_model(str(tiny_flux)).calibrate(8, 0)


@pytest.fixture(scope="module")
def layer(ready) -> str:
    return next(layer.name for layer in ready.model.layers if layer.kind == "adaLN")


@pytest.fixture(scope="module")
def app(ready):
    """The listeners of the pages, in an app whose visitors begin with the session."""
    jobs = Jobs()
    startup = Startup(ready, "none", jobs)
    startup._done.set()
    actions, states = Actions(jobs, startup), PageStates()
    with gr.Blocks():
        frame = Frame(gr.State(None), gr.HTML(), gr.Button(), gr.State(None))
        layer_components = layer_layout.lay_out(lambda asked: "", lambda asked: "")
        compare_components = compare_layout.lay_out()
    return SimpleNamespace(
        startup=startup,
        actions=actions,
        states=states,
        answers=UnitAnswers(actions, states),
        layer=LayerListeners(frame, actions, states, layer_components),
        edit_clusters=edit_table(frame, actions, apply=cluster_table.apply, step_name=cluster_table.step_name),
        compare=CompareListeners(frame, actions, compare_components),
        map=MapListeners(actions),
        strip=SparsityListeners(actions, "strip", block_strip.show),
        outputs=len(frame.outputs),
    )


@pytest.fixture
def anne():
    """A visitor who has just come, as gradio names one."""
    return SimpleNamespace(session_hash=f"anne {next(_numbers)}")


@pytest.fixture
def bert():
    return SimpleNamespace(session_hash=f"bert {next(_numbers)}")


def open_layer(app, visitor, layer, unit="row", k=3):
    """The visitor opens a layer; the updates that come last."""
    *_, last = app.layer.open_layer(None, layer, unit, "kmeans", k, visitor)
    return last


def asked(app, visitor, layer, **values) -> dict:
    """What the script of the visitor's unit plot asks with, from the value that the server sent it."""
    state = app.states.of_visitor(visitor)
    return {"owner": state.token, "subject": subject(app.actions.newest(visitor), layer), **values}


def test_a_page_asks_about_its_own_units_with_the_token_in_its_plot(app, layer, anne):
    update = open_layer(app, anne, layer)
    sent = json.loads(update[app.outputs].value)
    ask = {"owner": sent["owner"], "subject": sent["figure"]["layout"]["meta"]["subject"]}
    assert app.answers.details({**ask, "id": 2}).startswith("row 2 (attention shift) · ")
    rows = app.actions.newest(anne).model.layer(layer).shape[0]
    bins = len(sent["figure"]["layout"]["meta"]["frames"])
    values = np.frombuffer(base64.b64decode(app.answers.frames({**ask, "dots": rows})), "<f4")
    assert values.size == rows * bins
    assert sent["owner"] != anne.session_hash
    assert len(sent["owner"]) >= 32


def test_a_visitor_who_sends_another_s_name_reads_nothing(app, layer, anne, bert):
    open_layer(app, anne, layer)
    of_anne = asked(app, anne, layer, id=0, dots=10**9)
    of_anne["dots"] = app.actions.newest(anne).model.layer(layer).shape[0]
    assert app.answers.details(of_anne)
    assert app.answers.frames(of_anne)
    app.states.of_visitor(bert)
    token = app.states.of_visitor(bert).token
    for owner in (anne.session_hash, bert.session_hash, "", None, token, token[:-1], ["anne"]):
        assert app.answers.details({**of_anne, "owner": owner}) == ""
        assert app.answers.frames({**of_anne, "owner": owner}) == ""


def test_two_visitors_of_one_layer_each_read_their_own_clusters(app, layer, anne, bert):
    open_layer(app, anne, layer, k=1)
    open_layer(app, bert, layer, k=1)
    edit = {
        "layer": layer,
        "clustering": clustering_id(app.actions.newest(anne), layer),
        "cluster": 0,
        "verb": "rename",
        "name": "Anne's own",
    }
    list(app.edit_clusters(None, anne, SimpleNamespace(number=1, edits=[edit])))
    assert "Anne's own" in app.answers.details(asked(app, anne, layer, id=0))
    assert "cluster 0" in app.answers.details(asked(app, bert, layer, id=0))
    assert "Anne's own" not in app.answers.details(asked(app, bert, layer, id=0))


def test_questions_that_mean_nothing_get_nothing(app, layer, anne):
    open_layer(app, anne, layer)
    good = asked(app, anne, layer, id=0, dots=app.actions.newest(anne).model.layer(layer).shape[0])
    for odd in ODD:
        for ask in (odd, {**good, "id": odd}, {**good, "subject": odd}, {**good, "owner": odd}):
            assert app.answers.details(ask) == ""
        for ask in (odd, {**good, "dots": odd}, {**good, "subject": odd}, {**good, "owner": odd}):
            assert app.answers.frames(ask) == ""


def test_what_names_no_layer_of_the_session_is_none(ready):
    for odd in ODD:
        assert owned_layer(ready, odd) is None
        assert not is_clustered(ready, odd)
        assert subject(ready, odd) == ""
        assert layer_of(ready, odd) is None
        assert clustering_id(ready, odd) is None


@pytest.mark.parametrize("odd", [None, 7, "../../etc/passwd", ["x"], {"x": 1}], ids=repr)
def test_what_is_no_layer_is_not_opened(app, odd, anne):
    update = open_layer(app, anne, odd)
    assert json.loads(update[app.outputs + 4])["rows"] == []
    *_, last = app.layer.cluster_anew(None, odd, "row", "kmeans", 3, anne)
    assert json.loads(last[app.outputs + 4])["rows"] == []
    assert not app.actions.newest(anne).clusters
    assert len(app.layer.open_clustered(None, odd, anne)) == len(update) - app.outputs - 1


def send(app, visitor, read, **values) -> gr.Error | None:
    """An event of one of the views, and the sentence with which it was refused."""
    try:
        app.layer.select_in("test", read)(None, visitor, SimpleNamespace(**values))
    except gr.Error as refusal:
        return refusal
    return None


@pytest.mark.parametrize("unit", ["row", "weight"])
def test_events_that_mean_nothing_select_nothing(app, layer, unit, anne):
    open_layer(app, anne, layer, unit)
    for read, name in (
        (unit_reading.units_of_dots, "packed"),
        (unit_reading.units_of_plane_box, "range"),
        (unit_reading.units_of_saliencies, "range"),
        (unit_reading.units_of_table_row, "cluster"),
        (unit_reading.units_of_line, "id"),
    ):
        for values in ({}, *({name: odd, "mode": odd} for odd in ODD)):
            refusal = send(app, anne, read, **values)
            assert refusal is None or (refusal.message.endswith(".") and not refusal.print_exception)
        assert len(app.states.of_visitor(anne).selection) == 0
    app.layer.refresh(None, anne)  # the page still draws


def test_units_that_the_layer_does_not_have_are_refused_and_never_kept(app, layer, anne):
    open_layer(app, anne, layer)
    rows = app.actions.newest(anne).model.layer(layer).shape[0]
    for ids, refused in (([0, rows - 1], False), ([rows], True), ([-1], True), ([2**31 - 1], True)):
        assert (send(app, anne, unit_reading.units_of_dots, packed=packed(np.array(ids))) is not None) is refused
    assert app.states.of_visitor(anne).selection.ids.tolist() == [0, rows - 1]


def test_a_view_that_the_page_does_not_offer_is_refused(app, layer, anne):
    open_layer(app, anne, layer)
    for view in (("cube", 8192, "original"), ("plane", 10**9, "original"), ("plane", 8192, "random")):
        with pytest.raises(gr.Error, match="choose from the lists"):
            list(app.layer.change_view(None, *view, False, anne))
    assert len(list(app.layer.change_view(None, "plane", 8192, "energy", True, anne))) == 1


def test_edits_of_what_is_not_there_change_nothing_and_are_answered(app, layer, anne):
    open_layer(app, anne, layer)
    before = app.actions.newest(anne)
    good = {"layer": layer, "clustering": clustering_id(before, layer), "cluster": 0}
    tries = [[{}], [good]]
    for odd in (None, -1, math.nan, "x", [0]):
        changes = [{"layer": odd}, {"cluster": odd}, {"clustering": odd}, {"verb": odd}, {"sparsity": odd}]
        changes += [{"verb": "merge", "other": odd}]
        tries += [odd, [odd], *([{**good, "sparsity": 0.1, **change}] for change in changes)]
    for edits in tries:
        updates, refusal = [], None
        try:
            for update in app.edit_clusters(None, anne, SimpleNamespace(number=7, edits=edits)):
                updates.append(update)
        except gr.Error as error:
            refusal = error
        assert refusal is None or refusal.message.endswith(".")
        assert updates[-1][-1].props["answered"]["number"] == 7
    after = app.actions.newest(anne)
    assert (after.masks, after.clusters) == (before.masks, before.clusters)


def test_a_script_that_waits_is_answered_before_it_is_told_what_was_wrong(app, anne):
    updates = app.edit_clusters(None, anne, SimpleNamespace(number=3, edits="no list"))
    assert next(updates)[-1].props["answered"] == {"number": 3, "at": None}
    with pytest.raises(gr.Error, match="could not be read"):
        next(updates)


def test_sparsities_that_cannot_be_read_change_nothing_and_are_answered(app, ready, anne):
    before = ready.masks
    for odd in (None, -1, math.nan, "x", [0], {}, "0:1:2", "\x00:1", "9" * 9000, ":" * 9000):
        updates = app.strip.edit(ready, anne, SimpleNamespace(number=5, text=odd, keep=odd, gesture=odd))
        seen: list[tuple] = []
        with pytest.raises(gr.Error, match=r"""\.['"]?$"""):
            seen.extend(updates)
        assert seen[-1][-1].props["answered"] == {"number": 5, "at": None}
    assert app.actions.newest(anne, ready).masks is before
    *_, last = app.strip.edit(ready, anne, SimpleNamespace(number=6, text="0:30", keep="yes", gesture=[]))
    assert last[-1].props["answered"]["number"] == 6
    newest = app.actions.newest(anne, ready)
    assert newest.plan.by_hand == {one.name for one in newest.model.layers if one.block == 0}


def test_a_line_at_no_number_stays_where_it_is(app, anne):
    wrong = [SimpleNamespace(threshold=odd, number=1) for odd in (-1, True, math.nan, "x", [0])]
    for event in (*wrong, SimpleNamespace(number=1)):
        with pytest.raises(gr.Error, match="threshold must be a number"):
            list(app.map.move_line(None, anne, event))


def test_a_click_on_a_layer_of_another_model_opens_nothing(app, ready, layer, anne):
    page = server.build_app(app.startup)
    pick = next(fn.fn for fn in page.fns.values() if fn.name == "pick")
    for odd in ODD:
        assert pick(ready, anne, SimpleNamespace(id=odd)) == (gr.skip(), gr.skip())
    assert pick(ready, anne, SimpleNamespace(id=layer))[0].value == layer


def test_one_visitor_s_run_is_no_number_of_another_s(app, ready, bert):
    of_anne, of_bert = Runs(), Runs()
    of_anne.runs = (SimpleNamespace(number=1, session=ready),)
    for number in (1, *ODD):
        assert of_bert.find(number) is None
        (update,) = app.compare.restore(None, of_bert, "ssim", "sparsity", SimpleNamespace(id=number), bert)
        assert all(part == gr.skip() for part in update)
        app.compare.make_a(of_bert, SimpleNamespace(id=number))
        assert of_bert.a is None
        (update,) = app.compare.pick_dot(None, of_bert, number, number, SimpleNamespace(id=number, mode="set"), bert)
        assert all(part == gr.skip() for part in update)
    (update,) = app.compare.restore(None, of_bert, "ssim", "sparsity", SimpleNamespace(), bert)
    assert all(part == gr.skip() for part in update)


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd is not True], ids=repr)
def test_a_cluster_that_is_none_is_not_painted(ready, layer, odd):
    clustered = ready.cluster(layer, k=2)
    for where, cluster, mode in ((odd, 0, "only"), (layer, odd, "only"), (layer, 0, odd)):
        with pytest.raises(UserError):
            drawn_model.of_cluster(clustered, where, cluster, mode)


def test_a_prompt_file_is_one_that_was_uploaded(tmp_path):
    uploads, elsewhere = tmp_path / "uploads", tmp_path / "elsewhere.txt"
    (uploads / "hash" / "folder.txt").mkdir(parents=True)
    elsewhere.write_text("a secret")
    good, other, link = (uploads / "hash" / name for name in ("mine.TXT", "mine.py", "link.txt"))
    for path in (good, other):
        path.write_text("a cat")
    link.symlink_to(elsewhere)
    assert uploaded_file(str(good), uploads) == str(good)
    assert uploaded_file(None, uploads) is None
    outside = (elsewhere, uploads / "hash/../../elsewhere.txt", link, other, uploads, good.parent / "folder.txt")
    for path in (
        *map(str, outside),
        "/etc/passwd",
        "a\0.txt",
        "http://example.com/a.txt",
        *ODD[1:6],
        ["x"],
        {"path": "x"},
    ):
        with pytest.raises(UserError, match="Upload the prompts"):
            uploaded_file(path, uploads)


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3), ("12", 12), (True, None), ("-1", None), (1.0, None), (None, None), ("²", None)]
)
def test_whole_numbers_are_read_as_such(value, expected):
    assert read_whole(value) == expected


def test_a_box_is_read_with_its_lower_end_first():
    assert read_range({"x": [3, -1.5], "y": [0, 0]}, "x") == (-1.5, 3)
    for value in (*ODD, {"x": [0]}, {"x": [0, math.inf]}, {"x": [0, "1"]}, {"x": {0: 1, 1: 2}}):
        with pytest.raises(UserError):
            read_range(value, "x")


def test_edits_are_read_whole_or_not_at_all(layer):
    good = {"layer": layer, "clustering": "1-row", "cluster": 0, "sparsity": 0.5}
    assert read_edits([good, {**good, "verb": "split"}]) == [good, {**good, "verb": "split"}]
    for missing in good:
        with pytest.raises(UserError):
            read_edits([good, {key: value for key, value in good.items() if key != missing}])
