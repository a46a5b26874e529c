"""What a sensitivity measurement found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dit_prune_viz.errors import UserError


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

        Σ_l weight_l · damage_l then predicts the relative error of one model output, errors of layers added up. A
        layer whose damage is always 0 weighs 0.
        """
        weights = {}
        for layer, errors in self.errors.items():
            damages = np.asarray(self.damages[layer])
            square = float(damages @ damages)
            weights[layer] = float(np.asarray(errors) @ damages) / square if square else 0.0
        return weights

    def _of(self, layer: str) -> tuple[float, ...]:
        if layer not in self.errors:
            raise UserError(f"The sensitivity of layer {layer!r} was not measured; measure this model.")
        return self.errors[layer]
