"""Layers that stay dense, floors and ceilings: exact counts, whatever shares the budget out."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_plans import SHAPES, masks_of, plan

from dit_prune_viz.errors import UserError
from dit_prune_viz.pruning.limits import Bounds, read_bounds
from dit_prune_viz.pruning.recipe import Recipe

SIZES = {name: rows * columns for name, (rows, columns) in SHAPES.items()}
ALL = sum(SIZES.values())
ALLOCATIONS = ["uniform", "owl", "tempered", "damage-aware", "global"]
SHARES = st.integers(0, 20).map(lambda twentieth: twentieth / 20)


def pruned(made) -> dict[str, int]:
    return {name: mask.removed for name, mask in masks_of(made).items()}


def exact(share: float) -> Fraction:
    return Fraction(round(share * 20), 20)


def naive_ends(ignore, bounds) -> dict[str, tuple[int, int]]:
    """The least and the most weights of every layer, in fractions."""
    ends = {}
    for name, size in SIZES.items():
        low, high = bounds.get(name, (0, 1))
        most = math.floor(size * exact(high))
        ends[name] = (0, 0) if name in ignore else (min(math.ceil(size * exact(low)), most), most)
    return ends


@settings(max_examples=80)
@given(
    st.sampled_from(ALLOCATIONS),
    st.sampled_from(["layer", "row", "column", "cag"]),
    st.sets(st.sampled_from(list(SHAPES)), max_size=2),
    st.dictionaries(st.sampled_from(list(SHAPES)), st.tuples(SHARES, SHARES).map(sorted), max_size=3),
    SHARES,
)
@example("uniform", "layer", {"q", "mlp out"}, {"mlp in": [0.0, 0.15], "adaLN": [0.0, 0.45], "q": [0.0, 0.0]}, 0.15)
def test_counts_are_exact_and_within_their_limits(allocation, granularity, ignore, bounds, sparsity):
    recipe = {"allocation": allocation, "granularity": granularity, "sparsity": sparsity}
    ends, total = naive_ends(ignore, bounds), math.floor(ALL * exact(sparsity))
    least, most = sum(low for low, _ in ends.values()), sum(high for _, high in ends.values())
    limits = {"ignore": tuple(ignore), "bounds": bounds}
    rounding = len(bounds.keys() - ignore)  # a layer that stays dense loses nothing, which needs no rounding
    if not least - rounding <= total <= most + rounding:
        with pytest.raises(UserError, match="asked for"):
            plan(**recipe, **limits)
        return
    if not ignore and not bounds and allocation == "uniform":
        return  # rounded down in every group, as without limits
    counts = pruned(plan(**recipe, **limits))
    assert sum(counts.values()) == min(max(total, least), most)
    for name, count in counts.items():
        assert ends[name][0] <= count <= ends[name][1], name


@settings(max_examples=40)
@given(
    st.sets(st.sampled_from(list(SHAPES)), max_size=2),
    st.dictionaries(st.sampled_from(list(SHAPES)), st.tuples(SHARES, SHARES).map(sorted), max_size=3),
    SHARES,
)
def test_uniform_gives_all_free_layers_one_sparsity(ignore, bounds, sparsity):
    ends, total = naive_ends(ignore, bounds), math.floor(ALL * exact(sparsity))
    least, most = sum(low for low, _ in ends.values()), sum(high for _, high in ends.values())
    if not (ignore or bounds) or not least <= total <= most:
        return
    counts = pruned(plan(sparsity=sparsity, ignore=tuple(ignore), bounds=bounds))
    free = {name: counts[name] / SIZES[name] for name in SIZES if ends[name][0] < counts[name] < ends[name][1]}
    middle = sum(free.values()) / max(1, len(free))
    for name, share in free.items():
        assert abs(share - middle) <= 2 / min(SIZES[name] for name in free)
    # Who stands at a floor would have less without it, who stands at a ceiling more.
    for name, (low, high) in ends.items():
        if free and low < high:
            assert counts[name] > low or low / SIZES[name] >= middle - 1 / 50
            assert counts[name] < high or high / SIZES[name] <= middle + 1 / 50


def test_a_hand_count():
    """240 + 100 + 400 + 400 weights; half of the 1,140 are 570."""
    counts = pruned(plan(granularity="layer", ignore=("adaLN",)))
    assert (counts["adaLN"], sum(counts.values())) == (0, 570)
    assert [math.floor(570 / 900 * SIZES[name]) for name in ("q", "mlp in", "mlp out")] == [63, 253, 253]
    assert all(0 <= counts[name] - math.floor(570 / 900 * SIZES[name]) <= 1 for name in ("q", "mlp in", "mlp out"))
    counts = pruned(plan(granularity="layer", bounds={"adaLN": (0.1, 0.4), "q": (0.9, 1)}))
    assert (counts["adaLN"], counts["q"]) == (96, 90)
    assert (counts["mlp in"], counts["mlp out"]) == (192, 192)
    assert pruned(plan(granularity="row", bounds={"adaLN": (0.4, 0.4)}))["adaLN"] == 96


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_limits_that_forbid_nothing_move_exact_budgets_by_nothing(allocation):
    bounds = {"*": (0, 1)}
    assert sum(pruned(plan(allocation=allocation, bounds=bounds)).values()) == 570
    if allocation != "uniform":
        assert pruned(plan(allocation=allocation, bounds=bounds)) == pruned(plan(allocation=allocation))


def test_a_dense_layer_is_no_part_of_what_the_others_are_compared_with():
    made = plan(allocation="damage-aware:0.2,0.9", ignore=("q",), sparsity=0.5)
    counts = pruned(made)
    assert counts["q"] == 0
    assert sum(counts.values()) == 570
    assert all(0.2 <= counts[name] / SIZES[name] <= 0.9 for name in counts if name != "q")


def test_patterns_of_kinds_and_blocks_and_several_bounds_of_one_layer():
    counts = pruned(plan(ignore=("block 0",)))
    assert (counts["adaLN"], counts["q"], sum(counts.values())) == (0, 0, 570)
    counts = pruned(plan(bounds={"mlp *": (0, 0.45), "mlp in": (0.4, 1), "block 1": (0, 0.42)}))
    assert (counts["mlp in"], counts["mlp out"]) == (168, 168)
    with pytest.raises(UserError, match="floors and ceilings of layer mlp in leave it no sparsity"):
        plan(bounds={"mlp *": (0, 0.3), "mlp in": (0.4, 1)})
    counts = pruned(plan(ignore=("mlp in",), bounds={"mlp in": (0.4, 1)}))
    assert counts["mlp in"] == 0


def test_under_n_m_dense_layers_stay_dense_and_nobody_makes_up_for_them():
    made = plan(granularity="1:4", ignore=("adaLN", "q", "mlp in"))
    assert pruned(made) == {"adaLN": 0, "q": 0, "mlp in": 0, "mlp out": 300}  # only its inputs are divided by 4
    assert made.layer("adaLN").granularity == "layer"
    assert made.layer("mlp out").granularity == "1:4"
    with pytest.raises(UserError, match="1:4 does not fit layer mlp in with 10 inputs"):
        plan(granularity="1:4", ignore=("adaLN", "q"))


def test_a_threshold_moved_afterwards_keeps_the_counts():
    made = plan(ignore=("q",), bounds={"adaLN": (0, 0.2)})
    moved = made.with_threshold(0.0)
    assert {layer.granularity for layer in moved.layers.values()} == {"row"}
    assert moved == plan(ignore=("q",), bounds={"adaLN": (0, 0.2)}, threshold=0.0)
    assert pruned(moved) == pruned(made)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"ignore": ("*",)}, "at most 0 % of the weights go, less than the 50 % asked for"),
        ({"ignore": ("mlp in", "mlp out")}, "at most 29.82 %"),
        ({"bounds": {"*": (0, 0.45)}}, "at most 44.91 %|at most 45 %"),
        ({"bounds": {"*": (0.6, 1)}}, "at least 60 % of the weights, more than the 50 % asked for"),
        ({"ignore": ("nothing",)}, "'nothing' means no prunable layer"),
        ({"bounds": {"block 7": (0, 1)}}, "'block 7' means no prunable layer of this model; there are the kinds"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(limits, words):
    with pytest.raises(UserError, match=words) as caught:
        plan(**limits)
    assert str(caught.value).endswith(".")


def test_nothing_to_prune_is_no_problem_for_dense_layers():
    assert set(pruned(plan(ignore=("*",), sparsity=0)).values()) == {0}
    assert set(pruned(plan(allocation="owl", ignore=("*",), sparsity=0)).values()) == {0}


def test_bounds_are_read_from_pairs_or_values():
    assert read_bounds({"adaLN": [0, 0.4], "q": (0.5, 0.5)}) == (Bounds("adaLN", 0, 0.4), Bounds("q", 0.5, 0.5))
    assert read_bounds([Bounds("adaLN")]) == (Bounds("adaLN", 0.0, 1.0),)
    recipe = Recipe(bounds={"adaLN": (0, 0.4)})
    assert recipe == Recipe.from_json(recipe.to_json()) == Recipe(bounds=[Bounds("adaLN", greatest=0.4)])
    assert '"adaLN": [' in recipe.to_json()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"a": [0.5, 0.4]}, "floor of a, 50 %, lies above its ceiling, 40 %"),
        ({"a": [0, 1.5]}, "Sparsity must"),
        ({"a": [0, "1"]}, "Sparsity must"),
        ({"a": 0.4}, "a floor and a ceiling"),
        ({"a": [0.1, 0.2, 0.3]}, "a floor and a ceiling"),
        ({"a, b": [0, 1]}, "one pattern of layers each"),
        ({"": [0, 1]}, "one pattern of layers each"),
        ({"<b>": [0, 1]}, "names no layers"),
        ([["a", 0, 1]], "given as"),
        ("a: 0-1", "given as"),
        (None, "given as"),
        ([Bounds("a"), Bounds("a", 0.1)], "a has two floors"),
        ({f"block {i}": [0, 1] for i in range(1001)}, "more than 1,000"),
    ],
)
def test_what_are_no_bounds_is_one_sentence(bad, words):
    with pytest.raises(UserError, match=words):
        Recipe(bounds=bad)


def test_patterns_and_bounds_do_not_go_together():
    with pytest.raises(UserError, match="leave the bounds out"):
        Recipe(granularity="2:4", bounds={"adaLN": (0, 0.4)})
    bounded = Recipe("wanda", bounds={"adaLN": (0, 0.4)})
    assert not bounded.takes_patterns
    with pytest.raises(UserError, match="has floors and ceilings, so 2:4 means nothing"):
        bounded.at("2:4")
    assert Recipe("wanda", ignore="adaLN").at("2:4").ignore == ("adaLN",)
