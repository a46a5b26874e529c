"""Recipes that have a name, from the plain baselines to the best combination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.catalogue import methods_of
from dit_prune_viz.methods.saliency.base import Saliency
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_file import parse_recipe, read_text

if TYPE_CHECKING:
    from dit_prune_viz.pipelines.model import Model


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe, whatever its sparsity, with a name and a sentence for people."""

    name: str
    recipe: Recipe
    explanation: str = ""


_TEMPERED = Recipe("stw:1.5,1", "cag", allocation="tempered:0.6")
_BIASED = Recipe("stw", "cag", allocation="tempered:0.8", centred=True)

_ALL = (
    NamedRecipe(
        "dit-pruning",
        Recipe(),
        "squared weights × activations (STW), with the clustering-aware granularity (CAG); the paper's method "
        "(arXiv 2607.00927)",
    ),
    NamedRecipe("magnitude", Recipe("magnitude"), "|W|, ranked per layer"),
    NamedRecipe("wanda", Recipe("wanda"), "|W|·‖X‖, ranked per row (arXiv 2306.11695)"),
    NamedRecipe("ria", Recipe("ria"), "relative importance and activations, ranked per row (ICLR 2024)"),
    NamedRecipe("obs", Recipe("obs"), "w²/[H⁻¹]ⱼⱼ, the error left once other weights make up for the lost one"),
    NamedRecipe("stw", Recipe("stw", "layer"), "|W|²·‖X‖ (STW) alone, every layer ranked as a whole"),
    NamedRecipe("cag", Recipe("wanda", "cag"), "Wanda's score with the clustering-aware granularity alone"),
    NamedRecipe(
        "tempered",
        _TEMPERED,
        "sparsity per layer between uniform and an energy threshold; layers whose energy lies in few weights lose more",
    ),
    NamedRecipe(
        "damage-aware",
        replace(_TEMPERED, allocation="damage-aware"),
        "sparsity per layer chosen for the least predicted damage",
    ),
    NamedRecipe("obs-update", Recipe(update="obs"), "DiT-Pruning's masks, kept weights updated by OBS"),
    NamedRecipe("mean", Recipe(update="mean"), "DiT-Pruning's masks, biases make up for the lost mean output"),
    NamedRecipe(
        "tempered-mean",
        replace(_BIASED, allocation="tempered:0.6", update="mean"),
        "tempered sparsity per layer, biases make up for the lost mean output",
    ),
    NamedRecipe(
        "swap-mask",
        Recipe(search=("swap",)),
        "DiT-Pruning's masks, then swaps of pruned for kept weights until nothing improves; no weight changes",
    ),
    NamedRecipe(
        "swap",
        replace(_BIASED, search=("swap",), update="mean"),
        "swapped masks, tempered sparsity per layer, biases make up for the lost mean output; no weight changes",
    ),
    NamedRecipe(
        "swap-update",
        replace(_BIASED, search=("swap",), update="least-squares"),
        "swapped masks, tempered sparsity per layer, kept weights and biases by least squares",
    ),
    NamedRecipe(
        "distilled-mask",
        replace(_TEMPERED, search=("distil:400",)),
        "masks that learn from the dense model's outputs, tempered sparsity per layer; no weight changes",
    ),
    NamedRecipe(
        "distilled",
        replace(_BIASED, search=("distil:400",), update="mean"),
        "masks that learn from the dense model's outputs while biases make up for the lost mean; no weight changes",
    ),
    NamedRecipe(
        "distilled-update",
        replace(_BIASED, search=("distil:1600",), update="tuned"),
        "masks that learn from the dense model's outputs for longer, then kept weights and biases that do",
    ),
    NamedRecipe("int8", Recipe("none", update="round"), "nothing pruned, rounded to int8 in groups of 64 (RTN)"),
    NamedRecipe("int4", Recipe("none", update="round:4,64"), "nothing pruned, rounded to 4 bits in groups of 64 (RTN)"),
    NamedRecipe(
        "dit-pruning+int8",
        Recipe(update="round:8,128"),
        "DiT-Pruning's masks, kept weights rounded to int8 in groups of 128",
    ),
)
NAMED_RECIPES = MappingProxyType({one.name: one for one in _ALL})
"""Name → recipe, the paper's first."""

ALIASES = MappingProxyType({"exchange-mask": "swap-mask", "exchange": "swap", "exchange-update": "swap-update"})
"""Former names."""

DENSE = "dense"
"""The name of the model as it is, which no recipe may have."""

_EXPONENTS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
SWEEPS = MappingProxyType(
    {
        "exponents": tuple(
            NamedRecipe(f"m = {m:g}", Recipe(f"stw:{m:g},1", "cag"), f"|W|^{m:g}·‖X‖ and CAG (arXiv 2607.00927)")
            for m in _EXPONENTS
        )
    }
)
"""Several recipes under one name."""


def find_recipe(recipe: Recipe | str | Path, model: Model | None = None) -> Recipe:
    """The recipe itself, the one called so, that of a saliency, or the one in a JSON file.

    Args:
        recipe: a `Recipe`, a name in NAMED_RECIPES, a saliency such as "stw:1.5,1", or a path ending in ".json".
        model: that is to be pruned; a file that was made for another one is refused. None reads it unchecked.

    Raises:
        UserError: there is none, or its file holds no recipe, or one for another model.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Path) or (isinstance(recipe, str) and recipe.endswith(".json")):
        file = parse_recipe(read_text(recipe))
        return file.recipe if model is None else file.fit(model).recipe
    name = ALIASES.get(recipe, recipe) if isinstance(recipe, str) else recipe
    if isinstance(name, str) and name in NAMED_RECIPES:
        return NAMED_RECIPES[name].recipe
    if isinstance(name, str) and name.partition(":")[0] in methods_of(Saliency):
        return Recipe(name)
    known = ", ".join([*NAMED_RECIPES, *(one for one in methods_of(Saliency) if one not in NAMED_RECIPES)])
    raise UserError(f"There is no recipe {brief(recipe)}; choose one of {known}, or give a .json file.")


def find_recipes(names: str | Sequence[str]) -> tuple[NamedRecipe, ...]:
    """The recipes called so, each once; a sweep's name stands for all of it.

    Args:
        names: a sequence, or one text with commas between the names.

    Raises:
        UserError: an unknown name.
    """
    asked = names.split(",") if isinstance(names, str) else list(names)
    chosen: dict[str, NamedRecipe] = {}
    for name in filter(None, (name.strip() if isinstance(name, str) else name for name in asked)):
        found = SWEEPS.get(name) if isinstance(name, str) else None
        for one in found or (_named(name),):
            chosen[one.name] = one
    return tuple(chosen.values())


def name_of(recipe: Recipe) -> str | None:
    """The name of the recipe, None if it has none.

    What differs from model to model plays no part: sparsity, N:M pattern, threshold, calibration, and layers of their
    own.
    """
    meaning = _meaning(recipe)
    return next((one.name for one in _ALL if _meaning(one.recipe) == meaning), None)


def _named(name: object) -> NamedRecipe:
    known = ALIASES.get(name, name) if isinstance(name, str) else name
    if isinstance(known, str) and known in NAMED_RECIPES:
        return NAMED_RECIPES[known]
    recipe = find_recipe(name)
    return NamedRecipe(str(name), recipe, f"{recipe.method.label}: {recipe.method.formula}")


def _meaning(recipe: Recipe) -> Recipe:
    """The same for two ways to write the same."""
    plain = Recipe()
    return replace(
        recipe,
        granularity=recipe.resolved_granularity,
        sparsity=plain.sparsity,
        threshold=None,
        calibration=plain.calibration,
        sensitivity=recipe.sensitivity and recipe.allocation != "uniform",
        sequential=recipe.sequential and recipe.finishes,
        ignore=(),
        bounds=(),
        tuned=(),
        rebalance=False,
    )


def parse_named_recipe(text: str) -> NamedRecipe:
    """A recipe of one's own: "NAME: saliency=stw:1.5,1 granularity=cag allocation=tempered:0.6 search=swap update=obs".

    What is left out keeps its default. Several searches are joined with "+"; `centred`, `sensitivity` and `sequential`
    are switched on with "yes".

    Raises:
        UserError: another form, an unknown field or method, the name of a built-in recipe.
    """
    name, found, rest = text.partition(": ")
    pairs = dict(part.partition("=")[::2] for part in rest.split())
    name = name.strip()
    if not (found and name[:1].isalnum() and pairs and all(pairs.values())):
        raise UserError(f"A recipe is written as 'NAME: saliency=wanda granularity=row', not {brief(text)}.")
    if name in [*NAMED_RECIPES, *ALIASES, *SWEEPS, DENSE]:
        raise UserError(f"{name} is the name of a built-in recipe; give yours another name.")
    values: dict[str, object] = dict(pairs)
    for switch in ("centred", "sensitivity", "sequential"):
        if switch in pairs:
            values[switch] = pairs[switch].lower() in ("yes", "true", "1")
    if "search" in pairs:
        values["search"] = pairs["search"].split("+")
    return NamedRecipe(name, Recipe.from_dict(values))
