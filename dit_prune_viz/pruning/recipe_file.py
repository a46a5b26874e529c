"""A recipe as a file: the recipe's JSON, and which model it was made for, so that it replays there bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dit_prune_viz.errors import UserError
from dit_prune_viz.pruning.carry_over import Carried, Origin, carry
from dit_prune_viz.pruning.made_for import MadeFor
from dit_prune_viz.pruning.make_plan import check_layers
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe, read_json
from dit_prune_viz.whole_file import write_whole

if TYPE_CHECKING:
    from dit_prune_viz.pipelines.model import Model

MOST_BYTES = 1 << 29
_OUT = "open the model as it was, or carry over what fits (--carry-over)"


@dataclass(frozen=True)
class RecipeFile:
    """What a recipe's file says.

    recipe: how to prune. made_for: the model that it was made for; None goes for every model.
    """

    recipe: Recipe
    made_for: MadeFor | None = None

    def fit(self, model: Model, *, carry_over: bool = False) -> Carried:
        """The recipe for a model.

        Args:
            model: that is to be pruned.
            carry_over: whether what fits is carried over where the file was made for another model.

        Raises:
            UserError: it was made for another model, or for this one in another state, unless it is to be carried over;
                layers that the model does not have.
        """
        reasons = [] if self.made_for is None else self.made_for.differences(MadeFor.of(model, self.recipe))
        if reasons and not carry_over:
            raise UserError(f"{reasons[0]}; {_OUT}.")
        carried = Carried(self.recipe)
        if carry_over:
            known = self.made_for
            same = known is None or known.fingerprint == model.fingerprint
            carried = carry(self.recipe, model.layers, known.layers if known else {}, keep_threshold=same)
        check_layers(carried.recipe, model.layers)
        return Carried(carried.recipe, (*(f"{reason}." for reason in reasons), *carried.dropped))


def recipe_text(plan: PrunedModel | PruningPlan, model: Model) -> str:
    """The text of a recipe's file that makes this plan anew.

    Args:
        plan: of a model, as it was pruned and then set by hand; with a `PrunedModel` the file also tells exactly how
            much each layer set by hand has lost, which carrying it over to another model needs.
        model: the model.

    Raises:
        UserError: a plan of another model.
    """
    pruned = plan if isinstance(plan, PrunedModel) else None
    plan = plan.plan if pruned else plan
    recipe = plan.as_recipe()
    achieved = {one.name: one.sparsity for one in pruned.report.layers} if pruned else {}
    layers = {}
    for one in recipe.tuned:
        layer = model.layer(one.name)
        weights = layer.shape[0] * layer.shape[1]
        share = one.sparsity if one.count is None else one.count / weights
        layers[one.name] = Origin(layer.kind, layer.shape, achieved.get(one.name, share))
    values = recipe.to_dict()
    about = MadeFor.of(model, recipe, layers).to_dict()
    text = json.dumps({"schema": values.pop("schema"), "model": about, **values}, indent=1, ensure_ascii=False)
    return text + "\n"


def write_recipe(plan: PrunedModel | PruningPlan, model: Model, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a recipe's file, whole or not at all.

    Args:
        plan: as in `recipe_text`; so is `model`.
        model: the model.
        path: of the file, in a folder that exists; a name ending in .json can be given wherever a recipe's name can.
        overwrite: whether it may replace a file that is there.

    Returns:
        The path.

    Raises:
        UserError: the file exists, or cannot be written.
    """
    target = Path(os.path.expanduser(path))
    text = recipe_text(plan, model)
    taken = UserError(f"{target} exists already; choose another name, or ask for it to be overwritten.")
    if os.path.lexists(target) and not overwrite:
        raise taken
    try:
        write_whole(target, text, overwrite=overwrite)
    except FileExistsError:
        raise taken from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no file name"
        raise UserError(f"{target} cannot be written ({reason}); choose another place.") from error
    return target


def parse_recipe(text: object) -> RecipeFile:
    """What a recipe's text says, before it is compared with a model.

    Raises:
        UserError: as in `Recipe.from_json`, or something else than a model in "model".
    """
    values = read_json(text)
    if not isinstance(values, Mapping) or "model" not in values:
        return RecipeFile(Recipe.from_dict(values))
    rest = {name: value for name, value in values.items() if name != "model"}
    return RecipeFile(Recipe.from_dict(rest), MadeFor.from_dict(values["model"]))


def read_recipe(text: str, model: Model, *, carry_over: bool = False) -> Carried:
    """The recipe that `recipe_text` wrote, or a plain one, for a model.

    Args:
        text: JSON.
        model: that is to be pruned.
        carry_over: whether what fits is carried over where the text was written for another model.

    Returns:
        The recipe, and sentences about what did not come along.

    Raises:
        UserError: no recipe, one for another model that is not to be carried over, layers that the model does not have.
    """
    return parse_recipe(text).fit(model, carry_over=carry_over)


def read_text(path: str | Path) -> str:
    """The text of a recipe's file.

    Raises:
        UserError: it cannot be read, or is far too large.
    """
    try:
        path = Path(path).expanduser()
        if path.exists() and not path.is_file():
            raise UserError(f"The recipe {path} is no file; give a recipe's JSON file.")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"The recipe {path} is larger than any recipe; give a recipe's JSON file.")
        return path.read_text(encoding="utf-8")
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"The recipe {path} cannot be read ({reason}); give a recipe's JSON file.") from None
