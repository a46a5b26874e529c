"""The recipe as a form: fields that the registered methods describe, and the way between their values and a `Recipe`.

A method that is registered has its place in the form without anybody else knowing of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.calibration.timestep_weights import SCHEMES
from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.base import Method, Option
from dit_prune_viz.methods.catalogue import find_method, methods_of
from dit_prune_viz.methods.granularity.base import Granularity
from dit_prune_viz.methods.saliency.base import Saliency
from dit_prune_viz.methods.search.base import Search
from dit_prune_viz.methods.update.base import Update
from dit_prune_viz.pipelines.layer_patterns import read_layer_patterns
from dit_prune_viz.pruning.limits import Bounds, read_bounds
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, find_recipe, name_of
from dit_prune_viz.pruning.recipe import AUTO, Recipe
from dit_prune_viz.pruning.recipe_groups import GROUPS, RecipeGroup, group_of

PATTERN = "N:M"
BY_HAND = "hand"
BINS = CalibrationSettings().bins
EVEN = ", ".join(["1"] * BINS)
_BOUNDS = re.compile(r"([^:]+):\s*(\d{1,3}(?:\.\d+)?)\s*%?(?:\s*[-–]\s*(\d{1,3}(?:\.\d+)?)\s*%?)?")

CHOICE, NUMBER, SLIDER, SWITCH, TEXT = "choice", "number", "slider", "switch", "text"
Values = Mapping[str, Any]
"""Name of a field → its value; a number field that was emptied holds None."""

_TIMESTEPS = {
    "uniform": "Uniform",
    "early": "Early: the noisy half",
    "late": "Late: the clean half",
    "log": "Log: 1.2 falling to 0.8",
    BY_HAND: "By hand",
}


@dataclass(frozen=True)
class FormField:
    """One field.

    Attributes:
        name: "saliency", or "saliency:stw:m" for an option of a method.
        widget: CHOICE, NUMBER, SLIDER, SWITCH or TEXT.
        label: for people.
        default: its value at the start.
        info: a line of explanation, or "".
        choices: (label, value) of a CHOICE.
        low, high, step: of a SLIDER or NUMBER; None where there is no bound.
        scale: how many of the field's units are 1 of the option's, 100 for percent.
    """

    name: str
    widget: str
    label: str
    default: Any
    info: str = ""
    choices: tuple[tuple[str, Any], ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None
    scale: float = 1.0

    @property
    def typed(self) -> bool:
        """Whether it takes effect with Enter or when it is left, not with every key."""
        return self.widget in (NUMBER, TEXT)


def form_fields() -> tuple[FormField, ...]:
    """All fields, in the order in which the page shows them."""
    granularities = (("Method's default", AUTO), *_choices(Granularity), ("N:M pattern, such as 2:4", PATTERN))
    sliders = {"low": 0, "high": 100, "step": 1, "scale": 100}
    bins = f"{BINS} weights, from clean to noisy"
    return (
        FormField("granularity", CHOICE, "Compare weights within", AUTO, choices=granularities),
        FormField("pattern", TEXT, "N:M pattern: of every M inputs, N are kept", "2:4"),
        FormField("sparsity", SLIDER, "Global sparsity, %", 50, **sliders),
        FormField("saliency", CHOICE, "Saliency: how weights are scored", "stw", choices=_scores()),
        *_options(Saliency),
        FormField("allocation", CHOICE, "Sparsity per layer", "uniform", choices=_choices(Allocation)),
        *_options(Allocation),
        FormField("ignore", TEXT, "Keep dense", "", "Layers by name, kind, block 3, blocks 0-4, or with * and ?"),
        FormField("bounds", TEXT, "Floors and ceilings, %", "", "Such as adaLN: 0-40, block 3: 20-60"),
        FormField(
            "sensitivity",
            SWITCH,
            "Weight layers by measured sensitivity",
            False,
            "Measures every layer alone first",
        ),
        *(field for name, kind in methods_of(Search).items() for field in _search(name, kind)),
        FormField("update", CHOICE, "Weight update", "", choices=(("None", ""), *_choices(Update))),
        *_options(Update),
        FormField("sequential", SWITCH, "Block by block", False, "Later blocks see outputs of earlier pruned ones"),
        FormField(
            "timestep",
            CHOICE,
            "Timestep weighting",
            "uniform",
            choices=tuple((label, value) for value, label in _TIMESTEPS.items()),
        ),
        FormField("weights", TEXT, bins, EVEN),
        FormField("centred", SWITCH, "Centred inputs", False, "Less their mean, for updates that change biases"),
    )


def visible(values: Values) -> dict[str, bool]:
    """Which fields mean anything while the others have these values."""
    fixed = values["granularity"] == PATTERN
    prunes = _prunes(values)
    updater = find_method(Update, values["update"]) if values["update"] in methods_of(Update) else None
    searching = any(values[f"search:{name}"] for name in methods_of(Search))
    shown = {
        "pattern": fixed,
        "sparsity": not fixed and prunes,
        "allocation": not fixed and prunes,
        "bounds": not fixed and prunes,
        "sensitivity": values["allocation"] != "uniform" and not fixed and prunes,
        "sequential": searching or (updater is not None and updater.needs_inputs),
        "weights": values["timestep"] == BY_HAND,
    }
    for kind in (Saliency, Allocation, Update):
        for name, method in methods_of(kind).items():
            chosen = values[kind.kind] == name and not (kind is Allocation and (fixed or not prunes))
            shown |= {f"{kind.kind}:{name}:{option.name}": chosen for option in method.options()}
    for name, method in methods_of(Search).items():
        shown |= {f"search:{name}:{option.name}": bool(values[f"search:{name}"]) for option in method.options()}
    return shown


def recipe_of(values: Values, calibration: CalibrationSettings | None = None) -> Recipe:
    """The recipe that the fields ask for.

    Args:
        values: of all fields.
        calibration: the recipe's; None is the default.

    Raises:
        UserError: a field that is empty or out of range.
    """
    fixed = values["granularity"] == PATTERN
    hand = values["timestep"] == BY_HAND
    searches = [_spec(Search, name, values) for name in methods_of(Search) if values[f"search:{name}"]]
    return Recipe(
        saliency=_spec(Saliency, values["saliency"], values),
        granularity=(values["pattern"] or "").replace(" ", "") if fixed else values["granularity"],
        sparsity=0.5 if fixed else _number(values["sparsity"], "The global sparsity in percent", 0, 100) / 100,
        allocation="uniform" if fixed else _spec(Allocation, values["allocation"], values),
        sensitivity=bool(values["sensitivity"]) and not fixed,
        search=tuple(searches),
        update=_spec(Update, values["update"], values) if values["update"] else "",
        timestep=spelled(values["weights"]) if hand else values["timestep"],
        centred=bool(values["centred"]),
        sequential=bool(values["sequential"]),
        calibration=calibration or CalibrationSettings(),
        ignore=read_layer_patterns(values["ignore"] or ""),
        bounds=() if fixed or not _prunes(values) else bounds_of(values["bounds"] or ""),
    )


def values_of(recipe: Recipe, kept: Values | None = None) -> dict[str, Any]:
    """The values of the fields that ask for a recipe; those that play no part in it stay as in `kept`."""
    values = dict(kept or defaults())
    pattern = n_of_m(recipe.granularity)
    values |= {name: getattr(recipe, name) for name in ("sequential", "centred")}
    if pattern:
        values |= {"granularity": PATTERN, "pattern": recipe.granularity}
    else:
        values |= {"granularity": recipe.granularity, "sensitivity": recipe.sensitivity}
        values |= _values(find_method(Allocation, recipe.allocation), {"allocation"})
        if recipe.method.prunes:
            values["sparsity"] = round(100 * recipe.sparsity, 6)
            values["bounds"] = ", ".join(map(_spelled_bounds, recipe.bounds))
    values["ignore"] = ", ".join(recipe.ignore)
    values |= _values(recipe.method, {"saliency"})
    values["update"] = ""
    if recipe.updater:
        values |= _values(recipe.updater, {"update"})
    values |= {f"search:{name}": False for name in methods_of(Search)}
    for search in recipe.searches:
        values |= {f"search:{search.name}": True, **_values(search, set())}
    by_hand = recipe.timestep not in SCHEMES
    values |= {"timestep": BY_HAND, "weights": recipe.timestep} if by_hand else {"timestep": recipe.timestep}
    return values


def defaults() -> dict[str, Any]:
    """The values at the start: those of the default recipe."""
    return {field.name: field.default for field in form_fields()}


def recipe_names() -> tuple[str, ...]:
    """The recipes a person picks by name: the named ones, and each registered saliency that prunes and has none."""
    own = tuple(name for name, kind in methods_of(Saliency).items() if kind.prunes and name not in NAMED_RECIPES)
    return (*NAMED_RECIPES, *own)


def grouped_names() -> tuple[tuple[RecipeGroup, tuple[str, ...]], ...]:
    """The names of `recipe_names` by group; groups without any are left out."""
    names = {name: group_of(find_recipe(name)) for name in recipe_names()}
    found = ((group, tuple(name for name in names if names[name] is group)) for group in GROUPS)
    return tuple((group, members) for group, members in found if members)


def name_for(recipe: Recipe) -> str | None:
    """The name in `recipe_names` that means a recipe, whatever its sparsity; None for one of a person's own."""
    named = name_of(recipe)
    if named:
        return named
    plain = replace(_shown(recipe), sparsity=0.5, ignore=(), bounds=())
    return recipe.saliency if recipe.saliency in recipe_names() and plain == Recipe(recipe.saliency) else None


def choose(name: str, values: Values) -> dict[str, Any]:
    """The values once a person has picked a recipe by name: its own; sparsity and dense layers stay."""
    kept = {name: values[name] for name in ("sparsity", "ignore", "bounds")}
    return {**values_of(find_recipe(name), values), **kept}


def same_form(first: Recipe, second: Recipe) -> bool:
    """Whether the form shows the same for two recipes: it holds no threshold, calibration or layers set by hand."""
    return _shown(first) == _shown(second)


def spelled(weights: str | Sequence[float]) -> str:
    """Numbers by hand, however they are separated, with commas; a lone one too, so that they are counted."""
    parts = str(weights or "").replace(",", " ").replace(";", " ").split()
    return ",".join(parts) if len(parts) > 1 else f"{''.join(parts)},"


def bounds_of(text: str) -> tuple[Bounds, ...]:
    """The floors and ceilings in a text such as "adaLN: 0-40, block 3: 20-60", in percent; "adaLN: 40" is both.

    Raises:
        UserError: another form, or numbers outside 0–100.
    """
    found = []
    for part in filter(None, map(str.strip, re.split(r"[,;\n]", text))):
        match = _BOUNDS.fullmatch(part)
        if match is None:
            raise UserError(f"Floors and ceilings are written as adaLN: 0-40, in percent, not {brief(part)}.")
        least, greatest = float(match[2]), float(match[3] or match[2])
        if greatest > 100 or least > 100:
            raise UserError(f"Floors and ceilings lie between 0 and 100 %, unlike {brief(part)}.")
        found.append(Bounds(match[1], least / 100, greatest / 100))
    return read_bounds(found)


def weights_of_bins(bins: Sequence[int]) -> str:
    """1 for every timestep bin that calibrates, 0 for the others, as text."""
    return ", ".join("1" if bin in bins else "0" for bin in range(BINS))


def bins_of_weights(weights: str) -> list[int]:
    """The bins that have any weight in the text, none in a text that says something else."""
    try:
        return [bin for bin, part in enumerate(spelled(weights).split(",")[:BINS]) if part and float(part)]
    except ValueError:
        return []


def _shown(recipe: Recipe) -> Recipe:
    return replace(recipe, threshold=None, calibration=CalibrationSettings(), tuned=(), rebalance=False)


def _spelled_bounds(one: Bounds) -> str:
    least, greatest = (f"{100 * share:.12g}" for share in (one.least, one.greatest))
    return f"{one.pattern}: {least}" if least == greatest else f"{one.pattern}: {least}-{greatest}"


def _choices(kind: type[Method]) -> tuple[tuple[str, str], ...]:
    return tuple((method.label, name) for name, method in methods_of(kind).items())


def _scores() -> tuple[tuple[str, str], ...]:
    """Scores with their formulas, which say more than their names."""
    return tuple(
        (f"{method.label}: {method.formula}" if method.prunes and method.formula else method.label, name)
        for name, method in methods_of(Saliency).items()
    )


def _options(kind: type[Method]) -> tuple[FormField, ...]:
    """The options of all methods of a kind."""
    return tuple(
        _option(f"{kind.kind}:{name}:{option.name}", option)
        for name, method in methods_of(kind).items()
        for option in method.options()
    )


def _search(name: str, method: type[Search]) -> tuple[FormField, ...]:
    switch = FormField(f"search:{name}", SWITCH, method.label, False, method.formula)
    return switch, *(_option(f"search:{name}:{option.name}", option) for option in method.options())


def _option(name: str, option: Option) -> FormField:
    label = f"{option.label}, %" if option.percent else option.label
    if option.choices:
        return FormField(name, CHOICE, label, option.default, choices=tuple((one, one) for one in option.choices))
    scale = 100.0 if option.percent else 1.0
    bounds = [None if bound is None else bound * scale for bound in (option.low, option.high, option.step)]
    widget = SLIDER if option.slider or isinstance(option.default, int) else NUMBER
    return FormField(name, widget, label, option.default * scale, "", (), *bounds, scale)


def _prunes(values: Values) -> bool:
    saliency = methods_of(Saliency).get(values["saliency"])
    return saliency is None or saliency.prunes


def _spec(kind: type[Method], name: str, values: Values) -> str:
    method = methods_of(kind).get(name)
    if method is None:
        return str(name)  # refused by name where the recipe is made
    parts = []
    for option in method.options():
        value = values[f"{kind.kind}:{name}:{option.name}"]
        if not option.choices:
            value = _number(value, f"{option.label} of {method.label}") / (100 if option.percent else 1)
            value = f"{value:.12g}"
        parts.append(str(value))
    return f"{name}:{','.join(parts)}" if parts else name


def _values(method: Method, chosen: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(chosen, method.name)
    for option in method.options():
        value = getattr(method, option.name)
        values[f"{method.kind}:{method.name}:{option.name}"] = 100 * value if option.percent else value
    return values


def _number(value: object, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        between = "" if math.isinf(low) else f" from {low} to {high}"
        given = "empty" if value in (None, "") else brief(value)
        raise UserError(f"{what} must be a number{between}, but it is {given}.")
    return value
