"""A grid of pictures as one PNG that says, to people and to this app, all that is needed to draw it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

import dit_prune_viz
from dit_prune_viz.checks import brief, check_keys, unmarked, whole
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.xy_axes import GUIDANCE, KINDS, PROMPT, SEED, STEPS
from dit_prune_viz.experiments.xy_grid import DrawnCell, Grid
from dit_prune_viz.experiments.xy_plan import MOST_CELLS, Cell, GridPlan, Heads
from dit_prune_viz.export.picture_grid import picture_grid
from dit_prune_viz.formatting import signed
from dit_prune_viz.generation.request import MAX_PROMPT, Request, check_request
from dit_prune_viz.metrics.clip_mean import CLIP_UNIT
from dit_prune_viz.metrics.destroyed import told as told_destroyed
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.made_for import MadeFor
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_file import parse_recipe
from dit_prune_viz.pruning.recipe_words import in_words
from dit_prune_viz.whole_file import whole_file

KEY = "dit_prune_viz grid"
"""Of the PNG's text that holds the JSON."""
SCHEMA = 1
_MODEL = ("name", "fingerprint", "identity", "precision", "device")
_CELL = ("row", "column", "recipe", "block", "request", "clip", "dense_clip", "ssim", "destroyed")
_REQUEST = ("prompt", "seed", "steps", "guidance_scale", "height", "width", "frames", "picture")
_MOST_TOLD = 12
"""Recipes that the footer tells in words."""
_DIGITS = 16
"""Of a fingerprint."""
_MOST_TEXT = 32 << 20
"""Characters of a recipe that goes along; Pillow reads no more than 64 MB of a PNG's texts."""
_TOO_LARGE = "What was set by hand is too large to go along in this file: save it as a recipe's file."


def write_grid(grid: Grid, model: Model, path: str | Path) -> None:
    """Write a grid as a PNG: the pictures with their captions, and the JSON among its texts.

    Args:
        grid: drawn in whole or in part; places that are not drawn stay empty.
        model: that drew it.
        path: of the file.

    Raises:
        UserError: nothing is drawn yet.
    """
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", f"dit_prune_viz {dit_prune_viz.__version__}")
    # ASCII in an uncompressed text chunk: Pillow reads no more than a megabyte of a compressed one.
    info.add_text(KEY, json.dumps(grid_values(grid, model)))
    picture = grid_picture(grid, model)
    with whole_file(path) as part:
        picture.save(part, "PNG", pnginfo=info)


def grid_picture(grid: Grid, model: Model) -> Image.Image:
    """The pictures with names along both sides, scores below each, and a footer.

    Raises:
        UserError: nothing is drawn yet.
    """
    rows, columns = grid.plan.rows.labels, grid.plan.columns.labels
    at = {(drawn.cell.row, drawn.cell.column): drawn for drawn in grid.drawn}
    table = [[at.get((row, column)) for column in range(len(columns))] for row in range(len(rows))]
    return picture_grid(
        [[drawn and drawn.image for drawn in row] for row in table],
        rows,
        columns,
        notes=[["\n".join(scores_in_words(drawn)) if drawn else "" for drawn in row] for row in table],
        footer=_footer(grid, model),
    )


def scores_in_words(drawn: DrawnCell) -> tuple[str, ...]:
    """The scores of a cell, such as "CLIP 87.1 (−1.2)" and "SSIM 0.912"; in brackets the difference to dense.
    In place of the CLIP score of a destroyed picture stands what has become of it."""
    words = [told_destroyed(drawn.destroyed)] if drawn.destroyed else []
    if drawn.clip is not None:
        alone = drawn.cell.is_dense or drawn.dense_clip is None
        words.append(f"CLIP {drawn.clip:.1f}{'' if alone else f' ({signed(drawn.clip - drawn.dense_clip, 1)})'}")
    if drawn.ssim is not None:
        words.append(f"SSIM {drawn.ssim:.3f}")
    return tuple(words)


def grid_values(grid: Grid, model: Model) -> dict[str, Any]:
    """All that is needed to draw a grid again, and its scores, in JSON's types; `read_grid` reads it."""
    plan, recipes = grid.plan, grid.plan.recipes
    scores = {(drawn.cell.row, drawn.cell.column): drawn for drawn in grid.drawn}
    cells = []
    for cell in plan.cells:
        drawn = scores.get((cell.row, cell.column))
        number = None if cell.recipe is None else [one for one in recipes if one is not None].index(cell.recipe)
        found = {name: getattr(drawn, name) for name in ("clip", "dense_clip", "ssim")} if drawn else {}
        found |= {"destroyed": drawn.destroyed} if drawn and drawn.destroyed else {}
        place = {"row": cell.row, "column": cell.column, "recipe": number, "block": cell.block}
        cells.append({**place, "request": cell.request.settings, **found})
    return {
        "schema": SCHEMA,
        "app": dit_prune_viz.__version__,
        "model": _about(model),
        "clip": grid.clip_name,
        "columns": {"kind": plan.columns.kind, "labels": list(plan.columns.labels)},
        "rows": {"kind": plan.rows.kind, "labels": list(plan.rows.labels)},
        "recipes": [_recipe_values(recipe, model) for recipe in recipes if recipe is not None],
        "cells": cells,
    }


def read_grid(path: str | Path, model: Model, picture: bytes | None = None) -> GridPlan:
    """The plan of a grid that was written as a PNG; drawn with the same model, it gives the same pictures.

    Args:
        path: of the PNG.
        model: the one that drew it.
        picture: the file that the grid's pictures start from, where that was one of a person's own.

    Raises:
        UserError: no such PNG, one for another model, or another picture.
    """
    return plan_of_values(_values(path), model, picture)


def plan_of_values(values: object, model: Model, picture: bytes | None = None) -> GridPlan:
    """What `grid_values` gave as a plan. UserError as in `read_grid`."""
    values = _object(values, "grid")
    if values.get("schema") != SCHEMA:
        raise UserError(f"This grid has schema {brief(values.get('schema'))}, but {SCHEMA} is read; update the app.")
    names = ("schema", "app", "model", "clip", "columns", "rows", "recipes", "cells")
    check_keys(values, names, "grid", needed=True)
    _check_model(_object(values["model"], "grid's model"), model)
    recipes = [_recipe(one, model) for one in _list(values["recipes"], "recipes")]
    rows, columns = _heads(values["rows"]), _heads(values["columns"])
    cells = tuple(_cell(one, recipes, model, picture) for one in _list(values["cells"], "cells"))
    places = [(cell.row, cell.column) for cell in cells]
    expected = [(row, column) for row in range(len(rows.labels)) for column in range(len(columns.labels))]
    if places != expected:
        raise UserError("The cells of this grid do not fit its rows and columns; draw it anew from its axes.")
    return GridPlan(columns, rows, cells)


def _about(model: Model) -> dict[str, str]:
    precision = str(model.dtype).removeprefix("torch.")
    return dict(zip(_MODEL, (model.name, model.fingerprint, model.identity, precision, model.device.type), strict=True))


def _recipe_values(recipe: Recipe, model: Model) -> dict[str, Any] | None:
    """As a recipe's file has it, with the model that it is for; None where it is too large."""
    return None if _is_large(recipe) else {"model": MadeFor.of(model, recipe).to_dict(), **recipe.to_dict()}


def _is_large(recipe: Recipe) -> bool:
    return bool(recipe.tuned) and len(recipe.to_json(indent=None)) > _MOST_TEXT


def _footer(grid: Grid, model: Model) -> list[str]:
    about, plan = _about(model), grid.plan
    source = MadeFor.of(model, Recipe()).source
    named = about["name"] if source in ("", about["name"]) else f"{about['name']} ({source})"
    where = f"{about['precision']} on {about['device']}"
    facts = [f"Model: {named}, fingerprint {about['fingerprint'][:_DIGITS]}, {where}."]
    recipes = [recipe for recipe in plan.recipes if recipe is not None]
    words = ["dense model"] if len(recipes) < len(plan.recipes) else []
    words += [in_words(recipe, model) for recipe in recipes[:_MOST_TOLD]]
    if len(recipes) > _MOST_TOLD:
        words.append(f"{len(recipes) - _MOST_TOLD} more in the file's own text")
    facts.append(f"Drawn with: {'; '.join(words)}.")
    settings = {recipe.calibration for recipe in recipes}
    if len(settings) == 1:
        one = next(iter(settings))
        facts[-1] += f" Calibration: {one.samples} inputs, seed {one.seed}."
    if any(map(_is_large, recipes)):
        facts.append(_TOO_LARGE)
    if any(cell.block is not None for cell in plan.cells):
        facts.append("Without a block: all its prunable weights are pruned, its biases stay.")
    facts.append(f"{_fixed(plan)}.")
    clip = f"CLIP: {grid.clip_name}, {CLIP_UNIT} (difference to dense). " if grid.clip_name else ""
    facts.append(f"{clip}SSIM: to the dense picture of the same request. dit_prune_viz {dit_prune_viz.__version__}.")
    return facts


def _fixed(plan: GridPlan) -> str:
    """All that is the same in every cell of what was asked for."""
    request, kinds = plan.cells[0].request, {plan.rows.kind, plan.columns.kind}
    facts = {
        PROMPT: f"Prompt: {request.prompt}",
        SEED: f"seed {request.seed}",
        STEPS: f"{request.steps} steps",
        GUIDANCE: f"guidance {request.guidance_scale:g}",
    }
    words = [words for kind, words in facts.items() if kind not in kinds]
    words.append(f"{request.width} × {request.height} pixels")
    if request.frames > 1:
        words.append(f"{request.frames} frames")
    if request.picture is not None:
        words.append(f"from a picture with SHA-256 {hashlib.sha256(request.picture).hexdigest()[:_DIGITS]}")
    text = ", ".join(words)
    return f"{text[:1].upper()}{text[1:]}"


def _values(path: str | Path) -> object:
    try:
        with Image.open(Path(path).expanduser()) as image:
            image.load()  # text may come after the pixels
            text = getattr(image, "text", {}).get(KEY)
    except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is no picture"
        raise UserError(f"{path} cannot be read ({reason}); give a grid's PNG.") from error
    if text is None:
        raise UserError(f"{path} does not say how it was drawn; give a grid's PNG as it was written.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"What {path} says of how it was drawn cannot be read; give it as it was written.") from None


def _check_model(told: Mapping[str, object], model: Model) -> None:
    check_keys(told, _MODEL, "grid's model", needed=True)
    here = _about(model)
    for name in ("fingerprint", "precision", "identity"):
        if told[name] != here[name]:
            before, now = (
                f"{unmarked(str(one['name']))} in {unmarked(str(one['precision']))} "
                f"(fingerprint {unmarked(str(one['fingerprint']))[:_DIGITS]})"
                for one in (told, here)
            )
            more = ", with another text encoder, scheduler or autoencoder" if name == "identity" else ""
            raise UserError(f"This grid was drawn with {before}, this is {now}{more}; open the model that drew it.")


def _recipe(values: object, model: Model) -> Recipe:
    if values is None:
        raise UserError(
            "A recipe of this grid was too large to go along with it; draw it anew with that recipe's file."
        )
    return parse_recipe(json.dumps(_object(values, "recipe"))).fit(model).recipe


def _heads(values: object) -> Heads:
    values = _object(values, "grid's axis")
    check_keys(values, ("kind", "labels"), "grid's axis", needed=True)
    kind, labels = values["kind"], _list(values["labels"], "labels")
    good = all(isinstance(label, str) and len(label) <= MAX_PROMPT for label in labels)
    if kind not in KINDS or not labels or not good:
        raise UserError(f"An axis of a grid is one of {', '.join(KINDS)} with a label for each value; draw it anew.")
    return Heads(kind, tuple(labels))


def _cell(values: object, recipes: Sequence[Recipe], model: Model, picture: bytes | None) -> Cell:
    values = {**dict.fromkeys(("clip", "dense_clip", "ssim", "destroyed")), **_object(values, "cell")}
    check_keys(values, _CELL, "cell", needed=True)
    row, column = (whole(values[name], f"The {name} of a cell", 0, MOST_CELLS) for name in ("row", "column"))
    number, block = values["recipe"], values["block"]
    recipe = None if number is None else recipes[whole(number, "A cell's recipe", 0, len(recipes) - 1)]
    if block is not None and block not in {layer.block for layer in model.layers}:
        raise UserError(f"This model has no block {brief(block)}, which the grid drops; open the model that drew it.")
    return Cell(row, column, recipe, block, _request(values["request"], model, picture))


def _request(values: object, model: Model, picture: bytes | None) -> Request:
    values = {**_object(values, "request")}
    check_keys(values, _REQUEST, "request")
    digest = values.pop("picture", None)
    if digest is not None and (picture is None or hashlib.sha256(picture).hexdigest() != digest):
        raise UserError(
            f"This grid starts from a picture whose SHA-256 is {unmarked(str(digest))[:_DIGITS]}…; give that picture."
        )
    try:
        request = Request(**values, picture=None if digest is None else picture)
    except TypeError:
        raise UserError("A request of this grid lacks its prompt, seed or steps; draw it anew.") from None
    return check_request(model, request)


def _object(values: object, what: str) -> Mapping[str, object]:
    if not isinstance(values, Mapping):
        raise UserError(f"A {what} is a JSON object, not {brief(values)}.")
    return values


def _list(values: object, what: str) -> list:
    if not isinstance(values, list) or len(values) > MOST_CELLS:
        raise UserError(f"The {what} of a grid are a list of at most {MOST_CELLS}, not {brief(values)}.")
    return values
