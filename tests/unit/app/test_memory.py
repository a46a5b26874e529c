"""After another model is loaded nothing of the first is left but what history needs."""

from __future__ import annotations

import gc
import weakref

import pytest
from sessions import pruned_by

from dit_prune_viz.app.session.comparison import compare
from dit_prune_viz.app.session.history import History
from dit_prune_viz.app.session.jobs import Jobs
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.errors import UserError


@pytest.fixture
def store(tiny_clip):
    return ModelStore(clip=tiny_clip, device="cpu", dtype="float32")


def test_a_replaced_model_is_freed_with_all_that_follows_from_it_and_undo_loads_it_again(store, tiny_flux, tiny_sd3):
    history = History()
    first = Session(store).load_model(str(tiny_flux)).calibrate(16, 0)
    pruned = pruned_by(first, "wanda", sparsity=0.75, search=("swap",), update="mean")
    history.step(first, pruned, "pruned")
    compare(pruned, "a cat", 0, 2)  # fills the model's cache: recorded inputs, finished layers, pictures
    assert pruned.model.cache.nbytes > 1 << 20
    masks = {name: mask.digest for name, mask in pruned.masks.items()}
    gone = [weakref.ref(thing) for thing in (pruned.model, pruned.calibration, pruned.pruned, pruned.model.cache)]
    second = pruned.load_model(str(tiny_sd3))
    history.step(pruned, second, "loaded another model")
    del first, pruned
    gc.collect()
    assert [ref() for ref in gone] == [None] * 4
    back = history.undo()
    assert back.recipe.search == ("swap",)
    assert {name: mask.digest for name, mask in back.masks.items()} == masks
    del back
    forth = history.redo()
    assert forth.model.source == str(tiny_sd3)


def test_undo_to_a_model_that_is_gone_changes_nothing(store, tiny_flux, tiny_sd3, tmp_path):
    history = History()
    moved = tmp_path / "model"
    moved.symlink_to(tiny_flux)
    first = Session(store).load_model(str(moved))
    second = first.load_model(str(tiny_sd3))
    history.step(first, second, "loaded another model")
    moved.unlink()
    del first
    gc.collect()
    with pytest.raises(UserError):
        history.undo()
    assert history.present is second
    assert history.names == ("loaded another model", None)


def test_the_model_prepared_at_the_start_goes_once_another_is_in_use_and_comes_back_for_a_new_visitor(
    store, tiny_flux, tiny_sd3
):
    startup = Startup(Session(store), str(tiny_flux), Jobs())
    startup.start()
    prepared = startup.wait()
    gone, report = weakref.ref(prepared.model), prepared.report
    gc.collect()
    del prepared
    assert startup.prepared() is not None  # nobody uses it, and nothing has taken its place
    other = Session(store).load_model(str(tiny_sd3))
    gc.collect()
    assert gone() is None
    again = startup.wait()
    assert again.report == report
    assert other.model is not again.model
