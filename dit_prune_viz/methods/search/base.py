"""What every search has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.methods.base import Method
from dit_prune_viz.methods.problem import LayerProblem, ModelProblem


class Search(Method):
    """Looks for better masks than the ranked ones, with the same counts.

    A search overrides `improve_layer`, if it looks at one layer at a time, or `improve`.
    """

    kind: ClassVar[str] = "search"

    @property
    def layerwise(self) -> bool:
        """Whether it looks at one layer at a time."""
        return type(self).improve is Search.improve

    @property
    def learning_steps(self) -> int:
        """In how many steps it learns from the dense model's outputs; 0 for a search that does not."""
        return 0

    def improve_layer(self, problem: LayerProblem, keep: Tensor) -> Tensor:
        """A better mask of one layer.

        Args:
            problem: the layer, see `LayerProblem`.
            keep: (d_out, d_in) bool, True = kept; only read.

        Returns:
            (d_out, d_in) bool with the counts of `keep` in every group of the plan.
        """
        raise NotImplementedError(f"{type(self).__name__} overrides neither improve_layer nor improve.")

    def improve(self, problem: ModelProblem, masks: Mapping[str, PackedMask]) -> dict[str, PackedMask]:
        """Better masks of all layers.

        Args:
            problem: the model, see `ModelProblem`.
            masks: layer → mask, where the search starts.

        Returns:
            layer → mask, with the counts of `masks` in every group of the plan that has one.
        """
        raise NotImplementedError(f"{type(self).__name__} goes layer by layer.")


def check_found(search: Search, plan: LayerPlan, found: object, before: Tensor) -> Tensor:
    """What a search has found for one layer.

    Args:
        search: what looked for it.
        plan: of the layer.
        found: the mask (d_out, d_in) bool, True = kept.
        before: the mask (d_out, d_in) where the search started.

    Returns:
        `found` itself.

    Raises:
        UserError: it is no mask of that shape, keeps more or fewer weights, or breaks the plan's N:M pattern.
    """
    good = isinstance(found, Tensor) and found.dtype == torch.bool and found.shape == before.shape
    if not good or int(found.sum()) != int(before.sum()):
        raise UserError(
            f"The search {search.name} must return a mask that keeps {int(before.sum()):,} weights of layer "
            f"{plan.name}, as the plan says."
        )
    pattern = n_of_m(plan.granularity)
    if pattern and bool((found.reshape(-1, pattern[1]).sum(1) != pattern[0]).any()):
        raise UserError(f"The search {search.name} breaks the {plan.granularity} pattern of layer {plan.name}.")
    return found
