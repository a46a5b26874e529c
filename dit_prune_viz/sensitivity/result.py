"""What a sensitivity measurement found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.error_curve import ErrorCurve

_USUAL = 0.7
"""Up to this sparsity the error of a layer grows about as its predicted damage does."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Every layer pruned alone, at several sparsities.

    Attributes:
        sparsities: rising, 0–1.
        errors: layer -> relative squared error Σ‖y'−y‖²/Σ‖y‖² of the transformer's output at each sparsity.
        damages: layer -> predicted damage of the same masks, see `plan.damage`.
        samples: held-out transformer inputs it was measured on.
        seconds: how long it took; layers known from before take no time.
    """

    sparsities: tuple[float, ...]
    errors: Mapping[str, tuple[float, ...]]
    damages: Mapping[str, tuple[float, ...]]
    samples: int
    seconds: float

    def error(self, layer: str, sparsity: float) -> float:
        """The relative error at any sparsity, linear between the measured ones and towards 0 at sparsity 0; beyond the
        last it stays.

        Raises:
            UserError: the layer was not measured.
        """
        return float(np.interp(sparsity, (0.0, *self.sparsities), (0.0, *self._of(layer))))

    def weights(self) -> dict[str, float]:
        """Layer -> output error per unit of predicted damage: the least-squares slope Σ e·d / Σ d² over the sparsities.

        Σ_l weight_l · damage_l then predicts the relative error of one model output, errors of layers added up.
        Sparsities above 0.7 play no part where there are lower ones: where little is left of a layer, the error is far
        greater than the slope says, see `curves`. A layer whose damage is always 0 weighs 0.
        """
        usual = max(1, sum(sparsity <= _USUAL for sparsity in self.sparsities))
        weights = {}
        for layer, errors in self.errors.items():
            damages = np.asarray(self.damages[layer][:usual])
            square = float(damages @ damages)
            weights[layer] = float(np.asarray(errors[:usual]) @ damages) / square if square else 0.0
        return weights

    def curves(self) -> dict[str, ErrorCurve]:
        """Layer → output error over predicted damage, through all that was measured."""
        return {
            layer: ErrorCurve((0.0, *self.damages[layer]), tuple(np.maximum.accumulate((0.0, *errors)).tolist()))
            for layer, errors in self.errors.items()
        }

    def _of(self, layer: str) -> tuple[float, ...]:
        if layer not in self.errors:
            raise UserError(f"The sensitivity of layer {layer!r} was not measured; measure this model.")
        return self.errors[layer]
