"""Named recipes in groups, by what happens to the weights that stay: it follows from the recipe, not from its name."""

from __future__ import annotations

from dataclasses import dataclass

from dit_prune_viz.pruning.recipe import Recipe


@dataclass(frozen=True)
class RecipeGroup:
    """Recipes of one kind; title and explanation are for people."""

    name: str
    title: str
    explanation: str


RANKED = RecipeGroup("ranked", "The paper and its peers", "Weights are ranked once and the lowest go; takes seconds.")
SEARCHED = RecipeGroup(
    "searched", "No weight moves", "Better masks are searched for, or biases corrected; kept weights stay as they are."
)
UPDATED = RecipeGroup("updated", "Kept weights learn", "Kept weights change so that the outputs stay.")
ROUNDED = RecipeGroup("rounded", "Rounding, to compare", "Weights are rounded to fewer bits, as quantisation does.")
GROUPS = (RANKED, SEARCHED, UPDATED, ROUNDED)
"""In the order in which a person meets them."""


def group_of(recipe: Recipe) -> RecipeGroup:
    """The group that a recipe belongs to."""
    updater = recipe.updater
    if updater is not None and not updater.needs_inputs:
        return ROUNDED
    if updater is not None and updater.moves_weights:
        return UPDATED
    return SEARCHED if recipe.finishes else RANKED
