"""Verbs that save a session's work as a recipe's text and bring it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from dit_prune_viz.app.session.session import Session
from dit_prune_viz.checks import brief
from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.clustering.edit import BY_HAND
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pruning.named_recipes import find_recipe
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import AUTO, Recipe
from dit_prune_viz.pruning.recipe_file import RecipeFile, parse_recipe, recipe_text
from dit_prune_viz.pruning.recipe_words import in_words


def save_recipe_text(session: Session) -> str:
    """The text of a recipe's file that makes the session's masks anew, bit for bit, and shows its clusters.

    Raises:
        UserError: no plan.
    """
    return recipe_text(with_clusters(session), session.need_model())


def recipe_in_words(session: Session) -> str:
    """What the session's recipe does, with all that was set by hand. UserError without a plan."""
    return in_words(with_clusters(session).plan.as_recipe(), session.need_model())


def open_recipe(
    session: Session, text: str, *, carry_over: bool = False, progress: Progress | None = None
) -> tuple[Session, tuple[str, ...]]:
    """The session's model pruned by a recipe's text: calibrated as that says, with its layers and clusters set by hand.

    Args:
        session: with a model.
        text: as `save_recipe_text` writes it, or a plain recipe's JSON.
        carry_over: whether what fits is carried over where it was written for another model.
        progress: may raise `Cancelled`.

    Returns:
        The new session, and a sentence for everything that did not come along.

    Raises:
        UserError: no model, no recipe, one for another model that is not to be carried over, and whatever calibrating
            and pruning refuse.
    """
    file = parse_recipe(text)
    session, notes = _with_its_layers(session, file, progress)
    carried = file.fit(session.need_model(), carry_over=carry_over)
    recipe = carried.recipe
    if session.statistics is None or session.recipe.calibration != recipe.calibration:
        session = session.calibrate_as(recipe.calibration, progress)
    # A threshold that was moved before belongs to the recipe of before.
    session = replace(session, recipe=replace(session.recipe, threshold=None), clusters={}, asked={})
    return session.prune(recipe, progress), (*notes, *carried.dropped)


def named_recipe(session: Session, method: str, granularity: str, sparsity: float) -> Recipe:
    """The named recipe at a sparsity, with another granularity unless that is "auto"; calibration as it is."""
    recipe = replace(_by_name(method), sparsity=sparsity, calibration=session.recipe.calibration)
    if granularity == AUTO:
        return recipe
    if n_of_m(granularity):
        recipe = replace(recipe, allocation="uniform", sensitivity=False)
    return replace(recipe, granularity=granularity)


def pruned_with(session: Session, given: object, progress: Progress | None = None) -> Session:
    """The session pruned by a recipe in a JSON object; one that says which model it was made for is opened as such."""
    if isinstance(given, Mapping) and "model" in given:
        return open_recipe(session, json.dumps(given), progress=progress)[0]
    return session.prune(read_recipe(given, session.recipe), progress)


def read_recipe(given: object, present: Recipe) -> Recipe:
    """The recipe in a JSON object: {"method": "swap", "sparsity": 0.6} changes a named recipe, {"saliency": "ria"} the
    default one; the calibration stays as it is unless it is given.

    Raises:
        UserError: no object, an unknown method or key, a value of the wrong kind.
    """
    if not isinstance(given, Mapping):
        return Recipe.from_dict(given)
    values = dict(given)
    base = _by_name(values.pop("method")) if "method" in values else Recipe()
    return Recipe.from_dict(values, replace(base, calibration=present.calibration))


def with_clusters(session: Session) -> PrunedModel:
    """The pruned model with the clusters that are shown in its plan, as far as a person has had a hand in them.

    No mask changes: clusters without a sparsity of their own keep it as it is.

    Raises:
        UserError: no plan.
    """
    plan = session.need_plan()[2]
    for layer, clusters in session.clusters.items():
        plan = _with_shown(plan, layer, clusters)
    return replace(session.pruned, plan=plan)


def _by_name(method: object) -> Recipe:
    """The recipe of that name. UserError for a path: clients have no say in which files the app reads."""
    if isinstance(method, str) and method.endswith(".json"):
        raise UserError(f"A recipe is not opened by its path ({brief(method)}); give its name, or what its file holds.")
    return find_recipe(method)


def _with_shown(plan: PruningPlan, layer: str, clusters: Clusters) -> PruningPlan:
    own = plan.layer(layer)
    if own.clusters is not None and own.clusters.labels is clusters.labels:
        return plan.with_layer(replace(own, clusters=replace(own.clusters, tags=clusters.tags)))
    named = any(tag.locked or tag.name != f"cluster {i}" for i, tag in enumerate(clusters.tags))
    touched = named or clusters.algorithm == BY_HAND or own.clusters is not None
    return plan.with_clusters(layer, clusters) if touched else plan


def _with_its_layers(session: Session, file: RecipeFile, progress: Progress | None) -> tuple[Session, tuple[str, ...]]:
    """The session with the layers prunable by request that a recipe was made with, if it is for the same weights."""
    model, made_for = session.need_model(), file.made_for
    same = made_for is not None and made_for.fingerprint == model.fingerprint
    if not same or sorted(made_for.also_prune) == sorted(model.also_prune):
        return session, ()
    source: str | LoadSettings = model.source
    if model.settings is not None:
        source = replace(model.settings, also_prune=made_for.also_prune)
    session = session.load_model(source, progress, also_prune=made_for.also_prune)
    named = ", ".join(session.model.also_prune) or "nothing"
    return session, (f"Prunable by request is now {named}, as it was for the recipe.",)
