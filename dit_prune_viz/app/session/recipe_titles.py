"""How recipes are called on the page."""

from __future__ import annotations

from dataclasses import replace

from dit_prune_viz.app.session.recipe_form import grouped_names
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.work_time import finish_time, plan_time, recipe_time
from dit_prune_viz.pruning import recipe_words
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, find_recipe
from dit_prune_viz.pruning.recipe import Recipe

CUSTOM = "custom"
HEADING = "group:"
"""Begins what a heading in the list of recipes is called; it is no recipe."""


def label_of(name: str) -> str:
    """What the page calls a named recipe, or CUSTOM."""
    return "Custom" if name == CUSTOM else recipe_words.label_of(name)


def sentence_of(name: str) -> str:
    """One sentence that explains a recipe, or CUSTOM."""
    if name == CUSTOM:
        return "Your own combination of the fields below."
    if name not in NAMED_RECIPES:
        method = Recipe(name).method
        return f"{method.label}: {method.formula}."
    text = NAMED_RECIPES[name].explanation
    return f"{text[:1].upper()}{text[1:]}."


def time_of(session: Session | None, recipe: Recipe | None) -> str:
    """How long a recipe takes on this machine, in a sentence; nothing before the model is calibrated."""
    if session is None or session.statistics is None or recipe is None:
        return ""
    recipe = replace(recipe, calibration=session.recipe.calibration)
    known = session.store.times, session.statistics, recipe
    plan, finish = plan_time(*known), finish_time(*known)
    first = "" if plan.short else f"{plan.words} when it is chosen"
    then = "" if finish.short else f"{finish.words} before the next image"
    return f"**Time here:** {', then '.join(filter(None, [first, then])) or 'at once'}."


def choices_of(session: Session | None) -> list[tuple[str, str]]:
    """(label, name) of all recipes in their groups, each under the group's title; long ones say how long they take."""
    found: list[tuple[str, str]] = []
    for group, names in grouped_names():
        found.append((f"— {group.title} —", f"{HEADING}{group.name}"))
        found += [(label_of(name) + _suffix(session, name), name) for name in names]
    return [*found, (label_of(CUSTOM), CUSTOM)]


def _suffix(session: Session | None, name: str) -> str:
    if session is None or session.statistics is None:
        return ""
    recipe = replace(find_recipe(name), calibration=session.recipe.calibration)
    time = recipe_time(session.store.times, session.statistics, recipe)
    return f" · {time.words}" if time.long else ""
