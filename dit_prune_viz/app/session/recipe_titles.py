"""How recipes are called on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, name_of
from dit_prune_viz.pruning.recipe import AUTO, Recipe

CUSTOM = "custom"
_LABELS = {"dit-pruning": "DiT-Pruning", "wanda": "Wanda", "magnitude": "Magnitude", "ria": "RIA", "obs": "OBS score"}


def title_of(recipe: Recipe) -> str:
    """The label of the named recipe that it is, else of its saliency."""
    name = name_of(recipe)
    return label_of(name) if name else f"Custom, {recipe.method.title}"


def label_of(name: str) -> str:
    """What the page calls a named recipe, or CUSTOM."""
    return _LABELS.get(name) or ("Custom" if name == CUSTOM else name)


def sentence_of(name: str) -> str:
    """One sentence that explains a named recipe, or CUSTOM."""
    if name == CUSTOM:
        return "Your own combination of the fields below."
    text = NAMED_RECIPES[name].explanation
    return f"{text[:1].upper()}{text[1:]}."


def fitting(recipe: Recipe, layers: Sequence[Layer]) -> Recipe:
    """The same recipe for another model: an N:M that does not divide its layers' inputs becomes "auto", and a threshold
    found for other layers is dropped."""
    pattern = n_of_m(recipe.granularity)
    if pattern and any(layer.shape[1] % pattern[1] for layer in layers):
        recipe = replace(recipe, granularity=AUTO)
    return replace(recipe, threshold=None)
