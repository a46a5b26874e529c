"""The scores of a model's layers by one recipe, each computed once for as many layers as memory allows."""

from __future__ import annotations

from torch import Tensor

from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.methods.saliency.base import layer_scores
from dit_prune_viz.pruning.measures import Measures
from dit_prune_viz.pruning.recipe import Recipe

_SHARE = 4
"""Scores are kept together if they take no more than this part of the model's cache."""

_FLOAT = 4


class Scores:
    """Gives the scores of a layer; planning, masking and the page ask for the same ones.

    The scores of all layers are kept in the model's cache where they fit there. Those of larger models, which would be
    as large as the weights, are computed again when they are needed again.

    Args:
        recipe: decides saliency, timesteps and centring.
        statistics: of the model.

    Attributes:
        all_kept: whether the scores of all layers are kept.
    """

    def __init__(self, recipe: Recipe, statistics: Statistics) -> None:
        self._saliency, self._timestep, self._centred = recipe.method, recipe.timestep, recipe.centred
        self._statistics = statistics
        model = statistics.model
        self.all_kept = _FLOAT * model.prunable_parameters * _SHARE <= model.cache.limit
        # The class too: whoever mends a method of his own and registers it again expects other scores.
        kind = type(self._saliency)
        self._basis = ("scores", statistics.calibration.key, kind, recipe.saliency, recipe.timestep, recipe.centred)

    def __call__(self, layer: str) -> Tensor:
        """(d_out, d_in) float32, not to be changed.

        Raises:
            UserError: NaN or infinite scores, and whatever making a statistic refuses.
        """
        return self.kept(layer) if self.all_kept else self._make(layer)

    def kept(self, layer: str) -> Tensor:
        """The same, kept in the model's cache whatever its size: for the one layer a person looks at."""
        return self._statistics.model.cache.get((*self._basis, layer), lambda: self._make(layer))

    def measures(self, timestep: str | None = None) -> Measures:
        """What follows from the scores for every layer, kept in the model's cache and, if it took long, on disk.

        Args:
            timestep: how the timestep bins are weighed in predicted damage; None weighs them as the scores do.
        """
        timestep, known = timestep or self._timestep, self._statistics
        content = None
        if known.disk is not None and self._saliency.built_in:
            scoring = self._saliency.spec, self._saliency.version, self._timestep, self._centred
            content = (known.model.signature, known.calibration.key, scoring, timestep)
        return Measures(
            known.model.weight,
            self,
            lambda layer: known.mean_square(layer, timestep, centred=self._centred),
            known.model.cache,
            (*self._basis, timestep),
            disk=known.disk,
            content=content,
        )

    def _make(self, layer: str) -> Tensor:
        known = {
            name: self._statistics.get(name, layer, timestep=self._timestep, centred=self._centred)
            for name in self._saliency.needs
        }
        return layer_scores(self._saliency, layer, self._statistics.model.weight(layer), known)
