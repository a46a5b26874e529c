"""Finished layers on disk: found by another process, and by nothing that was finished otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.methods.registry import _METHODS
from dit_prune_viz.methods.update.bias import Mean
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.prune import finish_layers, prune, rank
from dit_prune_viz.pruning.recipe import Recipe


@pytest.fixture
def always_long(monkeypatch):
    monkeypatch.setattr("dit_prune_viz.disk_cache.LONG_SECONDS", 0.0)


def known(folder, disk, samples: int = 8):
    """A model as another process has it, and how often it runs."""
    model = load_model(folder, device="cpu", dtype="float32")
    statistics, runs = Statistics(model, calibrate(model, samples=samples, steps=2), disk=disk), []
    model.transformer.register_forward_pre_hook(lambda *_: runs.append(1))
    return statistics, runs


def same(first, second) -> bool:
    def parts(layer):
        return layer.mask.unpack(), layer.values, layer.bias

    return all(
        (one is None and other is None) or torch.equal(one, other)
        for name in first
        for one, other in zip(parts(first[name]), parts(second[name]), strict=True)
    )


@pytest.mark.parametrize("recipe", [Recipe(search="swap", update="mean"), Recipe(search="distil:2", update="tuned:2")])
def test_another_process_finds_every_bit(tiny_flux, tmp_path, always_long, recipe):
    results = []
    for disk in (None, DiskCache(tmp_path), DiskCache(tmp_path)):
        statistics, runs = known(tiny_flux, disk)
        results.append((prune(statistics.model, recipe, statistics=statistics).layers, len(runs)))
    (without, _), (first, some), (again, none) = results
    assert some
    assert not none
    assert same(without, first)
    assert same(first, again)
    assert any(layer.bias is not None for layer in again.values())


def test_whatever_decides_the_result_gives_an_entry_of_its_own(tiny_flux, tmp_path, always_long):
    disk = DiskCache(tmp_path)
    statistics, _ = known(tiny_flux, disk)
    recipe = Recipe(search="swap", update="mean")
    plan = rank(recipe, statistics).plan
    layer = statistics.model.layers[0]
    labels = np.arange(layer.shape[0]) % 2
    halves = plan.with_clusters(layer.name, Clusters("row", "kmeans", labels, 2))
    plans = [
        plan,
        replace(plan, recipe=replace(recipe, update="")),
        replace(plan, recipe=replace(recipe, timestep="log")),
        replace(plan, recipe=replace(recipe, sequential=True)),
        plan.with_layer(replace(plan.layer(layer.name), granularity="column")),
        halves.with_cluster_sparsity(layer.name, 0, 0.25),
        halves.with_cluster_sparsity(layer.name, 1, 0.25),
    ]
    masks = rank(recipe, statistics).packed_masks
    for number, one in enumerate(plans, start=1):
        finish_layers(one, masks, statistics)
        assert len(list(tmp_path.glob("finished-*"))) == number
    finish_layers(plan, rank(recipe.at(0.6), statistics).packed_masks, statistics)
    other, _ = known(tiny_flux, disk, samples=9)
    finish_layers(plan, masks, other)
    assert len(list(tmp_path.glob("finished-*"))) == len(plans) + 2


def test_a_method_from_elsewhere_runs_every_time(tiny_flux, tmp_path, always_long, monkeypatch):
    class Own(Mean):
        name = "own"

    monkeypatch.setitem(_METHODS["update"], "own", Own)
    for _ in range(2):
        statistics, _ = known(tiny_flux, DiskCache(tmp_path))
        prune(statistics.model, Recipe(update="own"), statistics=statistics)
    assert not list(tmp_path.glob("finished-*"))
    prune(statistics.model, Recipe(update="mean"), statistics=statistics)
    assert list(tmp_path.glob("finished-*"))
