"""What calibration keeps: running sums of squared inputs per layer, input channel and timestep bin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from dit_prune_viz.calibration.draw import Draw
from dit_prune_viz.calibration.weights import checked_weights
from dit_prune_viz.errors import UserError


@dataclass(frozen=True, eq=False)
class Calibration:
    """Input statistics of every prunable layer over the watched transformer inputs; no activation is stored.

    Attributes:
        samples: watched transformer inputs (rows of a batch).
        seed: what drew them, and the noise they started from.
        seconds: how long it took.
        timesteps: of the watched inputs, as fraction of the training steps (1 is pure noise), in order of watching.
        edges: edges of the timestep bins over 0..1, one more than there are bins.
        sum_squares: layer -> (bins, d_in) float64 on the CPU, Σ x_j² over the tokens watched in that bin.
        tokens: layer -> (bins,) int64, how many tokens that were.
        draw: which inputs those were, so that they can be watched again; None where that is not known.
        steps: denoising steps that were asked for.
    """

    samples: int
    seed: int
    seconds: float
    timesteps: tuple[float, ...]
    edges: tuple[float, ...]
    sum_squares: Mapping[str, torch.Tensor]
    tokens: Mapping[str, torch.Tensor]
    draw: Draw | None = None
    steps: int = 0

    def norm(self, layer: str, weights: torch.Tensor | Sequence[float] | None = None) -> torch.Tensor:
        """‖X_j‖₂ of each input channel over all watched tokens, the activation term of the saliency in
        arXiv 2607.00927: (d_in,) float32.

        Args:
            layer: its name.
            weights: (bins,) non-negative weights of the timestep bins' sums of squares; None weighs all tokens alike.

        Raises:
            UserError: the layer was not calibrated, or the weights do not fit the bins.
        """
        sums = self._of(self.sum_squares, layer)
        if weights is None:
            return sums.sum(0).sqrt().float()
        return (self._scale(weights)[:, None] * sums).sum(0).sqrt().float()

    def mean_square(self, layer: str, weights: torch.Tensor | Sequence[float] | None = None) -> torch.Tensor:
        """E[x_j²] of each input channel over all watched tokens, (d_in,) float32; 0 where no token was seen.

        Args:
            layer: its name.
            weights: (bins,) non-negative weights of the timestep bins; the mean is weighted. None weighs all alike.

        Raises:
            UserError: the layer was not calibrated, or the weights do not fit the bins.
        """
        sums, tokens = self._of(self.sum_squares, layer), self._of(self.tokens, layer)
        if weights is None:
            return (sums.sum(0) / max(int(tokens.sum()), 1)).float()
        scale = self._scale(weights)
        total = float((scale * tokens).sum())
        return ((scale[:, None] * sums).sum(0) / (total or 1.0)).float()

    def _scale(self, weights: torch.Tensor | Sequence[float]) -> torch.Tensor:
        return torch.tensor(checked_weights(weights, len(self.edges) - 1), dtype=torch.float64)

    def _of(self, values: Mapping[str, torch.Tensor], layer: str) -> torch.Tensor:
        if layer not in values:
            raise UserError(f"Layer {layer!r} was not calibrated with this model; calibrate again.")
        return values[layer]
