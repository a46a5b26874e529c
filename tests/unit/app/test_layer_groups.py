"""Groups of layers: how they are found and named, what their sliders do, and what is told of them."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from sessions import pruned_by
from tiny_models import build_flux

from dit_prune_viz.app.pages.map import group_table, group_view
from dit_prune_viz.app.session import group_rows, packed
from dit_prune_viz.app.session.history import History
from dit_prune_viz.app.session.layer_groups import (
    BY_BLOCK,
    BY_KIND,
    group_layers,
    group_of_selection,
    groups_of,
    layer_plane,
    map_subject,
    members,
    set_group,
    spread_groups,
    tag_group,
)
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.clustering.units import LAYER
from dit_prune_viz.errors import UserError
from dit_prune_viz.export.packed_size import packed_sizes
from dit_prune_viz.pruning.limits import Bounds
from dit_prune_viz.pruning.prune import rank


def group_named(session: Session, name: str) -> int:
    return [tag.name for tag in groups_of(session).tags].index(name)


def changed_masks(before: Session, after: Session) -> set[str]:
    return {name for name, mask in after.masks.items() if mask is not before.masks[name]}


def test_layers_are_grouped_by_kind_and_by_block(ready):
    layers = ready.model.layers
    for by, name in ((BY_KIND, lambda layer: layer.kind), (BY_BLOCK, lambda layer: f"block {layer.block}")):
        groups = groups_of(group_layers(ready, by))
        assert groups.unit == LAYER
        assert [groups.tags[group].name for group in groups.labels] == [name(layer) for layer in layers]
        assert len({tag.name for tag in groups.tags}) == groups.k
    assert ready.groups is None
    assert np.array_equal(groups_of(ready).labels, groups_of(group_layers(ready, BY_KIND)).labels)


def test_the_plane_is_weight_scale_by_activation_norm(ready):
    for (x, y), layer in zip(layer_plane(ready), ready.model.layers, strict=True):
        assert 10**x == pytest.approx(float(ready.model.weight(layer.name).square().mean().sqrt()), rel=1e-5)
        norm = ready.calibration.norm(layer.name)
        assert 10**y == pytest.approx(float(norm.square().mean().sqrt()), rel=1e-5)


@pytest.mark.parametrize("by", ["kmeans", "gmm", "hdbscan"])
def test_groups_found_in_the_plane_keep_ids_names_and_locks(ready, by):
    found = group_layers(ready, by, None if by == "hdbscan" else 3)
    assert groups_of(found).algorithm == by
    named = tag_group(found, 0, name="quiet", locked=True)
    inside = set(members(named, 0))
    again = group_layers(named, "kmeans", 4)
    (kept,) = (i for i, tag in enumerate(groups_of(again).tags) if tag.name == "quiet")
    assert groups_of(again).tags[kept].locked
    assert inside & set(members(again, kept))
    assert all("cluster" not in tag.name for tag in groups_of(again).tags)
    assert groups_of(group_layers(named, BY_KIND)).tags[0].name == ready.model.layers[0].kind
    assert again.masks is found.masks


def test_a_slider_changes_the_masks_of_its_group_alone(ready):
    for by in (BY_KIND, BY_BLOCK):
        grouped = group_layers(ready, by)
        after = set_group(grouped, 1, 0.8)
        assert changed_masks(grouped, after) == set(members(grouped, 1))
        row = group_rows.group_rows(after)[1]
        assert row.sparsity == pytest.approx(0.8, abs=0.05)
        assert row.removed == sum(int((~after.masks[name].unpack()).sum()) for name in members(grouped, 1))


def test_the_other_groups_make_up_for_it_unless_they_are_locked(ready):
    locked = tag_group(group_layers(ready, BY_KIND), 2, locked=True)
    after = set_group(locked, 0, 0.9, keep_overall=True)
    assert after.report.removed == ready.report.removed
    assert changed_masks(locked, after) == set(ready.masks) - set(members(locked, 2))
    again = rank(after.plan.as_recipe(), after.statistics)
    assert all(torch.equal(again.masks[name], mask.unpack()) for name, mask in after.masks.items())
    spread = spread_groups(after)
    assert spread.report.removed == ready.report.removed
    assert not changed_masks(after, spread) & set(members(locked, 2))
    assert spread.report.damage <= after.report.damage


def test_limits_of_the_recipe_hold_in_a_group(ready):
    first, second = ready.model.layers[0], next(one for one in ready.model.layers if one.kind != "adaLN")
    limited = pruned_by(ready, "dit-pruning", ignore=(first.name,), bounds=(Bounds(second.name, 0.3, 0.6),))
    limited = group_layers(limited, BY_BLOCK)
    after = set_group(limited, 0, 0.9, keep_overall=True)
    assert after.report.removed == limited.report.removed
    counts = {one.name: one for one in after.report.layers}
    assert counts[first.name].removed == 0
    assert counts[second.name].sparsity == pytest.approx(0.6, abs=0.01)
    row = group_rows.group_rows(after)[0]
    assert row.fixed == (first.weights, 0)
    halved = group_layers(pruned_by(ready, "dit-pruning", "2:4"), BY_KIND)
    assert {row.curve for row in group_rows.group_rows(halved)} == {None}
    with pytest.raises(UserError, match="has a sparsity to choose"):
        set_group(halved, 0, 0.4)
    for wrong in (-1, 99, "x", True):
        with pytest.raises(UserError):
            set_group(ready, wrong, 0.5)


def test_what_groups_hold_adds_up_to_the_model(ready):
    packed.prepare(ready.model)
    for by in (BY_KIND, BY_BLOCK):
        moved = set_group(group_layers(ready, by), 0, 0.7)
        rows = group_rows.group_rows(moved)
        assert sum(row.removed for row in rows) == moved.report.removed
        assert sum(row.share for row in rows) == pytest.approx(1)
        assert sum(row.damage for row in rows) == pytest.approx(moved.report.damage)
        energies = {
            layer.name: float((moved.model.weight(layer.name) ** 2 @ moved.mean_square(layer.name)).sum())
            for layer in moved.model.layers
        }
        for row in rows:
            own = sum(energies[name] for name in members(moved, row.id))
            assert row.energy == pytest.approx(own / sum(energies.values()), rel=1e-4)
            assert row.curve[0] == 0
            assert row.curve[-1] == pytest.approx(row.share, rel=1e-6)
            at = float(np.interp(row.sparsity, np.linspace(0, 1, len(row.curve)), row.curve))
            assert at == pytest.approx(row.damage, abs=0.02)
        sizes = packed_sizes(moved.model)
        dense = set_group(moved, 0, 0.0)
        less = sizes.estimate(dense.pruned) - sizes.estimate(moved.pruned)
        now, then = (group_rows.group_rows(one)[0].packed for one in (moved, dense))
        assert then - now == pytest.approx(less, abs=60)  # and the recipe's own words
        assert sum(packed.by_layer(moved).values()) == pytest.approx(sum(row.packed for row in rows))


def test_the_energy_of_a_large_layer_is_told_from_a_sample(ready, monkeypatch):
    name = max(ready.model.layers, key=lambda layer: layer.weights).name
    exact = float((ready.model.weight(name) ** 2 @ ready.mean_square(name)).sum())
    monkeypatch.setattr(group_rows, "_SAMPLE", ready.model.layer(name).weights // 3)
    told = group_rows.layer_energy(ready.model.weight(name), ready.mean_square(name))
    assert told == pytest.approx(exact, rel=0.3)


def test_a_lasso_makes_a_group_and_undo_takes_it_back(ready):
    chosen = np.array([1, 4, 6])
    drawn = group_of_selection(ready, chosen)
    groups = groups_of(drawn)
    assert np.flatnonzero(groups.labels == groups.k - 1).tolist() == chosen.tolist()
    history = History()
    history.present = ready
    moved = set_group(drawn, groups.k - 1, 0.9)
    history.step(ready, drawn, "a group")
    history.step(drawn, moved, "sparsity…")
    assert history.undo().groups is drawn.groups
    assert history.undo().groups is None
    history.redo()
    assert history.redo().masks is moved.masks
    for wrong in ([], [-1], [len(ready.model.layers)]):
        with pytest.raises(UserError):
            group_of_selection(ready, np.array(wrong, int))


def test_groups_outlive_a_calibration_and_a_model_that_comes_back(ready, tiny_sd3):
    named = tag_group(group_layers(ready, BY_BLOCK), 0, name="first")
    assert named.calibrate(8, 1).groups is named.groups
    assert pruned_by(named, "wanda").groups is named.groups
    other = named.load_model(str(tiny_sd3))
    assert other.groups is None
    assert len(groups_of(other).labels) == len(other.model.layers)
    history = History()
    history.present = named
    history.step(named, other, "another model")
    assert groups_of(history.undo()).tags[0].name == "first"


def edit(session: Session, group: int, **values) -> dict:
    shown = json.loads(group_table.show(session))
    return {"layer": shown["layer"], "clustering": shown["clustering"], "cluster": group, **values}


def test_the_table_shows_groups_and_does_what_it_is_told(ready):
    shown = json.loads(group_table.show(ready))
    assert [row["name"] for row in shown["rows"]] == [tag.name for tag in groups_of(ready).tags]
    assert shown["total"][0] == str(len(ready.model.layers))
    after = group_table.apply(ready, [edit(ready, 0, sparsity=0.8, keep=True)])
    assert after.report.removed == ready.report.removed
    for verb in ({"verb": "rename", "name": "loud"}, {"verb": "lock", "locked": True}, {"verb": "look", "look": 5}):
        after = group_table.apply(after, [edit(after, 0, **verb)])
    assert vars(groups_of(after).tags[0]) == {"name": "loud", "look": 5, "locked": True}
    merged = group_table.apply(after, [edit(after, 0, verb="merge", other=1)])
    assert groups_of(merged).k == groups_of(after).k - 1
    assert set(members(merged, 0)) == {*members(after, 0), *members(after, 1)}
    parted = group_table.apply(after, [edit(after, 0, verb="split")])
    assert groups_of(parted).k == groups_of(after).k + 1
    spread = group_table.apply(after, [edit(after, -1, verb="spread")])
    assert not changed_masks(after, spread) & set(members(after, 0))
    late = edit(after, 0, sparsity=0.1)
    assert group_table.apply(merged, [late]) is merged
    with pytest.raises(UserError, match="Groups of layers cannot be changed by 'explode'"):
        group_table.apply(after, [edit(after, 0, verb="explode")])
    for bare in (None, ready.load_model(ready.model.source)):
        assert json.loads(group_table.show(bare))["rows"] == []


def test_the_scatter_shows_every_layer_once_and_says_what_is_selected(ready):
    bare = Session(ready.store).load_model(ready.model.source).look()
    for session in (ready, bare):
        figure = group_view.plane_figure(session)
        opened = {int(i): name for trace in figure.data for i, name in zip(trace.customdata, trace.text, strict=True)}
        assert opened == {i: layer.name for i, layer in enumerate(ready.model.layers)}
        looks = [(trace.marker.color, trace.marker.symbol) for trace in figure.data]
        assert len(set(looks)) == len(looks)
    assert not group_view.plane_figure(None).data

    chosen = Selection(map_subject(ready)).changed([0, 2], "set", "layers")
    share = sum(ready.model.layers[i].weights for i in (0, 2)) / ready.report.weights
    told = group_view.describe_selection(ready, chosen)
    assert told.startswith("**2 layers selected**")
    assert f"{100 * share:.3g} % of the prunable" in told
    other = Selection("another//layers-2").changed([0, 1], "set", "layers")
    assert group_view.describe_selection(ready, other) == group_view.HINT
    assert group_view.describe_selection(None, chosen) == group_view.HINT


def test_494_layers_are_quick(tiny_clip, tmp_path):
    """FLUX.1's blocks in miniature, with masks that wait as those of a large model do."""
    build_flux(num_layers=19, num_single_layers=38).save_pretrained(tmp_path)
    sizes = {"height": 64, "width": 64, "steps": 2, "max_sequence_length": 16, "prompts": ["apple"]}
    (tmp_path / "generation_defaults.json").write_text(json.dumps(sizes))
    session = Session(ModelStore(clip=tiny_clip, device="cpu", dtype="float32")).load_model(str(tmp_path))
    session.model.cache.limit = 8 * session.model.prunable_parameters
    session = session.calibrate(2, 0)
    assert len(session.model.layers) == 494
    grouped = group_layers(session, BY_BLOCK)
    assert groups_of(grouped).k == 57
    group_table.show(grouped)  # measures every layer once
    start = time.process_time()
    after = group_table.apply(grouped, [edit(grouped, 3, sparsity=0.8, keep=True)])
    figure, table = group_view.plane_figure(after), group_table.show(after)
    assert time.process_time() - start < 3
    assert after.pruned.layers.made == {}
    assert after.report.removed == session.report.removed
    assert sum(len(trace.x) for trace in figure.data) == len(session.model.layers)
    assert len(json.loads(table)["rows"]) == 57
    assert replace(after, groups=None).masks is after.masks
