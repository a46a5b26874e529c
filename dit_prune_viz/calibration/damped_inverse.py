"""What both updates share: checks, damping, and a Cholesky factor that adapts its damping until it exists."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dit_prune_viz.errors import UserError

_TRIES = 7


def check_layer(weight: Tensor, mask: Tensor, hessian: Tensor) -> None:
    """Check what an update or a search of one layer is given.

    Raises:
        UserError: unless weight and mask are (d_out, d_in) and the Hessian is a finite (d_in, d_in).
    """
    if weight.ndim != 2 or mask.shape != weight.shape:
        raise UserError(
            f"A mask of shape {tuple(mask.shape)} does not fit weights of shape {tuple(weight.shape)}; "
            "prune the model that is loaded."
        )
    check_hessian(hessian, weight.shape[1])


def check_hessian(hessian: Tensor, d_in: int) -> None:
    """Check a Hessian.

    Raises:
        UserError: unless it is a finite (d_in, d_in).
    """
    if hessian.shape != (d_in, d_in):
        raise UserError(
            f"A Hessian of shape {tuple(hessian.shape)} does not fit a layer with {d_in} inputs; calibrate this model."
        )
    if not bool(torch.isfinite(hessian.sum(dtype=torch.float64))):
        raise UserError("The Hessian holds NaN or infinite values; calibrate again with the model in float32.")


def saw_only_zeros(hessian: Tensor) -> bool:
    """Whether all inputs of the layer were zero: whatever its weights are, its output is its bias."""
    return not bool(hessian.any())


def check_damping(damping: float) -> float:
    """The damping as a float.

    Raises:
        UserError: it is no finite number of at least 0.
    """
    if isinstance(damping, bool) or not isinstance(damping, int | float) or not 0 <= damping < math.inf:
        raise UserError("The damping must be a finite number of at least 0, such as 0.01.")
    return float(damping)


def damped(hessian: Tensor, damping: float) -> Tensor:
    """H + damping · mean(diag H) · I, a new float32 tensor (d_in, d_in)."""
    result = hessian.to(torch.float32, copy=True)
    result.diagonal().add_(damping * result.diagonal().mean())
    return result


def inverse(hessian: Tensor, damping: float) -> Tensor:
    """(H + damping · mean(diag H) · I)⁻¹ (d_in, d_in), float32 or float64, by Cholesky.

    Where the factor does not exist in float32, float64 is tried; then the damping grows tenfold, from at least 1e-6,
    until it does.

    Raises:
        UserError: no damping helps; the Hessian has negative eigenvalues as large as its diagonal.
    """
    on_mps = hessian.device.type == "mps"  # which has no float64
    for attempt in range(_TRIES):
        strength = damping if not attempt else max(damping, 1e-6) * 10.0**attempt
        matrix = damped(hessian.cpu() if on_mps else hessian, strength)
        for dtype in (torch.float32, torch.float64):
            factor, failed = torch.linalg.cholesky_ex(matrix.to(dtype))
            if int(failed):
                continue
            result = torch.cholesky_inverse(factor)
            if bool(torch.isfinite(result).all()) and bool((result.diagonal() > 0).all()):
                return result.to(hessian.device, torch.float32) if on_mps else result
    raise UserError("The Hessian is not positive definite at any damping; calibrate again with the model in float32.")


def inverse_diagonal(hessian: Tensor, damping: float = 0.01) -> Tensor:
    """diag((H + damping · mean(diag H) · I)⁻¹), (d_in,) float32: the statistic of the OBS saliency w²/[H⁻¹]_jj
    (SparseGPT, arXiv 2301.00774), from H (d_in, d_in).

    Where all inputs were zero it is 1 everywhere: any mask does for such a layer, and this one goes by magnitude.

    Raises:
        UserError: a Hessian that is not square, not finite, or not positive definite at any damping.
    """
    check_hessian(hessian, hessian.shape[-1])
    damping = check_damping(damping)
    if saw_only_zeros(hessian):
        return torch.ones(len(hessian), device=hessian.device)
    return inverse(hessian, damping).diagonal().float()
