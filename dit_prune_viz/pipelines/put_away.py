"""A model leaves the memory although somebody still has it in hand."""

from __future__ import annotations

import gc

import torch

from dit_prune_viz.memory import give_back
from dit_prune_viz.pipelines.model import Model


def nbytes(model: Model) -> int:
    """About how much memory the model's weights take, wherever they lie."""
    if model.placement is not None:
        return sum(model.placement.parts.values())
    return model.parameters * model.dtype.itemsize


def put_away(model: Model) -> None:
    """Free the model's weights and all that was kept of it; `Model.away` is true from then on.

    Nobody may be running it. What shares its pipeline has to be put away as well.
    """
    vars(model).update(away=True, pipeline=None)
    model.cache.clear()
    gc.collect()  # modules and their hooks know each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    give_back()
