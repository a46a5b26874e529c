"""Saliencies that claim to be a loss, against the loss itself: remove one weight, let the others move or stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dit_prune_viz.calibration.damped_inverse import inverse_diagonal
from dit_prune_viz.methods.saliency.obs import OBS
from dit_prune_viz.methods.saliency.stw import STW


def layer(seed: int, rows: int = 3, columns: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (rows, columns) and correlated inputs (tokens, columns), float64."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    inputs = torch.randn(40, columns, generator=generator, dtype=torch.float64) @ mix
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64), inputs


def loss_without(row: torch.Tensor, place: int, hessian: torch.Tensor, others_move: bool) -> float:
    """The squared output error of the row without one weight, the others re-solved or left as they are."""
    rest = [i for i in range(len(row)) if i != place]
    new = row.clone()
    new[place] = 0
    if others_move:  # the normal equations of min ‖X·(new − row)‖² over the rest
        new[rest] = torch.linalg.solve(hessian[rest][:, rest], (hessian @ row)[rest])
    change = new - row
    return float(change @ hessian @ change)


def losses(weight: torch.Tensor, hessian: torch.Tensor, others_move: bool) -> torch.Tensor:
    return torch.tensor(
        [[loss_without(row, place, hessian, others_move) for place in range(len(row))] for row in weight]
    )


@given(st.integers(0, 10_000))
def test_obs_is_the_loss_once_all_others_make_up_for_it(seed):
    weight, inputs = layer(seed)
    hessian = inputs.T @ inputs
    found = OBS().score(weight.float(), torch.linalg.inv(hessian).diagonal().float())
    torch.testing.assert_close(found, losses(weight, hessian, others_move=True), rtol=1e-4, atol=1e-6)


@given(st.integers(0, 10_000), st.sampled_from([0.01, 0.1]))
def test_obs_with_the_damped_hessian_is_the_damped_loss(seed, damping):
    weight, inputs = layer(seed)
    hessian = inputs.T @ inputs
    ridge = hessian + damping * hessian.diagonal().mean() * torch.eye(len(hessian))
    found = OBS().score(weight.float(), inverse_diagonal(hessian.float(), damping))
    torch.testing.assert_close(found, losses(weight, ridge, others_move=True), rtol=1e-2, atol=1e-4)


def test_obs_of_independent_inputs_by_hand():
    """Losses 1²·100 and 0.4²·400: the second weight goes first, though w²·H⁻¹² would say the first."""
    hessian = torch.diag(torch.tensor([100.0, 400.0]))
    scores = OBS().score(torch.tensor([[1.0, 0.4]]), torch.linalg.inv(hessian).diagonal())
    assert scores.tolist()[0] == pytest.approx([100, 64])


@given(st.integers(0, 10_000))
def test_stw_2_2_is_the_loss_while_all_others_stay(seed):
    weight, inputs = layer(seed)
    found = STW(2, 2).score(weight.float(), inputs.norm(dim=0).float())
    torch.testing.assert_close(found, losses(weight, inputs.T @ inputs, others_move=False), rtol=1e-5, atol=1e-6)
