"""How recipes are called on the page."""

from __future__ import annotations

from dit_prune_viz.pruning import recipe_words
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES

CUSTOM = "custom"


def label_of(name: str) -> str:
    """What the page calls a named recipe, or CUSTOM."""
    return "Custom" if name == CUSTOM else recipe_words.label_of(name)


def sentence_of(name: str) -> str:
    """One sentence that explains a named recipe, or CUSTOM."""
    if name == CUSTOM:
        return "Your own combination of the fields below."
    text = NAMED_RECIPES[name].explanation
    return f"{text[:1].upper()}{text[1:]}."
