"""Workspaces: found by their id alone, kept while somebody works or looks, saved, and brought back as they were."""

from __future__ import annotations

import json
import stat
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.app.pages.actions import Actions
from dit_prune_viz.app.session import drawn_model
from dit_prune_viz.app.session.autosave import Autosave
from dit_prune_viz.app.session.cluster_edits import set_sparsity, tag_cluster
from dit_prune_viz.app.session.comparison import compare
from dit_prune_viz.app.session.jobs import Jobs, Result
from dit_prune_viz.app.session.layer_groups import group_layers
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.saved_work import restore, values_of
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.app.session.state_folder import StateFolder, open_state
from dit_prune_viz.app.session.workspace import Workspace
from dit_prune_viz.app.session.workspaces import HEADER, Workspaces, new_id, sent_id
from dit_prune_viz.errors import Cancelled, UserError


def nothing(line: str) -> None:
    """Cancels nothing."""


def visitor(id: str | None = None, page: str = "page") -> SimpleNamespace:
    return SimpleNamespace(session_hash=page, headers={HEADER: id} if id else {}, query_params={})


@pytest.fixture
def app(ready):
    """Actions of an app whose visitors begin with the session, and that gives up what nobody looks at soon."""
    jobs = Jobs()
    startup = Startup(ready, "none", jobs)
    startup._done.set()
    actions = Actions(jobs, startup)
    actions.workspaces.alone_seconds = 0.2
    return actions


def wait_until(true, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ids_are_long_and_never_the_same():
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(sent_id({HEADER: id}) == id for id in ids)
    assert sent_id({}, {"session": (id := new_id())}) == id


@given(st.one_of(st.none(), st.text(max_size=40), st.integers(), st.binary(max_size=40)))
@settings(max_examples=50)
def test_what_is_no_id_is_none(odd):
    good = isinstance(odd, str) and len(odd) == 32 and all(c.isascii() and (c.isalnum() or c in "-_") for c in odd)
    assert sent_id({HEADER: odd}) == (odd if good else None)


def test_two_pages_of_one_id_share_a_plan_and_its_undo_and_nobody_else_sees_it(app, ready):
    id = new_id()
    mine, other = visitor(id, "one"), visitor(id, "two")
    changed = ready.prune(replace(ready.recipe, sparsity=0.3))
    list(app.run(mine, None, lambda now, report: changed))
    assert app.newest(other) is changed
    assert [button.interactive for button in app.undo_buttons(other)] == [True, False]
    list(app.undo(changed, other))
    assert app.newest(mine).recipe == ready.recipe
    for stranger in (visitor(new_id(), "three"), visitor(None, "three"), visitor(id[:-1], "three")):
        assert app.newest(stranger) is None


def test_work_goes_on_after_its_page_is_closed_and_its_result_is_there(app, ready):
    id, go_on = new_id(), threading.Event()
    changed = replace(ready)
    app.workspaces.alone_seconds = 60

    def work(now, report):
        assert go_on.wait(20)
        report(1, 2, "Working")
        return changed

    updates = app.watch(visitor(id, "one"), None, work)
    threading.Timer(0.05, lambda: None).start()
    reader = threading.Thread(target=lambda: next(updates, None))
    reader.start()
    wait_until(lambda: app.workspace(visitor(id, "two")).works)
    app.leave(visitor(id, "one"))
    work_of = app.workspace(visitor(id, "two"))
    assert work_of.unheard("two") is work_of.works[0]
    go_on.set()
    wait_until(lambda: not work_of.works)
    reader.join(20)
    assert app.newest(visitor(id, "two")) is changed


@pytest.mark.parametrize("goes_on", [False, True])
def test_work_that_nobody_looks_at_ends_unless_it_was_asked_to_go_on(app, ready, goes_on):
    id, stop, ended = new_id(), threading.Event(), []

    def work(now, report):
        try:
            while not stop.is_set():
                report(0, 1, "Working")
                time.sleep(0.01)
        except Cancelled as problem:
            ended.append(problem)
            raise
        return replace(now)

    thread = threading.Thread(target=lambda: list(app.watch(visitor(id), None, work)))
    thread.start()
    space = app.workspace(visitor(id))
    wait_until(lambda: space.works)
    space.goes_on = goes_on
    time.sleep(1.5)  # while the page is there nothing ends
    assert space.works
    app.leave(visitor(id))
    if goes_on:
        time.sleep(2.5)
        assert space.works
        stop.set()
    wait_until(lambda: not space.works)
    thread.join(20)
    assert bool(ended) != goes_on


def test_cancel_on_any_page_stops_the_work_of_all(app):
    id = new_id()

    def work(now, report):
        while True:
            report(0, 1, "Working")
            time.sleep(0.01)

    updates = app.watch(visitor(id, "one"), None, work)
    next(updates)
    app.cancel(visitor(id, "two"))
    *_, (_, bar, _) = updates
    assert "Cancelled" in bar


def test_those_used_least_recently_give_way_but_never_where_somebody_looks():
    spaces = Workspaces(nothing, most=3)
    spaces.alone_seconds = 0
    ids = [new_id() for _ in range(3)]
    for id in ids:
        spaces.open(id, page=f"page of {id}")
    spaces.leave(f"page of {ids[1]}")
    spaces.leave(f"page of {ids[2]}")
    spaces.open(ids[1])
    fresh = spaces.open(new_id())
    assert [spaces.find(id) is not None for id in ids] == [True, True, False]
    assert spaces.find(fresh.id) is fresh


def test_a_page_without_an_id_takes_its_work_with_it(app, ready):
    anybody = visitor(None)
    list(app.run(anybody, None, lambda now, report: replace(ready)))
    assert app.newest(anybody) is not None
    forgotten = []
    app.workspaces.forget = forgotten.append
    app.workspaces.alone_seconds = 0
    for gap in (True, False):
        app.workspaces.connect(anybody.session_hash)
        app.leave(anybody)  # gradio tells while the connection still ends
        app.workspaces.disconnect(anybody.session_hash)
        if gap:  # it is back in time
            app.workspaces.connect(anybody.session_hash)
            time.sleep(2.5)
            assert app.newest(anybody) is not None
            assert forgotten == []
            app.workspaces.disconnect(anybody.session_hash)
    wait_until(lambda: forgotten)
    assert forgotten == [anybody.session_hash]
    assert app.workspaces.find(anybody.session_hash) is None


@pytest.fixture(scope="module")
def worked(ready):
    """A session with clusters set by hand, groups and a name, and a workspace that holds it with two comparisons."""
    layer = ready.model.layers[0].name
    session = set_sparsity(ready.cluster(layer, "row", "kmeans", 3), layer, 1, 0.9)
    session = tag_cluster(session, layer, 1, name="loud <b>", look=5, locked=True)
    session = group_layers(session, "kmeans", 3).named("mine")
    space = Workspace(new_id())
    space.history.step(ready, session, "work")
    space.runs.add(ready, drawn_model.of_session(ready), compare(ready, "a cat", 4, 2))
    space.runs.add(session, drawn_model.of_session(session), compare(session, ["two dogs", "a cat"], 4, 2))
    space.runs.make_a(1)
    return space


def same_masks(one: Session, other: Session) -> bool:
    return one.masks.keys() == other.masks.keys() and all(
        torch.equal(mask.bits, other.masks[name].bits) for name, mask in one.masks.items()
    )


def test_what_was_saved_comes_back_bit_for_bit(ready, worked, tmp_path):
    Autosave(StateFolder(tmp_path / "state")).changed(worked)
    wait_until(lambda: list(tmp_path.rglob("work-*.json")))
    fresh, now = Workspace(worked.id), Autosave(StateFolder(tmp_path / "state"))
    wait_until(lambda: now.has(fresh, ready))
    back, before = now.recall(fresh, ready), worked.newest
    assert same_masks(back, before)
    assert back.report == before.report
    assert (back.name.text, back.name.of(back.plan)) == ("mine", "mine")
    assert np.array_equal(back.groups.labels, before.groups.labels)
    assert back.groups.tags == before.groups.tags
    layer = next(iter(before.clusters))
    assert back.clusters[layer].tags == before.clusters[layer].tags
    assert np.array_equal(back.clusters[layer].labels, before.clusters[layer].labels)
    assert [run.number for run in fresh.runs.runs] == [2, 1]
    for run, old in zip(fresh.runs.runs, worked.runs.runs, strict=True):
        assert run.drawn.name == old.drawn.name
        assert run.comparison.requests == old.comparison.requests
        assert (run.comparison.ssims, run.comparison.psnrs) == (old.comparison.ssims, old.comparison.psnrs)
        assert run.comparison.right.clips == old.comparison.right.clips
        for side in ("dense", "right"):
            pairs = zip(getattr(run.comparison, side).images, getattr(old.comparison, side).images, strict=True)
            assert all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)
        assert same_masks(run.session, old.session)
    # A was the first comparison, and draws with its plan again.
    assert fresh.runs.a.run == 1
    drawn = fresh.runs.reference(back)
    assert drawn.layers.keys() == ready.masks.keys()
    assert all(torch.equal(one.mask.bits, ready.masks[name].bits) for name, one in drawn.layers.items())
    assert not now.has(fresh, ready)  # once is enough
    assert "Your work of" in fresh.notice


def test_a_visitor_hears_of_saved_work_on_other_models(ready, worked, tmp_path):
    folder = StateFolder(tmp_path)
    spaces = Workspaces(lambda line: None, Autosave(folder))
    for fingerprint, name in (("other", "flux <dev>"), (ready.model.fingerprint, "this one")):
        folder.write(worked.id, fingerprint, {"model": {"name": name}})
    folder.write(new_id(), "another", {"model": {"name": "somebody else's"}})
    space = spaces.open(worked.id)
    spaces.tell_of_others(space, ready)
    assert space.notice == "You have saved work on flux <dev>: load that model, and it comes back."
    for odd in ({}, {"model": None}, {"model": {"name": 3}}):
        folder.write(worked.id, "other", odd)
        assert folder.others(worked.id, ready.model.fingerprint) == ()
    folder.write(worked.id, "other", {"model": {"name": "flux <dev>"}})
    busy = spaces.open(worked.id)
    busy.history.step(ready, worked.newest, "work")
    busy.notice = None
    spaces.tell_of_others(busy, ready)
    assert busy.notice is None


def test_nothing_on_the_disk_tells_the_id_and_nobody_else_reads_it(worked, tmp_path):
    state = tmp_path / "state"
    saves = Autosave(StateFolder(state))
    saves.changed(worked)
    saves.flush()
    files = [path for path in state.rglob("*") if path.is_file()]
    assert files
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for path in files:
        assert worked.id not in str(path)
        assert worked.id.encode() not in path.read_bytes()
        assert path.suffix in (".json", ".png")


def test_saved_work_that_is_damaged_is_said_to_be_and_loses_nothing_else(ready, worked, tmp_path):
    folder = StateFolder(tmp_path)
    saves = Autosave(folder)
    saves.changed(worked)
    saves.flush()
    (path,) = tmp_path.rglob("work-*.json")
    good = json.loads(path.read_text())
    odd = (None, "x", [None], {"x": 1})
    for key in good:
        for value in odd:
            path.write_text(json.dumps({**good, key: value}))
            space = Workspace(worked.id)
            assert isinstance(Autosave(folder).recall(space, ready), Session)
    for text in ("", "{", "[]", "null", '{"format": 1}', "[" * 100_000, path.read_text()[:500]):
        path.write_text(text)
        assert Autosave(folder).recall(Workspace(worked.id), ready) is ready
    path.write_text(json.dumps(good))
    for picture in tmp_path.rglob("*.png"):
        picture.write_bytes(picture.read_bytes()[:40])
    space = Workspace(worked.id)
    back = Autosave(folder).recall(space, ready)
    assert space.runs.runs == ()  # a comparison is nothing without its pictures
    assert all(torch.equal(mask.bits, worked.newest.masks[name].bits) for name, mask in back.masks.items())


def test_work_on_one_model_leaves_the_pictures_of_another(ready, worked, tmp_path):
    folder = StateFolder(tmp_path)
    pictures = folder.pictures(worked.id)
    folder.write(worked.id, "another", values_of(worked.newest, worked.runs, pictures.keep))
    kept = set(tmp_path.rglob("*.png"))
    assert kept
    alone = folder.pictures(worked.id)
    folder.write(worked.id, ready.model.fingerprint, values_of(ready, Runs(), alone.keep))
    alone.remove_others()
    assert set(tmp_path.rglob("*.png")) == kept
    folder.write(worked.id, "another", values_of(ready, Runs(), alone.keep))
    alone.remove_others()
    assert not set(tmp_path.rglob("*.png"))


def test_a_name_of_a_picture_leads_nowhere_else(tmp_path):
    pictures = StateFolder(tmp_path).pictures(new_id())
    for odd in ("../../etc/passwd", "/etc/passwd", "", None, 7, "a.png", "0" * 32 + ".png/../x"):
        with pytest.raises((ValueError, OSError)):
            pictures.load(odd)


def test_the_folder_keeps_to_its_bounds(ready, worked, tmp_path):
    folder = StateFolder(tmp_path, session_bytes=400_000, all_bytes=1)
    ids = [new_id() for _ in range(3)]
    for id in ids:
        values = values_of(worked.newest, worked.runs, folder.pictures(id).keep)
        folder.write(id, ready.model.fingerprint, values)
        time.sleep(0.02)
    assert [folder.find(id, ready.model.fingerprint) is not None for id in ids] == [False, False, True]
    small = StateFolder(tmp_path / "small", session_bytes=2000)
    few = values_of(worked.newest, worked.runs, small.pictures(ids[0]).keep)
    assert few["runs"] == []  # no room for pictures
    assert restore(few, ready, small.pictures(ids[0]).load).runs == ()
    old = StateFolder(tmp_path, seconds=0)
    time.sleep(0.02)
    assert old.find(ids[2], ready.model.fingerprint) is None


def test_work_on_another_model_stays_where_it_is(ready, worked, tmp_path):
    folder = StateFolder(tmp_path)
    folder.write(worked.id, "another", values_of(worked.newest, worked.runs, folder.pictures(worked.id).keep))
    saves = Autosave(folder)
    assert not saves.has(Workspace(worked.id), ready)
    assert saves.others(Workspace(worked.id), ready) == (ready.model.name,)


def test_a_page_after_a_restart_gets_its_work_back_and_can_undo_that(ready, worked, tmp_path):
    saves = Autosave(StateFolder(tmp_path))
    saves.changed(worked)
    saves.flush()
    jobs = Jobs()
    startup = Startup(ready, "none", jobs)
    startup._done.set()
    actions = Actions(jobs, startup, Workspaces(jobs.cancel, Autosave(StateFolder(tmp_path))))
    page = visitor(worked.id)
    *_, (session, bar, _) = actions.prepare(page)
    assert same_masks(session, worked.newest)
    assert "is back" in bar
    list(actions.undo(session, page))
    assert same_masks(actions.newest(page), ready)
    *_, (again, _, _) = actions.prepare(page)
    assert again is actions.newest(page)


def test_where_work_is_saved(tmp_path, monkeypatch):
    assert open_state("off") is None
    assert open_state() is None  # as the tests say in the environment
    assert open_state(str(tmp_path / "x")).folder == tmp_path / "x"
    monkeypatch.setenv("DIT_PRUNE_VIZ_STATE", str(tmp_path))
    assert open_state().folder == tmp_path
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        open_state(str(tmp_path / "file"))


def test_the_result_of_followed_work_comes_last(app, ready):
    updates = list(app.watch(visitor(new_id()), None, lambda now, report: now))
    assert isinstance(updates[-1], Result)
