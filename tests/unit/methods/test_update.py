"""Weight updates of one layer against exact float64 solutions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.calibration.damped_inverse import inverse_diagonal
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer, compact
from dit_prune_viz.methods.update.least_squares import least_squares_update
from dit_prune_viz.methods.update.obs_update import obs_update


def problem(d_out: int, d_in: int, tokens: int, seed: int, sparsity: float = 0.5):
    """A layer with correlated inputs: weight, mask, Hessian."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(d_out, d_in, generator=generator)
    mix = torch.randn(d_in, d_in, generator=generator) * torch.logspace(0, -1.5, d_in)[:, None]
    inputs = torch.randn(tokens, d_in, generator=generator) @ mix + 0.3
    mask = torch.rand(d_out, d_in, generator=generator) >= sparsity
    return weight, mask, inputs.T @ inputs


def error(weight: torch.Tensor, updated: torch.Tensor, hessian: torch.Tensor) -> float:
    change = (updated - weight).double()
    return float(((change @ hessian.double()) * change).sum())


def damped64(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    hessian = hessian.double()
    return hessian + damping * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)


def exact(weight, mask, hessian, damping, target=None) -> torch.Tensor:
    """The naive oracle: normal equations of each row's kept weights, solved one by one in float64."""
    matrix = damped64(hessian, damping)
    right = weight.double() @ matrix
    if target is not None:
        right += target.double() - weight.double() @ hessian.double()
    result = torch.zeros_like(weight, dtype=torch.float64)
    for row, keep in enumerate(mask):
        if keep.any():
            result[row, keep] = torch.linalg.solve(matrix[keep][:, keep], right[row, keep])
    return result


def sparsegpt(weight, mask, hessian, damping) -> torch.Tensor:
    """The naive oracle of the greedy update: remove column by column, eliminating it from the inverse Hessian."""
    inverse = torch.linalg.inv(damped64(hessian, damping))
    result = weight.double().clone()
    for column in range(weight.shape[1]):
        factor = result[:, column] * ~mask[:, column] / inverse[column, column]
        result -= factor[:, None] * inverse[column][None]
        inverse = inverse - torch.outer(inverse[:, column], inverse[column]) / inverse[column, column]
        inverse[column] = inverse[:, column] = 0.0
        if column + 1 < len(inverse):
            inverse[column, column] = 1.0
    return result * mask


@given(st.integers(1, 9), st.integers(1, 24), st.integers(1, 60), st.integers(0, 999), st.sampled_from([0.01, 0.1]))
@settings(max_examples=60, deadline=None)
def test_least_squares_is_the_exact_solution(d_out, d_in, tokens, seed, damping):
    weight, mask, hessian = problem(d_out, d_in, tokens, seed)
    expected = exact(weight, mask, hessian, damping)
    found = least_squares_update(weight, mask, hessian, steps=200, damping=damping)
    assert not found[~mask].any()
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 60), st.integers(0, 999), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_obs_is_the_naive_elimination(d_out, d_in, tokens, seed, block):
    weight, mask, hessian = problem(d_out, d_in, tokens, seed)
    expected = sparsegpt(weight, mask, hessian, 0.05)
    found = obs_update(weight, mask, hessian, block=block, damping=0.05)
    assert not found[~mask].any()
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sparsity", [0.5, 0.7])
def test_least_squares_beats_the_greedy_update_which_beats_the_mask(sparsity):
    weight, mask, hessian = problem(48, 96, 400, seed=1, sparsity=sparsity)
    alone = error(weight, weight * mask, hessian)
    greedy = error(weight, obs_update(weight, mask, hessian), hessian)
    best = error(weight, least_squares_update(weight, mask, hessian), hessian)
    assert best < 0.7 * greedy < 0.7 * alone


def test_a_target_of_another_models_outputs_is_met():
    weight, mask, hessian = problem(6, 12, 80, seed=2)
    generator = torch.Generator().manual_seed(9)
    target = weight @ hessian + torch.randn(6, 12, generator=generator)
    found = least_squares_update(weight, mask, hessian, target=target, steps=100)
    torch.testing.assert_close(found.double(), exact(weight, mask, hessian, 0.01, target), rtol=1e-3, atol=1e-3)
    own = least_squares_update(weight, mask, hessian, target=weight @ hessian)
    torch.testing.assert_close(own, least_squares_update(weight, mask, hessian), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("update", [obs_update, least_squares_update])
@pytest.mark.parametrize("damping", [0.0, 0.01])
def test_a_singular_hessian_is_damped_until_it_works(update, damping):
    weight, mask, _ = problem(5, 16, 4, seed=3)
    sample = torch.randn(16, generator=torch.Generator().manual_seed(0))
    sample[3] = 0
    hessian = torch.outer(sample, sample)  # one sample only, as an adaLN layer sees per prompt; one input always zero
    found = update(weight, mask, hessian, damping=damping)
    assert bool(torch.isfinite(found).all())
    assert error(weight, found, hessian) <= error(weight, weight * mask, hessian)


@pytest.mark.parametrize("update", [obs_update, least_squares_update])
def test_masks_that_keep_all_or_nothing(update):
    weight, mask, hessian = problem(5, 16, 50, seed=4)
    torch.testing.assert_close(update(weight, torch.ones_like(mask), hessian), weight)
    assert not update(weight, torch.zeros_like(mask), hessian).any()
    before = weight.clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = update(weight, mask, hessian)
    assert torch.equal(inside, update(weight, mask, hessian))
    assert torch.equal(weight, before)


@pytest.mark.parametrize("update", [obs_update, least_squares_update])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w, m, h: (w, m[:2], h), "does not fit"),
        (lambda w, m, h: (w, m, h[:3, :3]), "does not fit"),
        (lambda w, m, h: (w, m, h * float("nan")), "NaN"),
        (lambda w, m, h: (w, m, h + float("inf")), "NaN or infinite"),
        (lambda w, m, h: (w, m, torch.full_like(h, 3.0) - 5 * torch.eye(len(h))), "positive definite"),
    ],
)
def test_bad_hessians_are_one_sentence(update, change, words):
    with pytest.raises(UserError, match=words):
        update(*change(*problem(4, 8, 20, seed=5)))


@pytest.mark.parametrize("damping", [-1, float("nan"), float("inf"), True, "much"])
def test_bad_damping(damping):
    weight, mask, hessian = problem(4, 8, 20, seed=5)
    with pytest.raises(UserError, match="damping"):
        obs_update(weight, mask, hessian, damping=damping)
    with pytest.raises(UserError, match="damping"):
        least_squares_update(weight, mask, hessian, damping=damping)
    with pytest.raises(UserError, match="damping"):
        inverse_diagonal(hessian, damping)


def test_inverse_diagonal_against_float64():
    _, _, hessian = problem(1, 30, 100, seed=6)
    expected = torch.linalg.inv(damped64(hessian, 0.02)).diagonal()
    torch.testing.assert_close(inverse_diagonal(hessian, 0.02).double(), expected, rtol=1e-3, atol=0)
    for bad in (torch.zeros(3, 4), torch.full((2, 2), float("nan"))):
        with pytest.raises(UserError):
            inverse_diagonal(bad)


@pytest.mark.parametrize("update", [obs_update, least_squares_update])
def test_a_layer_whose_inputs_were_all_zero_is_left_alone(update):
    weight, mask, hessian = problem(4, 8, 20, seed=5)
    assert torch.equal(update(weight, mask, hessian * 0), torch.where(mask, weight, 0.0))
    assert torch.equal(inverse_diagonal(hessian * 0), torch.ones(8))


def test_pruned_layers_are_compact():
    weight, mask, _ = problem(5, 11, 20, seed=7)
    packed = pack(mask)
    update = compact(weight, packed, torch.bfloat16)
    assert torch.equal(update.values, weight[mask].to(torch.bfloat16))
    assert torch.equal(update.dense(weight), (weight * mask).to(torch.bfloat16).float())
    assert update.dense(weight.bfloat16()).dtype == torch.bfloat16
    assert update.nbytes == 2 * packed.kept + packed.bits.nbytes
    assert update.to("cpu") is update
    bare = PrunedLayer(packed)
    assert torch.equal(bare.dense(weight), weight * mask)
    assert (bare.nbytes, bare.updated, update.updated) == (packed.bits.nbytes, False, True)
    with pytest.raises(UserError, match="does not fit"):
        PrunedLayer(packed, weight.flatten())
