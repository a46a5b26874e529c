"""G_out: how much the mean saliency differs from one output row to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from dit_prune_viz.masks.row_pieces import row_pieces

_PIECE = 3 << 14
"""Values in float64 that a core's own cache holds."""


def heterogeneity(scores: Tensor) -> float:
    """G_out = Var_i(Ī_i) / Mean_i(Ī_i)², with Ī_i the mean of row i of `scores` (d_out, d_in); arXiv 2607.00927, CAG.

    Population variance, in float64, no unit. 0 where the mean is 0. NaN or infinite where a score is.
    """
    parts = [part for (part,) in row_pieces(scores, values=_PIECE)]
    if len(parts) == 1:
        rows = scores.mean(dim=1, dtype=torch.float64)
    else:  # the same bits, several times faster: torch converts one by one where it adds up in another precision
        rows = torch.cat([part.double().mean(dim=1) for part in parts])
    mean = rows.mean()
    if mean == 0:
        return 0.0
    # Rows are scaled first, so that tiny saliencies do not underflow when squared.
    return float((rows / mean).var(correction=0))
