"""Kept weights that learn from the dense model's outputs: what stays as it is, and what gets better."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_distil import calibration, examples, flux, masks_of, output_error, plan_of  # noqa: F401

from dit_prune_viz.calibration.distillation_set import DistillationSet
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.methods.search import distil
from dit_prune_viz.methods.update import tune
from dit_prune_viz.methods.update.bias import Mean
from dit_prune_viz.methods.update.tune import tune_weights
from dit_prune_viz.pruning.prune import prune, rank
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.solve_layers import solve_layers


@pytest.fixture(scope="module")
def masks(flux, calibration):  # noqa: F811
    return masks_of(flux, calibration, plan_of(flux, calibration))


@pytest.fixture(scope="module")
def tuned(flux, calibration, masks, examples):  # noqa: F811
    return tune_weights(flux, masks, examples, mean=calibration.mean, steps=30)


def test_the_output_comes_closer_than_with_moved_biases(flux, calibration, masks, examples, tuned):  # noqa: F811
    plans = plan_of(flux, calibration).layers
    moved = solve_layers(Statistics(flux, calibration), plans, masks, update=Mean()).layers
    assert output_error(flux, examples, tuned) < 0.8 * output_error(flux, examples, moved)


def test_masks_stay_and_so_does_the_dense_model(flux, masks, examples):  # noqa: F811
    before = {name: value.clone() for name, value in flux.transformer.state_dict().items()}
    tuned = tune_weights(flux, masks, examples, steps=3)
    assert list(tuned) == list(masks)
    for name, update in tuned.items():
        assert torch.equal(update.mask.bits, masks[name].bits)
        assert update.bias is None  # nothing was said about means
        weight = update.dense(flux.weight(name))
        assert not weight[~masks[name].unpack()].any()
        assert not torch.equal(weight, flux.weight(name) * masks[name].unpack())
    assert all(torch.equal(value, before[name]) for name, value in flux.transformer.state_dict().items())
    assert not any("forward" in vars(module) for module in flux.transformer.modules())


def test_biases_keep_the_mean_output(flux, calibration, tuned):  # noqa: F811
    for name, update in tuned.items():
        linear, mean = flux.transformer.get_submodule(name), calibration.mean(name)
        if linear.bias is None:
            assert update.bias is None
            continue
        dense = linear.weight @ mean + linear.bias
        torch.testing.assert_close(update.dense(linear.weight) @ mean + update.bias, dense, rtol=1e-4, atol=1e-4)


def test_the_same_again_gives_the_same_weights(flux, masks, examples):  # noqa: F811
    first, second = (tune_weights(flux, masks, examples, steps=3) for _ in range(2))
    assert all(torch.equal(first[name].values, second[name].values) for name in masks)


def test_layers_that_keep_nothing_do_not_stop_it(flux, calibration, masks, examples):  # noqa: F811
    name = next(iter(masks))
    none = masks_of(flux, calibration, plan_of(flux, calibration, "layer", 1.0))[name]
    tuned = tune_weights(flux, {**masks, name: none}, examples, mean=calibration.mean, steps=2)
    assert not tuned[name].dense(flux.weight(name)).any()
    assert all(update.values.isfinite().all() for update in tuned.values())


def test_nothing_pruned_leaves_nothing_to_tune(flux, calibration, examples):  # noqa: F811
    assert tune_weights(flux, masks_of(flux, calibration, plan_of(flux, calibration, "layer", 0.0)), examples) == {}


def test_a_cancelled_run_leaves_the_dense_model(flux, masks, examples):  # noqa: F811
    before = {name: value.clone() for name, value in flux.transformer.state_dict().items()}

    def stop(done, total, what):
        assert (total, what.partition(",")[0]) == (9, "Tuning weights")
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        tune_weights(flux, masks, examples, steps=9, progress=stop)
    assert all(torch.equal(value, before[name]) for name, value in flux.transformer.state_dict().items())
    assert not any("forward" in vars(module) for module in flux.transformer.modules())


def test_what_it_refuses(flux, calibration, masks, examples):  # noqa: F811
    with pytest.raises(UserError, match="tuning steps"):
        tune_weights(flux, masks, examples, steps=0)
    few = replace(examples, calls=tuple(replace(call, bins=(0,) * len(call.bins)) for call in examples.calls))
    with pytest.raises(UserError, match="timestep bin"):
        tune_weights(flux, masks, few, timestep=[0.0] * 9 + [1.0])


@pytest.mark.parametrize("search", ["", "distil:2", "swap"], ids=["ranked", "distilled", "swapped"])
@pytest.mark.parametrize("sparsity", [0.5, "2:4"])
def test_any_masks_can_be_tuned(flux, calibration, search, sparsity):  # noqa: F811
    statistics = Statistics(flux, calibration)
    recipe = Recipe(search=search, update="tuned:2") if search else Recipe(update="tuned:2")
    found = prune(flux, recipe, sparsity=sparsity, statistics=statistics)
    ranked = rank(recipe.at(sparsity), statistics)
    assert list(found.layers) == [layer.name for layer in flux.layers]
    for name, layer in found.layers.items():
        assert layer.values is not None
        assert layer.mask.removed == ranked.layers[name].mask.removed
        assert search or torch.equal(layer.mask.bits, ranked.layers[name].mask.bits)
    assert found.report.achieved == pytest.approx(0.5, abs=0.001)


def test_how_long_it_learns_unless_told():
    assert tune.Tune().learning_steps(0) == tune.TUNING_STEPS
    assert [tune.Tune().learning_steps(searched) for searched in (1, 4, 400)] == [1, 1, 100]
    assert tune.Tune(7).learning_steps(400) == 7


def test_weights_learn_from_calls_that_the_masks_have_not_seen(flux, calibration, monkeypatch):  # noqa: F811
    seen = []

    def noted(work):
        def note(*args, **more):
            seen.append((next(arg for arg in args if isinstance(arg, DistillationSet)), more["steps"]))
            return work(*args, **more)

        return note

    for module, name in ((distil, "distil_masks"), (tune, "tune_weights")):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    prune(flux, Recipe(search="distil:4", update="tuned"), statistics=Statistics(flux, calibration))
    (first, steps), (second, tuning) = seen
    assert (steps, tuning) == (4, 1)
    assert (len(first.calls), len(second.calls)) == (4, 1)
    assert not {id(call) for call in first.calls} & {id(call) for call in second.calls}


@pytest.mark.parametrize(
    ("first", "second", "parts"), [(3, 1, (3, 1)), (1, 1, (2, 2)), (100, 1, (3, 1)), (1, 100, (1, 3))]
)
def test_examples_are_split_in_proportion(examples, first, second, parts):  # noqa: F811
    assert len(examples.calls) == 4
    split = examples.split(first, second)
    assert tuple(len(part.calls) for part in split) == tuple(len(part.pairs) for part in split) == parts
    assert sum((part.calls for part in split), ()) == examples.calls
    one = replace(examples, calls=examples.calls[:1], pairs=examples.pairs[:1])
    assert [part.calls for part in one.split(first, second)] == [one.calls, one.calls]


def test_one_step_changes_weights(flux, masks, examples):  # noqa: F811
    tuned = tune_weights(flux, masks, examples, steps=1)
    for name, mask in masks.items():
        assert not torch.equal(tuned[name].dense(flux.weight(name)), flux.weight(name) * mask.unpack())
