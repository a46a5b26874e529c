"""G_out and costs of layers are measured once, whatever the sparsity; memory and disk give them back bit for bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small_plans import LAYERS, SHAPES, WEIGHTS, mean_square, scores_of

from dit_prune_viz import disk_cache
from dit_prune_viz.caching import Cache
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Cancelled
from dit_prune_viz.methods import registry
from dit_prune_viz.methods.allocation.cost import layer_cost
from dit_prune_viz.methods.granularity.heterogeneity import heterogeneity
from dit_prune_viz.methods.registry import register
from dit_prune_viz.methods.saliency.magnitude import Magnitude
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.make_plan import make_plan
from dit_prune_viz.pruning.measures import Measures
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.scores import Scores

GROUPS = {"adaLN": "row", "q": "layer", "mlp in": "column", "mlp out": "2:4"}


def of_small_layers(asked: list | None = None, **options) -> Measures:
    scores = scores_of("stw")

    def told(name: str) -> torch.Tensor:
        if asked is not None:
            asked.append(name)
        return scores(name)

    return Measures(WEIGHTS.__getitem__, told, mean_square, **options)


def same(a: object, b: object) -> bool:
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(b))


def test_layers_are_measured_as_one_by_one():
    measures = of_small_layers()
    assert measures.g_out(list(SHAPES)) == {name: heterogeneity(scores_of("stw")(name)) for name in SHAPES}
    for level in (5.0, 2.0):
        found = measures.costs(GROUPS, outlier_level=level)
        assert list(found) == list(GROUPS)
        for name, groups in GROUPS.items():
            tables = scores_of("stw")(name), WEIGHTS[name], mean_square(name)
            assert same(found[name], layer_cost(name, *tables, groups, outlier_level=level))
            assert found[name].removed.dtype == np.int64


def test_only_what_is_new_is_measured():
    asked: list[str] = []
    measures = of_small_layers(asked)
    for sparsity in (0.3, 0.6):
        make_plan(Recipe(allocation="tempered", sparsity=sparsity), LAYERS, measures)
    assert len(asked) == 2 * len(SHAPES)  # once for G_out, and once for the costs, whose groups depend on all of them
    asked.clear()
    row = dict.fromkeys(SHAPES, "row")
    measures.costs(row)
    assert "adaLN" not in asked  # the plan had ranked it by row already
    assert "q" in asked
    asked.clear()
    measures.costs(row, outlier_level=2.0)
    measures.curves(row)
    measures.curves(row)
    assert asked == 2 * list(SHAPES)


def test_measures_of_other_bases_are_kept_apart():
    cache = Cache(1 << 20)
    first: list[str] = []
    second: list[str] = []
    of_small_layers(first, cache=cache, basis=("a",)).g_out(["q"])
    of_small_layers(second, cache=cache, basis=("b",)).g_out(["q"])
    of_small_layers(second, cache=cache, basis=("a",)).g_out(["q"])
    assert (first, second) == (["q"], ["q"])


def test_what_took_long_comes_back_from_disk(tmp_path, monkeypatch):
    disk = DiskCache(tmp_path)
    of_small_layers(disk=disk, content=("model",)).costs(GROUPS)
    assert not list(tmp_path.iterdir())  # it took no time
    monkeypatch.setattr(disk_cache, "LONG_SECONDS", 0.0)
    made = of_small_layers(disk=disk, content=("model",))
    expected = made.g_out(list(SHAPES)), made.costs(GROUPS), made.curves(GROUPS)
    asked: list[str] = []
    again = of_small_layers(asked, disk=disk, content=("model",))
    assert again.g_out(list(SHAPES)) == expected[0]
    costs, curves = again.costs(GROUPS), again.curves(GROUPS)
    assert asked == []
    assert all(same(costs[name], expected[1][name]) for name in GROUPS)
    assert all(same(curves[name], expected[2][name]) for name in GROUPS)
    of_small_layers(asked, disk=disk, content=("another model",)).g_out(["q"])
    of_small_layers(asked, disk=disk, content=None).g_out(["q"])
    assert asked == ["q", "q"]


def test_nothing_is_kept_of_work_that_is_cancelled(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "LONG_SECONDS", 0.0)
    asked: list[str] = []
    measures = of_small_layers(asked, disk=DiskCache(tmp_path), content=("model",))

    def stop(done: int, total: int, what: str) -> None:
        assert (total, what) == (4, f"Weighing {list(GROUPS)[done]}")
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        measures.costs(GROUPS, progress=stop)
    assert not list(tmp_path.iterdir())
    measures.costs(GROUPS)
    assert asked == [*list(GROUPS)[:3], *GROUPS]


@pytest.fixture(scope="module")
def statistics(tiny_flux):
    model = load_model(tiny_flux, device="cpu", dtype="float32")
    return Statistics(model, calibrate(model, samples=4, steps=2))


def test_damage_may_weigh_timesteps_otherwise_than_the_scores(statistics):
    scores, layer = Scores(Recipe(timestep="log"), statistics), statistics.model.layers[0].name
    for asked, timestep in ((None, "log"), ("uniform", "uniform")):
        found = scores.measures(asked).costs({layer: "layer"})[layer]
        tables = scores(layer), statistics.model.weight(layer), statistics.mean_square(layer, timestep)
        assert same(found, layer_cost(layer, *tables, "layer"))


def test_methods_of_ones_own_are_measured_anew_in_every_process(statistics, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "LONG_SECONDS", 0.0)

    monkeypatch.setattr(registry, "_METHODS", {kind: dict(known) for kind, known in registry._METHODS.items()})

    @register
    class Mine(Magnitude):
        name = "mine"

    for recipe, files in ((Recipe("mine"), 0), (Recipe("magnitude"), 1)):
        known = Statistics(statistics.model, statistics.calibration, disk=DiskCache(tmp_path))
        Scores(recipe, known).measures().g_out([known.model.layers[0].name])
        assert len(list(tmp_path.glob("heterogeneity-*"))) == files
