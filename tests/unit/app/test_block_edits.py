"""Sparsities by block, kind and layer on a session: text in, masks out, the recipe, undo, what sliders show."""

from __future__ import annotations

import json
import math

import pytest
from sessions import pruned_by

from dit_prune_viz.app.session.block_edits import bars, set_by_text, sparsities_of, sparsity_presets, sparsity_text
from dit_prune_viz.app.session.history import History
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import block_strip, layer_list
from dit_prune_viz.errors import UserError
from dit_prune_viz.pruning.prune import rank


def digests(masks) -> dict[str, str]:
    return {name: mask.digest for name, mask in masks.items()}


TEXT = "0:30, adaLN:40, single q:12.5"


def test_a_text_changes_the_masks_of_exactly_the_layers_it_means(ready):
    after = set_by_text(ready, TEXT)
    wanted = {}
    for layer in ready.model.layers:
        if layer.block == 0:
            wanted[layer.name] = 0.3
        if layer.kind == "adaLN":
            wanted[layer.name] = 0.4
        if layer.kind == "q" and layer.stack.startswith("single"):
            wanted[layer.name] = 0.125
    assert 0 < len(wanted) < len(ready.model.layers)
    for layer in ready.model.layers:
        if layer.name not in wanted:
            assert after.masks[layer.name] is ready.masks[layer.name]
            continue
        kept = after.masks[layer.name].unpack()
        rows = 1 if after.plan.layer(layer.name).granularity == "layer" else kept.shape[0]
        lost = rows * math.floor(kept.numel() // rows * wanted[layer.name] + 1e-9)
        assert int((~kept).sum()) == lost
    assert after.plan.by_hand == wanted.keys()


def test_text_plan_recipe_masks_and_text_again(ready):
    after = set_by_text(ready, TEXT)
    replayed = rank(after.plan.as_recipe(), ready.statistics)
    assert digests(replayed.packed_masks) == digests(after.masks)
    written = sparsity_text(after)
    assert digests(set_by_text(ready, written).masks) == digests(after.masks)
    assert set_by_text(after, written) is after  # nothing to undo either
    assert set_by_text(ready, sparsity_text(ready)) is ready


@pytest.mark.parametrize("allocation", ["uniform", "damage-aware", "owl"])
def test_what_is_written_of_any_plan_changes_nothing_there(ready, allocation):
    session = pruned_by(ready, "dit-pruning", sparsity=0.437, allocation=allocation)
    assert set_by_text(session, sparsity_text(session)) is session


def test_undo_goes_back_to_the_masks_before(ready):
    history, after = History(), set_by_text(ready, TEXT)
    history.step(ready, after, "sparsities…")
    assert digests(history.undo().masks) == digests(ready.masks)
    assert digests(history.redo().masks) == digests(after.masks)


def test_the_rest_makes_up_for_it_when_asked_to(ready):
    after = set_by_text(ready, "0:20", keep_overall=True)
    assert after.report.removed == ready.report.removed
    assert bars(after)[0][0].mean == pytest.approx(0.2, abs=0.02)


def test_layers_that_the_recipe_fixes_stay_unless_nothing_else_is_meant(ready):
    dense = pruned_by(ready, "dit-pruning", ignore=("adaLN",))
    after = set_by_text(dense, "all:70")
    fixed = [layer.name for layer in ready.model.layers if layer.kind == "adaLN"]
    assert {after.masks[name].removed for name in fixed} == {0}
    assert after.report.removed > dense.report.removed
    with pytest.raises(UserError, match=r"keeps layer .* dense"):
        set_by_text(dense, "adaLN:60")
    with pytest.raises(UserError, match="2:4"):
        set_by_text(pruned_by(ready, "dit-pruning", granularity="2:4"), "all:60")


def test_sliders_show_the_mean_and_the_range_of_their_layers(ready):
    session = set_by_text(ready, "all:50, 1:30, adaLN 1:90")
    blocks, kinds = bars(session)
    assert [bar.key for bar in blocks] == [str(block) for block in sorted({x.block for x in ready.model.layers})]
    assert {bar.key for bar in kinds} == {layer.kind for layer in ready.model.layers}
    layers = [layer for layer in ready.model.layers if layer.block == 1]
    assert (blocks[1].low, blocks[1].high, blocks[1].by_hand) == (0.3, 0.9, True)
    lost = sum(int((~session.masks[layer.name].unpack()).sum()) for layer in layers)
    assert blocks[1].mean == pytest.approx(lost / sum(layer.weights for layer in layers))
    assert (blocks[0].mean, blocks[0].low, blocks[0].high, blocks[0].by_hand) == (0.5, 0.5, 0.5, False)
    assert not any(bar.fixed for bar in (*blocks, *kinds))
    shown = json.loads(block_strip.show(session))
    assert [bar["mean"] for bar in shown["blocks"]] == [round(100 * bar.mean, 2) for bar in blocks]
    assert shown["text"] == sparsity_text(session)
    rows = json.loads(layer_list.show(session))["rows"]
    assert {row["name"]: row["given"] for row in rows} == {
        name: round(100 * share, 2) for name, share in sparsities_of(session).items()
    }


def test_presets_can_be_applied_and_keep_the_overall_sparsity(ready):
    for preset in sparsity_presets(ready):
        after = set_by_text(ready, preset.text)
        assert after.report.achieved == pytest.approx(ready.report.achieved, abs=0.02)  # whole rows of a tiny model


def test_before_there_is_a_plan(ready):
    loaded = Session(ready.store, model=ready.model)
    for session in (None, loaded):
        shown = json.loads(block_strip.show(session))
        assert (shown["note"], shown["blocks"], shown["kinds"]) == (block_strip.NOTHING, [], [])
    with pytest.raises(UserError, match="calibrate it first"):
        set_by_text(loaded, "all:50")
    fixed = json.loads(block_strip.show(pruned_by(ready, "dit-pruning", granularity="2:4")))
    assert (fixed["note"], {bar["fixed"] for bar in fixed["kinds"]}) == (block_strip.FIXED, {True})
