"""What every weight update has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.rounding import Rounded
from dit_prune_viz.methods.base import Method
from dit_prune_viz.methods.problem import LayerProblem, ModelProblem


class Update(Method):
    """Moves the kept weights, or only the biases, so that less of the model's outputs is lost. Masks stay.

    An update overrides `update_layer`, if it looks at one layer at a time, or `update`. Of layers with a bias, the bias
    then makes up for whatever mean output is still lost. One that needs no inputs of the layers overrides `new_weights`
    instead; biases stay as they are then.
    """

    kind: ClassVar[str] = "update"

    @property
    def layerwise(self) -> bool:
        """Whether it looks at one layer at a time."""
        return type(self).update is Update.update

    @property
    def needs_inputs(self) -> bool:
        """Whether it looks at the layers' inputs, or at the weights alone."""
        return type(self).new_weights is Update.new_weights

    @property
    def moves_weights(self) -> bool:
        """Whether kept weights change, or only biases."""
        return True

    def learning_steps(self, searched: int) -> int:
        """In how many steps it learns from the dense model's outputs, after masks have learned in `searched` steps."""
        return 0

    def update_layer(self, problem: LayerProblem, keep: Tensor) -> Tensor | None:
        """New weights of one layer.

        Args:
            problem: the layer, see `LayerProblem`.
            keep: (d_out, d_in) bool, True = kept; only read.

        Returns:
            (d_out, d_in), zero where `keep` is False; None leaves the kept weights as they are.
        """
        raise NotImplementedError(f"{type(self).__name__} overrides neither update_layer nor update.")

    def new_weights(self, weight: Tensor, mask: PackedMask) -> Tensor | Rounded | None:
        """New weights of one layer, whatever its inputs are.

        Args:
            weight: (d_out, d_in), the dense weights, only read.
            mask: which of them are kept.

        Returns:
            (d_out, d_in), zero where the mask prunes, or rounded weights; None leaves the kept weights as they are.
        """
        raise NotImplementedError(f"{type(self).__name__} looks at the layers' inputs.")

    def update(self, problem: ModelProblem, masks: Mapping[str, PackedMask]) -> dict[str, PrunedLayer]:
        """New weights of all layers.

        Args:
            problem: the model, see `ModelProblem`.
            masks: layer → mask.

        Returns:
            layer → pruned layer with that mask; layers that are left out keep their weights.
        """
        raise NotImplementedError(f"{type(self).__name__} goes layer by layer.")


def check_updated(update: Update, layer: str, new: object, keep: Tensor) -> Tensor:
    """What an update has made of one layer's weights.

    Args:
        update: what made it.
        layer: its name, for the error.
        new: the weights (d_out, d_in).
        keep: the mask (d_out, d_in) bool.

    Returns:
        The weights, zero where `keep` is False.

    Raises:
        UserError: they have another shape, or are NaN or infinite.
    """
    if not isinstance(new, Tensor) or new.shape != keep.shape or not bool(torch.isfinite(new).all()):
        raise UserError(
            f"The update {update.name} must return finite weights of shape {tuple(keep.shape)} for layer {layer}."
        )
    return new.masked_fill(~keep, 0)
