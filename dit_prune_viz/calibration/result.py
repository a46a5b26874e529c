"""What calibration keeps: running sums of squared inputs per layer, input channel and timestep bin."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from dit_prune_viz.calibration.draw import Draw
from dit_prune_viz.calibration.timestep_weights import checked_weights
from dit_prune_viz.errors import UserError

_CONSTANT = 1e-4
"""Share of an input's energy that counts as variance at least."""


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
        sums: layer -> (bins, d_in) float64, Σ x_j over the same tokens; empty where only squares are known.
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
    sums: Mapping[str, torch.Tensor] = field(default_factory=dict)
    draw: Draw | None = None
    steps: int = 0

    @cached_property
    def key(self) -> str:
        """Hex digest of everything that was measured: the same for calibrations with the same content."""
        settings = self.samples, self.seed, self.steps, self.edges, self.timesteps, self.draw
        digest = hashlib.sha256(repr(settings).encode())
        for sums in (self.sum_squares, self.sums, self.tokens):
            for name, values in sums.items():
                digest.update(name.encode())
                digest.update(values.numpy())
        return digest.hexdigest()

    def norm(
        self, layer: str, weights: torch.Tensor | Sequence[float] | None = None, *, centred: bool = False
    ) -> torch.Tensor:
        """‖X_j‖₂ of each input channel over all watched tokens, the activation term of the saliency in
        arXiv 2607.00927: (d_in,) float32.

        Args:
            layer: its name.
            weights: (bins,) non-negative weights of the timestep bins' sums of squares; None weighs all tokens alike.
            centred: of x_j less its mean: what a pruned weight costs if the bias makes up for the mean.

        Raises:
            UserError: the layer was not calibrated, or the weights do not fit the bins.
        """
        return self._squares(layer, weights, centred)[0].sqrt().float()

    def mean_square(
        self, layer: str, weights: torch.Tensor | Sequence[float] | None = None, *, centred: bool = False
    ) -> torch.Tensor:
        """E[x_j²] of each input channel over all watched tokens, (d_in,) float32; 0 where no token was seen.

        Args:
            layer: its name.
            weights: (bins,) non-negative weights of the timestep bins; the mean is weighted. None weighs all alike.
            centred: the variance of x_j instead.

        Raises:
            UserError: the layer was not calibrated, or the weights do not fit the bins.
        """
        squares, tokens = self._squares(layer, weights, centred)
        return (squares / (tokens or 1.0)).float()

    def mean(self, layer: str, weights: torch.Tensor | Sequence[float] | None = None) -> torch.Tensor:
        """E[x_j] of each input channel over all watched tokens, (d_in,) float32; arguments and errors as above."""
        totals, tokens = self._total(self.sums, layer, weights), self._total(self.tokens, layer, weights)
        return (totals / (float(tokens) or 1.0)).float()

    def need_draw(self) -> Draw:
        """Which inputs were watched.

        Raises:
            UserError: that is not known.
        """
        if self.draw is None:
            raise UserError("This calibration does not say which inputs it watched; calibrate again.")
        return self.draw

    def _squares(self, layer: str, weights, centred: bool) -> tuple[torch.Tensor, float]:
        """Weighted Σ x_j², or Σ (x_j − mean)², and the weighted number of tokens, in float64."""
        squares = self._total(self.sum_squares, layer, weights)
        tokens = float(self._total(self.tokens, layer, weights))
        if centred:
            mean = self._total(self.sums, layer, weights).square() / (tokens or 1.0)
            # An input that never changes has no variance, but rounding would leave any rank to its weights.
            squares = (squares - mean).clamp_min(_CONSTANT * squares)
        return squares, tokens

    def _total(self, values: Mapping[str, torch.Tensor], layer: str, weights) -> torch.Tensor:
        found = self._of(values, layer)
        if weights is None:
            return found.sum(0)
        scale = torch.tensor(checked_weights(weights, len(self.edges) - 1), dtype=torch.float64)
        return (scale.view(-1, *[1] * (found.ndim - 1)) * found).sum(0)

    def _of(self, values: Mapping[str, torch.Tensor], layer: str) -> torch.Tensor:
        if layer not in values:
            raise UserError(f"Layer {layer!r} was not calibrated with this model; calibrate again.")
        return values[layer]
