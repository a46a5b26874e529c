"""Methods from outside the package: one class, registered, and a recipe can name it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

import dit_prune_viz as dpv
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer, compact
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.methods import registry
from dit_prune_viz.methods.base import Method, option
from dit_prune_viz.methods.catalogue import find_method, methods_of
from dit_prune_viz.plugins import load_plugin
from dit_prune_viz.pruning.prune import rank

ONE_FILE = """
import dit_prune_viz as dpv

@dpv.register
class Mine(dpv.Saliency):
    label, formula, paper = "Mine", "|W|³·‖X‖", None
    needs = ("norm",)
    def score(self, weight, norm): return weight.abs() ** 3 * norm
"""


@pytest.fixture(autouse=True)
def registered_for_one_test(monkeypatch):
    """Whatever a test registers is unknown again afterwards."""
    monkeypatch.setattr(registry, "_METHODS", {kind: dict(known) for kind, known in registry._METHODS.items()})


@pytest.fixture(scope="module")
def statistics(flux):
    return dpv.Statistics(flux, calibrate(flux, samples=8, seed=11))


def counts(pruned) -> dict[str, int]:
    return {name: layer.mask.removed for name, layer in pruned.layers.items()}


def test_one_file_is_enough_for_a_saliency(flux, tmp_path):
    (tmp_path / "mine.py").write_text(ONE_FILE, encoding="utf-8")
    load_plugin(tmp_path / "mine.py")
    recipe = dpv.Recipe(saliency="mine", sparsity=0.5, calibration=CalibrationSettings(samples=4))
    assert dpv.Recipe.from_json(recipe.to_json()) == recipe
    pruned = dpv.prune(flux, recipe)
    calibration = calibrate(flux, samples=4)
    for name, mask in pruned.masks.items():
        scores = flux.weight(name).abs() ** 3 * calibration.norm(name)
        granularity = pruned.plan.layer(name).granularity
        assert torch.equal(mask, keep_mask(scores, sparsity=0.5, granularity=granularity))
    assert {layer.granularity for layer in pruned.plan.layers.values()} <= {"row", "layer"}  # by CAG
    assert list(methods_of(dpv.Saliency))[-1] == "mine"
    assert dpv.find_recipe("mine") == dpv.Recipe("mine")


def test_what_a_test_registers_is_gone_afterwards():
    assert "mine" not in methods_of(dpv.Saliency)
    with pytest.raises(dpv.UserError, match="no saliency 'mine'"):
        dpv.Recipe("mine")


def test_a_saliency_with_options_and_several_statistics(flux, statistics):
    @dpv.register
    @dataclass(frozen=True)
    class Mixed(dpv.Saliency):
        needs = ("mean", "hessian", "norm")
        granularity = "column"
        power: float = option(2.0, "Power", low=0, high=4)

        def score(self, weight, mean, hessian, norm):
            return weight.abs() ** self.power * (hessian.diagonal() + mean.square() + norm)

    pruned = dpv.prune(flux, dpv.Recipe("mixed:1.5"), statistics=statistics)
    assert find_method(dpv.Saliency, "mixed:2").spec == "mixed"
    assert Mixed.label == "Mixed"
    name = flux.layers[3].name
    mean, norm = statistics.calibration.mean(name), statistics.calibration.norm(name)
    scores = flux.weight(name).abs() ** 1.5 * (norm**2 + mean**2 + norm)
    expected = keep_mask(scores, sparsity=0.5, granularity="column")
    assert float((pruned.masks[name] != expected).float().mean()) < 1e-3  # the diagonal is summed in another order


def test_one_statistic_may_be_named_without_a_tuple(flux, statistics):
    @dpv.register
    class Lonely(dpv.Saliency):
        needs = "norm"

        def score(self, weight, norm):
            return weight.abs() * norm

    wanda = dpv.prune(flux, dpv.Recipe("wanda", "row"), statistics=statistics)
    found = dpv.prune(flux, dpv.Recipe("lonely", "row"), statistics=statistics)
    assert all(torch.equal(mask, wanda.masks[name]) for name, mask in found.masks.items())


def test_a_cell_of_a_notebook_that_is_run_again_takes_effect(flux, statistics):
    def define(sign):
        @dpv.register
        class Again(dpv.Saliency):
            granularity = "row"

            def score(self, weight):
                return sign * weight.abs()

    define(1)
    first = dpv.prune(flux, dpv.Recipe("again"), statistics=statistics)
    define(-1)
    second = dpv.prune(flux, dpv.Recipe("again"), statistics=statistics)
    for name, mask in first.masks.items():
        assert torch.equal(second.masks[name], ~mask)  # half of an even number, and no two weights are equal


def test_a_granularity(flux, statistics):
    @dpv.register
    class ByName(dpv.Granularity):
        def choose(self, g_out):
            return {name: "row" if "attn" in name else "column" for name in g_out}

    pruned = dpv.prune(flux, dpv.Recipe("magnitude", "byname"), statistics=statistics)
    assert {layer.granularity for layer in pruned.plan.layers.values()} == {"row", "column"}
    for name, mask in pruned.masks.items():
        granularity = "row" if "attn" in name else "column"
        assert torch.equal(mask, keep_mask(flux.weight(name).abs(), sparsity=0.5, granularity=granularity))
    assert pruned.plan.threshold is None


def test_an_allocation(flux, statistics):
    @dpv.register
    class FirstComeFirst(dpv.Allocation):
        name = "first-come-first"

        def counts(self, costs, total):
            given = {}
            for cost in costs:
                given[cost.name] = min(cost.weights, total)
                total -= given[cost.name]
            return given

    pruned = dpv.prune(flux, dpv.Recipe("wanda", allocation="first-come-first"), statistics=statistics)
    left = int(0.5 * flux.prunable_parameters)
    for layer in flux.layers:
        expected = min(layer.shape[0] * layer.shape[1], left)
        left -= expected
        assert counts(pruned)[layer.name] == expected


def test_a_search_layer_by_layer(flux, statistics):
    @dpv.register
    class Mirror(dpv.Search):
        def improve_layer(self, problem, keep):
            assert problem.hessian.shape == (keep.shape[1],) * 2
            return keep.flip(1)

    recipe = dpv.Recipe("magnitude", "row", search="mirror")
    ranked, found = rank(recipe, statistics), dpv.prune(flux, recipe, statistics=statistics)
    assert all(torch.equal(mask, ranked.masks[name].flip(1)) for name, mask in found.masks.items())
    assert found.report.removed == ranked.report.removed
    assert found.report.damage > ranked.report.damage  # of the masks that were found
    pattern = dpv.prune(flux, recipe, sparsity="2:4", statistics=statistics)
    assert all((mask.view(-1, 4).sum(1) == 2).all() for mask in pattern.masks.values())


def test_a_search_over_the_whole_model(flux, statistics):
    seen = []

    @dpv.register
    @dataclass(frozen=True)
    class Upside(dpv.Search):
        steps: int = option(2, "Steps", low=1)
        learning_steps = property(lambda self: self.steps)

        def improve(self, problem, masks):
            seen.append((problem.steps, len(problem.examples.calls), problem.moves_biases))
            return {name: pack(mask.unpack().flip(0)) for name, mask in masks.items()}

    recipe = dpv.Recipe("magnitude", "layer", search=["swap", "upside:3"], update="mean")
    swapped = dpv.prune(flux, replace(recipe, search="swap"), statistics=statistics)
    found = dpv.prune(flux, recipe, statistics=statistics)
    assert seen == [(3, 3, True)]
    assert all(torch.equal(mask, swapped.masks[name].flip(0)) for name, mask in found.masks.items())
    assert all(layer.values is None for layer in found.layers.values())
    assert any(layer.bias is not None for layer in found.layers.values())


def test_an_update_layer_by_layer(flux, statistics):
    @dpv.register
    class Halve(dpv.Update):
        def update_layer(self, problem, keep):
            return problem.weight / 2  # also where the mask prunes, which counts for nothing

    found = dpv.prune(flux, dpv.Recipe("magnitude", update="halve"), statistics=statistics)
    for name, layer in found.layers.items():
        weight, own = flux.weight(name), flux.transformer.get_submodule(name).bias
        kept = weight * found.masks[name] / 2
        torch.testing.assert_close(layer.dense(weight), kept)
        mean = statistics.calibration.mean(name)
        torch.testing.assert_close(layer.bias, own + (weight - kept) @ mean, rtol=1e-4, atol=1e-4)


def test_an_update_of_the_whole_model(flux, statistics):
    first = flux.layers[0].name

    @dpv.register
    class OnlyFirst(dpv.Update):
        def update(self, problem, masks):
            model = problem.statistics.model
            return {first: compact(3 * model.weight(first), masks[first], torch.float32)}

    found = dpv.prune(flux, dpv.Recipe("magnitude", update="onlyfirst"), statistics=statistics)
    assert [name for name, layer in found.layers.items() if layer.updated] == [first]
    torch.testing.assert_close(
        found.layers[first].dense(flux.weight(first)), 3 * flux.weight(first) * found.masks[first]
    )


def saliency(score, **attributes):
    return type("Odd", (dpv.Saliency,), {"score": score, **attributes})


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (
            saliency(lambda self, w, t: w, needs=("temperature",)),
            "Odd needs 'temperature', which is no known statistic",
        ),
        (saliency(lambda self, w: w, name="wanda"), "There is a saliency called wanda already"),
        (saliency(lambda self, w: w, name="my odd one"), "lower-case letters, digits and hyphens, not 'my odd one'"),
        (saliency(lambda self, w: w, name="Odd:1"), "lower-case letters"),
        (type("Empty", (dpv.Saliency,), {}), "Empty has no score"),
        (type("Empty", (dpv.Allocation,), {}), "Empty has no counts"),
        (type("Empty", (dpv.Granularity,), {}), "Empty has no choose"),
        (type("Mean", (dpv.Update,), {}), "There is a update called mean already"),
        (Method, "is no method; subclass Saliency"),
        (int, "is no method"),
        ("wanda", "is no method"),
        (None, "is no method"),
    ],
)
def test_what_cannot_be_registered(method, words):
    before = {kind: dict(known) for kind, known in registry._METHODS.items()}
    with pytest.raises(dpv.UserError, match=words):
        dpv.register(method)
    assert before == registry._METHODS


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda self, weight: weight.abs().sum(1), r"returns \(\d+,\) for layer"),
        (lambda self, weight: weight.T.abs()[:, :1], r"must return a tensor of the weight's shape"),
        (lambda self, weight: None, "returns NoneType for layer"),
        (lambda self, weight: weight.abs() / 0 * 0, "NaN or too large"),
        (lambda self, weight: weight.abs() / 0, "NaN or too large"),
    ],
)
def test_scores_that_mean_nothing(flux, statistics, score, words):
    dpv.register(saliency(score))
    with pytest.raises(dpv.UserError, match=words):
        dpv.prune(flux, "odd", statistics=statistics)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (lambda self, costs, total: {cost.name: 0 for cost in costs}, "removes 0 weights, but [0-9,]+ were asked for"),
        (lambda self, costs, total: {costs[-1].name: total}, "removes None of the"),
        (lambda self, costs, total: {c.name: c.weights // 2 - (c is costs[0]) for c in costs}, "were asked for"),
        (
            lambda self, costs, total: {c.name: total if c is costs[0] else 0 for c in costs},
            r"removes \d+ of the [0-9,]+ weights of",
        ),
        (
            lambda self, costs, total: {c.name: c.weights / 2 for c in costs},
            "give every layer a whole number of them",
        ),
    ],
)
def test_budgets_that_are_not_kept(flux, statistics, counts, words):
    dpv.register(type("Odd", (dpv.Allocation,), {"counts": counts}))
    with pytest.raises(dpv.UserError, match=words):
        dpv.prune(flux, dpv.Recipe("magnitude", allocation="odd"), statistics=statistics)


@pytest.mark.parametrize(
    ("choose", "words"),
    [
        (lambda self, g_out: dict.fromkeys(g_out, "block"), "no granularity 'block'"),
        (lambda self, g_out: {next(iter(g_out)): "row"}, "chooses nothing for layer"),
    ],
)
def test_granularities_that_do_not_exist(flux, statistics, choose, words):
    dpv.register(type("Odd", (dpv.Granularity,), {"choose": choose}))
    with pytest.raises(dpv.UserError, match=words):
        dpv.prune(flux, dpv.Recipe("magnitude", "odd"), statistics=statistics)


def one_more(mask):
    mask = mask.clone()
    mask.view(-1)[(~mask).view(-1).int().argmax()] = True
    return mask


@pytest.mark.parametrize(
    ("change", "sparsity", "words"),
    [
        (one_more, 0.5, "must return a mask that keeps"),
        (lambda keep: keep.T, 0.5, "must return a mask that keeps"),
        (lambda keep: keep.float(), 0.5, "must return a mask that keeps"),
        (lambda keep: None, 0.5, "must return a mask that keeps"),
        (lambda keep: keep.sort(1).values, "2:4", "breaks the 2:4 pattern of layer"),
    ],
)
def test_searches_that_change_more_than_places(flux, statistics, change, sparsity, words):
    def improve(self, problem, masks):
        found = {name: change(mask.unpack()) for name, mask in masks.items()}
        return {name: pack(one) if isinstance(one, torch.Tensor) and one.dtype == torch.bool else one
                for name, one in found.items()}  # fmt: skip

    by_layer = {"improve_layer": lambda self, problem, keep: change(keep)}
    for body in (by_layer, {"improve": improve}):
        dpv.register(type("Odd", (dpv.Search,), body))
        with pytest.raises(dpv.UserError, match=words) as caught:
            dpv.prune(flux, dpv.Recipe("magnitude", "row", search="odd"), sparsity=sparsity, statistics=statistics)
        assert flux.layers[0].name in str(caught.value)


def other_mask(self, problem, masks):
    name, mask = next(iter(masks.items()))
    return {name: PrunedLayer(pack(~mask.unpack()))}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"update_layer": lambda self, problem, keep: problem.weight[:, :1]}, "finite weights of shape"),
        ({"update_layer": lambda self, problem, keep: problem.weight / 0}, "finite weights of shape"),
        ({"update_layer": lambda self, problem, keep: 3}, "finite weights of shape"),
        ({"update": other_mask}, "must leave the mask of layer"),
    ],
)
def test_updates_that_do_not_fit(flux, statistics, body, words):
    dpv.register(type("Odd", (dpv.Update,), body))
    with pytest.raises(dpv.UserError, match=words):
        dpv.prune(flux, dpv.Recipe("magnitude", update="odd"), statistics=statistics)


def test_a_method_that_does_nothing_says_so(flux, statistics):
    for base, field in ((dpv.Search, "search"), (dpv.Update, "update")):
        dpv.register(type("Idle", (base,), {}))
        with pytest.raises(NotImplementedError, match="Idle overrides neither"):
            dpv.prune(flux, dpv.Recipe("magnitude", **{field: "idle"}), statistics=statistics)
