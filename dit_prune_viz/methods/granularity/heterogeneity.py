"""G_out: how much the mean saliency differs from one output row to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_prune_viz.masks.row_pieces import row_pieces


def heterogeneity(scores: Tensor) -> float:
    """G_out = Var_i(Ī_i) / Mean_i(Ī_i)², with Ī_i the mean of row i of `scores` (d_out, d_in); arXiv 2607.00927, CAG.

    Population variance, in float64, no unit. 0 where the mean is 0. NaN or infinite where a score is.
    """
    rows = _row_means(scores)
    mean = rows.mean()
    if mean == 0:
        return 0.0
    # Rows are scaled first, so that tiny saliencies do not underflow when squared.
    return float((rows / mean).var(correction=0))


def _row_means(scores: Tensor) -> Tensor:
    """float64 (d_out,)."""
    parts = [part for (part,) in row_pieces(scores)]
    if len(parts) == 1:
        return scores.mean(dim=1, dtype=torch.float64)
    # The same bits, several times faster: torch converts one by one where it adds up in another precision.
    room = torch.empty((max(map(len, parts)), scores.shape[1]), dtype=torch.float64)
    return torch.cat([room[: len(part)].copy_(part).mean(dim=1) for part in parts])
