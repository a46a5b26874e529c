"""The map's figures: values of single timestep bins, and colours that compare between them."""

from __future__ import annotations

import numpy as np
import pytest

from dit_prune_viz.figures.layer_map import layer_map
from dit_prune_viz.ui import layer_list, map_tab, pruning
from dit_prune_viz.ui.session import Session
from dit_prune_viz.ui.statistics import activation_norm_at
from dit_prune_viz.ui.workspace import Workspace


@pytest.fixture(scope="module")
def ready(tiny_clip, tiny_flux):
    return Session(Workspace(clip=tiny_clip, device="cpu", dtype="float32")).load_model(str(tiny_flux)).calibrate(16, 0)


def test_norms_of_the_bins_average_to_the_norm_over_all_of_them(ready):
    for name, tokens in ready.calibration.tokens.items():
        norms = np.array([activation_norm_at(ready.calibration, name, bin) for bin in range(len(tokens))])
        mean = np.average(norms**2, weights=tokens.numpy())
        assert mean**0.5 == pytest.approx(ready.statistics[name].activation_norm, rel=1e-4)


@pytest.mark.parametrize("key", map_tab.ACTIVATIONS)
def test_a_timestep_changes_values_but_not_what_a_colour_or_a_height_means(ready, key):
    bins = range(1, map_tab.BINS + 1)
    figures = [map_tab.heat_figure(ready, key, bin) for bin in bins]
    assert len({(figure.data[0].zmin, figure.data[0].zmax) for figure in figures}) == 1
    assert len({figure.layout.title.text for figure in figures}) == map_tab.BINS
    values = np.stack([figure.data[0].z for figure in figures])
    assert values[np.isfinite(values)].min() == pytest.approx(figures[0].data[0].zmin)
    dots = [map_tab.dots_figure(ready, "activation_norm", bin) for bin in bins]
    assert len({tuple(figure.layout.yaxis.range) for figure in dots}) == 1


def test_a_timestep_leaves_other_statistics_alone(ready):
    assert map_tab.heat_figure(ready, "g_out", 3) == map_tab.heat_figure(ready, "g_out")


def test_every_statistic_has_a_map_and_every_layer_a_row_in_the_list(ready):
    assert not map_tab.heat_figure(ready, "sensitivity").data  # nobody has asked for it yet
    measured = pruning.sense(ready)
    for key in map_tab.STATISTICS:
        heat = map_tab.heat_figure(measured, key).data[0]
        assert set(heat.customdata[..., 0].ravel()) - {""} == {layer.name for layer in ready.model.layers}
    assert layer_list.show(None) == "[]"
    assert layer_list.show(ready).count('"name"') == len(ready.model.layers)


def test_limits_are_the_ends_of_the_colours():
    layers = {"names": ["a"], "blocks": [0], "kinds": ["q"], "stacks": ["s"]}
    heat = layer_map(**layers, values=[1.0], title="x", log=True, limits=(0.1, 100)).data[0]
    assert (heat.zmin, heat.zmax) == (-1, 2)
