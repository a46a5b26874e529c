"""Masks that learn from the dense model's outputs: what stays as it is, and what gets better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.distillation_set import guided, record_distillation_set
from dit_prune_viz.calibration.recorded_inputs import run_call
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.clustering.clusters import cluster
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.masks.scores_to_mask import mask_of_scores
from dit_prune_viz.methods import training
from dit_prune_viz.methods.search import distil
from dit_prune_viz.methods.search.distil import distil_masks
from dit_prune_viz.methods.update.bias import Mean
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.build_masks import build_masks
from dit_prune_viz.pruning.prune import rank
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.scores import Scores
from dit_prune_viz.pruning.solve_layers import solve_layers


@pytest.fixture(scope="module")
def flux(tiny_flux):
    return load_model(tiny_flux, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def calibration(flux):
    return calibrate(flux, samples=16, seed=0)


@pytest.fixture(scope="module")
def examples(flux, calibration):
    return record_distillation_set(flux, calibration, 32, rows=8)


def plan_of(flux, calibration, granularity="auto", sparsity=0.6, allocation="uniform"):
    recipe = Recipe(granularity=granularity, sparsity=sparsity, allocation=allocation)
    return rank(recipe, Statistics(flux, calibration)).plan


def masks_of(flux, calibration, plan):
    return build_masks(plan, Scores(plan.recipe, Statistics(flux, calibration)))


@torch.no_grad()
def output_error(model, inputs, layers) -> float:
    """Mean relative squared error of the transformer's output with these masks or pruned layers, every input alone."""
    layers = {name: one if isinstance(one, PrunedLayer) else PrunedLayer(one) for name, one in layers.items()}
    errors = []
    for call in inputs.calls:
        dense = run_call(model, call)
        with running_pruned(model, layers):
            sparse = run_call(model, call)
        for a, b in zip(dense, sparse, strict=True):
            errors.append(float((a.double() - b.double()).square().sum() / a.double().square().sum()))
    return sum(errors) / len(errors)


def counts(mask, granularity):
    pruned = ~mask.unpack()
    if granularity == "layer":
        return [int(pruned.sum())]
    if granularity == "column":
        return pruned.sum(0).tolist()
    return (pruned.reshape(-1, 4) if ":" in granularity else pruned).sum(1).tolist()


@pytest.mark.parametrize("granularity", ["layer", "row", "column", "2:4", "cag"])
def test_every_layer_loses_as_many_and_the_output_comes_closer(flux, calibration, examples, granularity):
    before = {name: value.clone() for name, value in flux.transformer.state_dict().items()}
    plan = plan_of(flux, calibration, granularity)
    ranked = masks_of(flux, calibration, plan)
    learned = distil_masks(flux, plan.layers, ranked, examples, norm=calibration.norm, steps=15)
    assert list(learned) == list(ranked)
    inside = granularity if ":" in granularity else "layer"
    for name, mask in learned.items():
        assert counts(mask, inside) == counts(ranked[name], inside)
    if granularity in ("row", "column"):  # what gradients can compare moves between them
        assert any(counts(mask, granularity) != counts(ranked[name], granularity) for name, mask in learned.items())
    assert output_error(flux, examples, learned) < 0.9 * output_error(flux, examples, ranked)
    assert all(torch.equal(value, before[name]) for name, value in flux.transformer.state_dict().items())
    assert not any("forward" in vars(module) for module in flux.transformer.modules())


def test_counts_of_a_budget_and_of_clusters_stay(flux, calibration, examples):
    plan = plan_of(flux, calibration, "layer", 0.5, "tempered:0.8")
    name = flux.layers[0].name
    rows = flux.weight(name).norm(dim=1).numpy()
    clusters = cluster(np.stack([rows, rows], 1), unit="row", k=3)
    plan = plan.with_clusters(name, clusters).with_cluster_sparsity(name, 1, 0.9)
    ranked = masks_of(flux, calibration, plan)
    learned = distil_masks(flux, plan.layers, ranked, examples, norm=calibration.norm, steps=4)
    assert {key: mask.removed for key, mask in learned.items()} == {key: mask.removed for key, mask in ranked.items()}
    members = torch.from_numpy(clusters.labels == 1)
    assert int((~learned[name].unpack())[members].sum()) == int((~ranked[name].unpack())[members].sum())


def test_the_same_again_gives_the_same_masks(flux, calibration, examples):
    plan = plan_of(flux, calibration)
    ranked = masks_of(flux, calibration, plan)
    first, second = (
        distil_masks(flux, plan.layers, ranked, examples, norm=calibration.norm, steps=5) for _ in range(2)
    )
    assert [mask.digest for mask in first.values()] == [mask.digest for mask in second.values()]
    assert any(first[name].differing(ranked[name]) for name in ranked)


def test_the_gradient_is_that_of_the_loss(flux, calibration, examples, monkeypatch):
    """By how much the error changes where one weight is there a little more, against differences of the model."""
    plan = plan_of(flux, calibration)
    ranked = masks_of(flux, calibration, plan)
    seen = {}

    class Noting(distil._Layer):
        def note(self, gradient):
            seen[self.plan.name] = gradient / training._SCALE * self.weight

    monkeypatch.setattr(distil, "_Layer", Noting)
    one = replace(examples, calls=examples.calls[:1], pairs=examples.pairs[:1])
    monkeypatch.setattr(Noting, "move", lambda *_: None)
    distil_masks(flux, plan.layers, ranked, one, norm=calibration.norm, steps=1)
    monkeypatch.undo()

    def relative(dense, sparse):
        return float(((dense - sparse).square().flatten(1).sum(1) / dense.square().flatten(1).sum(1)).mean())

    def error(name, row, column, change):
        weight = flux.weight(name)
        kept = weight.clone()
        with torch.no_grad():
            # The share of one weight that is there, moved up or down; the mask keeps it meanwhile.
            mask = ranked[name].unpack().clone()
            there = float(mask[row, column])
            weight[row, column] *= there + change
            mask[row, column] = True
            with running_pruned(flux, {key: PrunedLayer(one) for key, one in {**ranked, name: pack(mask)}.items()}):
                sparse = run_call(flux, one.calls[0])
            weight.copy_(kept)
            dense = run_call(flux, one.calls[0])
        a, b = torch.stack(dense).double(), torch.stack(sparse).double()
        together = guided(a, one.pairs[0], one.scale), guided(b, one.pairs[0], one.scale)
        return relative(a, b) + relative(*together)

    name = max(seen, key=lambda key: float(seen[key].abs().max()))
    kept = ranked[name].unpack()
    for chosen in (kept, ~kept):
        place = int((seen[name].abs() * chosen).argmax())
        row, column = divmod(place, kept.shape[1])
        slope = (error(name, row, column, 0.02) - error(name, row, column, -0.02)) / 0.04
        assert float(seen[name][row, column]) == pytest.approx(slope, rel=0.05)


def test_biases_that_make_up_for_the_mean_have_a_say(flux, calibration, examples):
    plan = plan_of(flux, calibration)
    ranked = masks_of(flux, calibration, plan)
    learned = distil_masks(flux, plan.layers, ranked, examples, norm=calibration.norm, mean=calibration.mean, steps=15)
    statistics = Statistics(flux, calibration)
    moved = [solve_layers(statistics, plan.layers, masks, update=Mean()).layers for masks in (learned, ranked)]
    assert output_error(flux, examples, moved[0]) < 0.9 * output_error(flux, examples, moved[1])


def test_a_cancelled_run_leaves_the_dense_model(flux, calibration, examples):
    plan = plan_of(flux, calibration)
    ranked = masks_of(flux, calibration, plan)
    before = {name: value.clone() for name, value in flux.transformer.state_dict().items()}
    told = []

    def stop(done, total, what):
        told.append((done, total, what))
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        distil_masks(flux, plan.layers, ranked, examples, norm=calibration.norm, steps=9, progress=stop)
    assert [entry[:2] for entry in told] == [(1, 9), (2, 9)]
    assert "error" in told[0][2]
    assert all(torch.equal(value, before[name]) for name, value in flux.transformer.state_dict().items())
    assert all(parameter.grad is None for parameter in flux.transformer.parameters())
    assert not any("forward" in vars(module) for module in flux.transformer.modules())


def test_layers_that_lose_nothing_or_everything_stay_as_they_are(flux, calibration, examples):
    for sparsity in (0.0, 1.0):
        plan = plan_of(flux, calibration, "layer", sparsity)
        ranked = masks_of(flux, calibration, plan)
        learned = distil_masks(flux, plan.layers, ranked, examples, norm=calibration.norm, steps=1)
        assert all(learned[name] is ranked[name] for name in ranked)


def test_what_it_refuses(flux, calibration, examples):
    plan = plan_of(flux, calibration)
    ranked = masks_of(flux, calibration, plan)
    with pytest.raises(UserError, match="distillation steps"):
        distil_masks(flux, plan.layers, ranked, examples, norm=calibration.norm, steps=0)
    weights = [0.0] * 9 + [1.0]
    few = replace(examples, calls=tuple(replace(call, bins=(0,) * len(call.bins)) for call in examples.calls))
    with pytest.raises(UserError, match="timestep bin"):
        distil_masks(flux, plan.layers, ranked, few, norm=calibration.norm, timestep=weights)


def test_examples_are_other_inputs_of_the_same_texts_mixed_over_the_timesteps(flux, calibration, examples):
    assert examples.samples == 32
    assert sum(len(set(call.bins)) > 1 for call in examples.calls) >= len(examples.calls) // 2
    assert set(calibration.draw.texts) == set(flux.defaults.prompts)
    assert record_distillation_set(flux, calibration, 32, rows=8, memory=1).samples == 8
    with pytest.raises(UserError, match="learn from"):
        record_distillation_set(flux, calibration, 0)
    with pytest.raises(UserError, match="calibrate again"):
        record_distillation_set(flux, replace(calibration, draw=None), 8)


def test_examples_pair_the_halves_of_guidance(flux, examples):
    """The same latents and timestep in both, and a text that is the same for all prompts in the second alone."""
    assert sum(map(len, examples.pairs)) == examples.samples // 2
    assert examples.scale == flux.defaults.guidance_scale
    empty, texts = [], []
    for call, pairs in zip(examples.calls, examples.pairs, strict=True):
        latents, text = call.arguments["hidden_states"], call.arguments["encoder_hidden_states"]
        for conditional, unconditional in pairs:
            a, b = call.rows[conditional], call.rows[unconditional]
            assert torch.equal(latents[a], latents[b])
            assert call.bins[conditional] == call.bins[unconditional]
            texts.append(text[a])
            empty.append(text[b])
    assert all(torch.equal(other, empty[0]) for other in empty)
    assert not any(torch.equal(text, empty[0]) for text in texts)


def test_guided_outputs_are_those_of_the_sampler():
    outputs = torch.arange(8.0).view(4, 2)
    assert torch.equal(guided(outputs, [(0, 3)], 3.0), (outputs[3] + 3 * (outputs[0] - outputs[3]))[None])


def test_scores_make_masks_as_a_plan_does(flux, calibration):
    plan = plan_of(flux, calibration)
    for layer in flux.layers[:3]:
        scores = torch.rand(layer.shape, generator=torch.Generator().manual_seed(1))
        mask = mask_of_scores(plan.layer(layer.name), scores)
        assert int((~mask).sum()) == masks_of(flux, calibration, plan)[layer.name].removed
        assert float(scores[mask].min()) >= (0 if plan.layer(layer.name).granularity == "row" else scores[~mask].max())


def test_the_rate_is_constant_for_a_fifth_and_falls_in_a_line_that_never_gets_to_zero():
    assert [training.step_size(1.0, step, 5) for step in range(5)] == pytest.approx([1.0, 1.0, 0.75, 0.5, 0.25])
    assert [training.step_size(8.0, step, 10) for step in (0, 2, 9)] == pytest.approx([8.0, 8.0, 1.0])
    assert training.step_size(0.01, 0, 1) == 0.01


def test_one_step_changes_masks(flux, calibration, examples):
    plan = plan_of(flux, calibration, "layer")
    masks = masks_of(flux, calibration, plan)
    learned = distil_masks(flux, plan.layers, masks, examples, norm=calibration.norm, steps=1)
    assert sum(mask.differing(learned[name]) for name, mask in masks.items()) > 0
