"""What each tool takes, as agents read it: the class's sentence is the tool's, the fields' are those of arguments."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Described(BaseModel):
    """The arguments of one tool."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _OfSession(Described):
    session: str | None = Field(None, max_length=200, description="id of an open session; the app's own unless given")


class _OfRecipe(_OfSession):
    recipe: dict[str, Any] | str | None = Field(
        None,
        description='a recipe: a name of list_recipes, or an object such as {"method": "swap", "sparsity": 0.6} or '
        '{"saliency": "ria", "granularity": "row"}; the session\'s plan unless given',
    )
    sparsity: float | None = Field(None, description="share of weights to prune, 0 to 1, in place of the recipe's")


class _Drawing(Described):
    prompts: list[str] | None = Field(None, max_length=64, description="up to 4; the model's first one unless given")
    seed: int = Field(0, description="of the starting noise, the same for every picture")
    steps: int | None = Field(None, description="denoising steps; the model's default unless given")


class DescribeModel(_OfSession):
    """Describe the loaded model: parameters, blocks, kinds of layers, what stays dense, settings to draw with."""

    layers: bool = Field(False, description="also list every prunable layer with its shape")


class ListRecipes(Described):
    """List the named recipes, the methods recipes are made of (saliency, granularity, allocation, search, update),
    and the ways to export."""


class Prune(_OfRecipe):
    """Plan a pruning and tell what it costs: sparsity, predicted damage and packed bytes, in all and by kind of layer,
    with the recipe in full and in words. Takes a second for a small model; draws nothing."""

    layers: bool = Field(False, description="also list every layer")


class Compare(_OfRecipe, _Drawing):
    """Draw prompts with the dense and with the pruned model from the same noise: pictures, CLIP scores of both, SSIM
    and PSNR to the dense pictures. Recipes with a search or an update do it now, which may take minutes."""

    pictures: bool = Field(True, description="false for the scores alone")
    largest: int = Field(512, description="longer side in pixels of the pictures that are sent")


class Paint(_OfSession, _Drawing):
    """Find out what parts of the model paint: take each block or kind of layer away alone, or keep it alone, and draw.
    One sheet of pictures; CLIP, SSIM, measured error and predicted damage of every part. Draws once per part."""

    by: str = Field("block", description='"block" or "kind"')
    chosen: list[str] | None = Field(
        None, max_length=200, description='names of describe_model, such as ["block 3"]; all unless given'
    )
    keep: bool = Field(False, description="keep each part alone of all layers, instead of removing it")
    measured: bool = Field(True, description="false leaves out the measured error, which takes a while the first time")
    largest: int = Field(2048, description="longer side in pixels of the sheet that is sent")


class Export(_OfRecipe):
    """Write the pruned model on the app's machine, below its output folder: as a packed folder, a diffusers folder, a
    single file, a recipe, a report or numbers. Answers with path and bytes."""

    way: str = Field("packed", description="a way of list_recipes")
    name: str | None = Field(None, description="of the file or folder, without ending; suggested unless given")
    overwrite: bool = Field(False, description="replace what has that name")


TOOLS = MappingProxyType(
    {
        "describe_model": DescribeModel,
        "list_recipes": ListRecipes,
        "prune": Prune,
        "compare": Compare,
        "paint": Paint,
        "export": Export,
    }
)
"""Name → arguments; the work is the method of `AgentTools` that is called so."""
