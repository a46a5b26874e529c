"""The map's figures: values of single timestep bins, and colours that compare between them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from sessions import pruned_by

from dit_prune_viz.app.pages.map import plan_pair_view
from dit_prune_viz.app.pages.map import view as map_figures
from dit_prune_viz.app.pages.map.page import FIRST
from dit_prune_viz.app.session import measuring
from dit_prune_viz.app.session.cluster_edits import set_sparsity
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.recipe_form import BINS
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import layer_list
from dit_prune_viz.calibration.layer_statistics import activation_norm_at
from dit_prune_viz.figures.layer_map import layer_map


@pytest.fixture(scope="module")
def ready(tiny_clip, tiny_flux):
    store = ModelStore(clip=tiny_clip, device="cpu", dtype="float32")
    return Session(store).load_model(str(tiny_flux)).calibrate(16, 0)


def test_norms_of_the_bins_average_to_the_norm_over_all_of_them(ready):
    for name, tokens in ready.calibration.tokens.items():
        norms = np.array([activation_norm_at(ready.calibration, name, bin) for bin in range(len(tokens))])
        mean = np.average(norms**2, weights=tokens.numpy())
        assert mean**0.5 == pytest.approx(ready.layer_statistics[name].activation_norm, rel=1e-4)


@pytest.mark.parametrize("key", map_figures.ACTIVATIONS)
def test_a_timestep_changes_values_but_not_what_a_colour_or_a_height_means(ready, key):
    bins = range(1, BINS + 1)
    figures = [map_figures.heat_figure(ready, key, bin) for bin in bins]
    assert len({(figure.data[0].zmin, figure.data[0].zmax) for figure in figures}) == 1
    assert len({figure.layout.title.text for figure in figures}) == BINS
    values = np.stack([figure.data[0].z for figure in figures])
    assert values[np.isfinite(values)].min() == pytest.approx(figures[0].data[0].zmin)
    dots = [map_figures.dots_figure(ready, "activation_norm", bin) for bin in bins]
    assert len({tuple(figure.layout.yaxis.range) for figure in dots}) == 1


def test_a_timestep_leaves_other_statistics_alone(ready):
    assert map_figures.heat_figure(ready, "g_out", 3) == map_figures.heat_figure(ready, "g_out")


def test_every_statistic_has_a_map_and_every_layer_a_row_in_the_list(ready):
    assert not map_figures.heat_figure(ready, "sensitivity").data  # nobody has asked for it yet
    measured = measuring.sense(ready)
    for key in map_figures.STATISTICS:
        heat = map_figures.heat_figure(measured, key).data[0]
        assert set(heat.customdata[..., 0].ravel()) - {""} == {layer.name for layer in ready.model.layers}
    assert json.loads(layer_list.show(None))["rows"] == []
    assert layer_list.show(ready).count('"name"') == len(ready.model.layers)


def test_the_map_opens_on_damage_at_the_present_sparsity(ready):
    assert next(iter(map_figures.STATISTICS)) == FIRST == "damage"
    figure = map_figures.heat_figure(pruned_by(ready, "wanda", "row", 0.25), FIRST)
    assert figure.layout.title.text == "Predicted damage at 25 % sparsity"


def test_limits_are_the_ends_of_the_colours():
    layers = {"names": ["a"], "blocks": [0], "kinds": ["q"], "stacks": ["s"]}
    heat = layer_map(**layers, values=[1.0], title="x", log=True, limits=(0.1, 100)).data[0]
    assert (heat.zmin, heat.zmax) == (-1, 2)


def test_two_plans_are_compared_in_figures_maps_and_layers(ready):
    other = pruned_by(ready, "wanda", "row", 0.7)
    naive = sum(
        int((ready.masks[layer.name].unpack() != other.masks[layer.name].unpack()).sum())
        for layer in ready.model.layers
    )
    told = plan_pair_view.describe(ready, other)
    assert f"The masks differ in {naive:,} weights" in told
    assert re.search(r"<td>DiT-Pruning (49\.\d|50) %</td><td>Wanda (69\.\d|70) %</td>", told)
    for key in plan_pair_view.COMPARED:
        first, second = (figure.data[0] for figure in plan_pair_view.maps(ready, other, key))
        assert (first.zmin, first.zmax) == (second.zmin, second.zmax)
        assert min(np.nanmin(first.z), np.nanmin(second.z)) >= first.zmin - 1e-9
        assert max(np.nanmax(first.z), np.nanmax(second.z)) <= first.zmax + 1e-9


def test_a_plan_beside_itself_has_no_layer_that_differs(ready):
    told = plan_pair_view.describe(ready, ready)
    assert "Both plans prune the same weights." in told
    assert told.count("<table") == 1
    layer = ready.model.layers[0].name
    moved = set_sparsity(ready.cluster(layer, k=2), layer, 0, 0.9)
    assert f'<th scope="row">{layer}</th>' in plan_pair_view.describe(ready, moved)
    assert "of 1 layer." in plan_pair_view.describe(ready, moved)
