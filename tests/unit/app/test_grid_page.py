"""The Compare page's grid without the page: the plan at hand among its recipes, its table, a grid that is stopped."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from dit_prune_viz.app.pages.actions import Actions, Frame
from dit_prune_viz.app.pages.compare.xy_grid import _Listener
from dit_prune_viz.app.session import xy_grid
from dit_prune_viz.app.session.comparison import compare
from dit_prune_viz.app.session.jobs import Jobs
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.app.session.xy_grid import Asked, draw, grid_table, plan_of, suggested_values, write_png
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.xy_grid import by_recipe, draw_grid
from dit_prune_viz.experiments.xy_grid_file import read_grid
from dit_prune_viz.pruning.prune import rank_again

VISITOR = SimpleNamespace(session_hash="visitor")


@pytest.fixture(scope="module")
def ready(tiny_clip, tiny_flux) -> Session:
    """A session with a layer set by hand."""
    store = ModelStore(clip=tiny_clip, device="cpu", dtype="float32")
    session = Session(store).load_model(str(tiny_flux)).calibrate(16, 0)
    plan = session.plan
    first = next(iter(plan.layers.values()))
    tuned = rank_again(session.pruned, plan.with_layer(first.with_sparsity(0.9)), session.statistics)
    return replace(session, pruned=tuned)


@pytest.fixture(scope="module")
def asked() -> Asked:
    return Asked(("prompt", " "), ("recipe", "present, dense"), "a cat\n<b>two & dogs</b>", 4, 2)


def test_the_plan_at_hand_is_drawn_as_on_its_own_and_again_from_the_png(ready, asked):
    plan, present = plan_of(ready, asked)
    assert [len(recipe.tuned) for recipe in plan.recipes if recipe] == [1]
    grid = draw(ready, plan, present)
    done = compare(ready, "a cat", 4, 2)
    pictures = [np.asarray(drawn.image) for drawn in sorted(grid.drawn, key=lambda d: (d.cell.row, d.cell.column))]
    assert np.array_equal(pictures[0], np.asarray(done.right.images[0]))
    assert np.array_equal(pictures[2], np.asarray(done.left.images[0]))
    assert not np.array_equal(pictures[0], pictures[2])
    png = write_png(ready, grid)
    assert png.endswith("grid-tiny-flux.png")
    again = draw_grid(ready.model, read_grid(png, ready.model), by_recipe(ready.model))
    assert all(
        np.array_equal(np.asarray(one.image), np.asarray(other.image))
        for one, other in zip(grid.drawn, again.drawn, strict=True)
    )


def test_a_table_grows_and_names_are_text(ready, asked):
    plan, present = plan_of(ready, asked)
    seen = []
    grid = draw(ready, plan, present, emit=seen.append)
    assert len(seen) == 4
    half = xy_grid.Grid(plan, tuple(seen[:2]), "tiny")
    table = grid_table(half)
    assert ">2 of 4 pictures<" in table
    assert table.count('<td class="waiting">') == 2
    assert "<b>" not in table
    assert "&lt;b&gt;two &amp; dogs&lt;/b&gt;" in table
    assert 'alt="Picture: dense, a cat"' in table
    assert re.search(r"<span>CLIP \d+\.\d</span><span>SSIM 1\.000</span>", table)
    assert grid_table(grid).count("data:image/webp") == 4


def test_what_is_suggested_can_be_read(ready):
    for kind in ("recipe", "sparsity", "seed", "steps", "guidance", "block"):
        rows = ("steps", "2") if kind != "steps" else ("seed", "1")
        plan, _ = plan_of(ready, Asked((kind, suggested_values(ready, kind)), rows, "a cat", 0, 2))
        assert len(plan.cells) >= 3
    assert suggested_values(ready, "block") == "none, 0-3"
    with pytest.raises(UserError, match="choose it from the list"):
        plan_of(ready, Asked((None, "1"), ("seed", "1"), "a cat", 0, 2))
    with pytest.raises(UserError, match="The prompt is empty"):
        plan_of(ready, Asked(("sparsity", "50"), ("seed", "1"), " ", 0, 2))


@pytest.fixture
def listener(ready):
    jobs = Jobs()
    startup = Startup(ready, "none", jobs)
    startup._done.set()
    actions = Actions(jobs, startup)
    frame = Frame(None, None, None, None)
    return actions, _Listener(frame, actions)


def test_what_is_drawn_of_a_stopped_grid_stays_and_can_be_downloaded(ready, listener, asked):
    actions, one = listener
    last = None
    for update in one.draw(ready, "seed", "0-9", "sparsity", "50", "a cat", 0, 8, 1, None, VISITOR):
        last = update
        if isinstance(update[3], str) and ">1 of 10 pictures<" in update[3]:
            actions.cancel(VISITOR)
    assert re.search(r">[12] of 10 pictures<", last[3])
    assert isinstance(last[4], gr.DownloadButton)
    assert last[4].interactive
    with Image.open(last[4].value["path"] if isinstance(last[4].value, dict) else last[4].value) as sheet:
        assert sheet.text


def test_a_mistake_is_told_and_nothing_is_drawn(ready, listener):
    _, one = listener
    with pytest.raises(gr.Error, match="Both axes of the grid are seed"):
        list(one.draw(ready, "seed", "0", "seed", "1", "a cat", 0, 2, 1, None, VISITOR))
