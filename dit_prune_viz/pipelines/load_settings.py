"""What is to be loaded and how: one value that the app, every command and the library share, and its options."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.also_prune import add_also_prune_option, read_patterns
from dit_prune_viz.pipelines.placement import add_placement_option, check_placement
from dit_prune_viz.resources import BUNDLED_MODEL

if TYPE_CHECKING:
    import torch

_MOST_LORAS = 32
_MOST_CHARACTERS = 4096
_SCALED = re.compile(r"(.*):([^:/\\]*)")
_HUB_PATH = re.compile(r"([\w.-]+/[\w.-]+)(?:@([^/\s]+))?(?:/([^/].*?))?/?")


@dataclass(frozen=True)
class Lora:
    """A LoRA to be fused: a file, folder or hub id, and the factor of what it adds."""

    source: str
    scale: float = 1.0

    @staticmethod
    def parse(text: str) -> Lora:
        """Read "FILE" or "FILE:SCALE"; a path may have colons in it.

        Raises:
            UserError: no file, or a scale that is no finite number.
        """
        text = text.strip()
        match = _SCALED.fullmatch(text)
        if match is None or _exists(text):
            scale, source = 1.0, text
        else:
            source = match[1].strip()
            try:
                scale = float(match[2])
            except ValueError:
                scale = math.nan
            if not math.isfinite(scale):
                raise UserError(f"The scale {match[2]!r} of the LoRA {source} is no number; write FILE:0.8.")
        if not source:
            raise UserError("A LoRA needs a file, a folder or a hub id; write FILE or FILE:SCALE.")
        return Lora(source, scale)


@dataclass(frozen=True)
class LoadSettings:
    """What `load_model` is asked for.

    Attributes:
        model: folder, file, or hub id; "org/name@revision/subfolder" names all three at once.
        device: as in `pipelines.device.choose_device`.
        dtype: as in `pipelines.device.choose_dtype`.
        placement: where parts lie while they do not run, one of `placement.CHOICES`.
        revision: branch, tag or commit of a hub model; None is the newest.
        subfolder: of the folder or hub model, where the pipeline lies.
        token: of the hub; None takes HF_TOKEN or the one that was logged in with.
        base: folder or hub id of the pipeline that lends every part that the model does not have.
        loras: fused one after another.
        dequantize: turn quantised weights into plain ones where that is possible, instead of refusing them.
        also_prune: patterns of layers outside the blocks that shall be prunable, as `read_patterns` returns them.
        allowed: gives the folder or hub id of a part that the model's own files name, or raises UserError for one that
            may not be opened; None is for all.
    """

    model: str
    device: str | torch.device = "auto"
    dtype: str | torch.dtype = "auto"
    placement: str = "auto"
    revision: str | None = None
    subfolder: str | None = None
    token: str | None = field(default=None, repr=False)
    base: str | None = None
    loras: tuple[Lora, ...] = ()
    dequantize: bool = False
    also_prune: tuple[str, ...] = ()
    allowed: Callable[[str], str] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_placement(self.placement)
        texts = (self.model, self.revision, self.subfolder, self.base, *(one.source for one in self.loras))
        if any(len(text) > _MOST_CHARACTERS for text in texts if isinstance(text, str)):
            raise UserError(f"A model is named by at most {_MOST_CHARACTERS:,} characters; give a folder or a hub id.")

    @property
    def computes(self) -> str | torch.device:
        """The device to ask for: a pipeline that is placed on the CPU also runs there."""
        return "cpu" if self.placement == "cpu" else self.device

    @property
    def plain(self) -> bool:
        """Whether the model is loaded as it is: nothing is added to it or taken from elsewhere."""
        return not (self.revision or self.subfolder or self.base or self.loras or self.dequantize or self.also_prune)

    def for_model(self, model: str) -> LoadSettings:
        """The settings for another model: what names a place in this one, or changes it, does not go along."""
        model = model.strip()
        if model == self.model:
            return self
        return replace(self, model=model, revision=None, subfolder=None, loras=(), also_prune=())


def _exists(path: str) -> bool:
    try:
        return os.path.exists(os.path.expanduser(path))
    except ValueError:  # a zero byte
        return False


def split_hub_path(text: str) -> tuple[str, str | None, str | None]:
    """A hub model's id, revision and path in it, from "org/name@revision/path"; None for what is not there."""
    match = _HUB_PATH.fullmatch(text.strip().removeprefix("hf://"))
    if match is None:
        return text, None, None
    revision, path = match[2], match[3]
    return match[1], revision, path


def add_load_options(parser: argparse.ArgumentParser, *, model: str | None = None, device: str | None = "auto") -> None:
    """Add the options of loading to a parser, with the defaults of --model and --device.

    There is no option for the token itself: other users of the machine can read command lines.
    """
    add = parser.add_argument
    add("--model", default=model, help="hub id, diffusers folder or .safetensors file (bundled model)")
    add("--revision", help="branch, tag or commit of a hub model")
    add("--subfolder", help="of the folder or hub model, where the pipeline lies")
    add("--base", metavar="MODEL", help="pipeline that lends the parts that the model does not have")
    add_also_prune_option(parser)
    add("--lora", action="append", default=[], metavar="FILE[:SCALE]", help="LoRA to fuse; may be given several times")
    add("--dequantize", action="store_true", help="turn quantised weights into plain ones")
    add("--token-file", type=Path, metavar="FILE", help="holds a token of the hub (or set HF_TOKEN)")
    add("--device", default=device, help="auto, cpu, cuda, cuda:1, mps")
    add("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    add_placement_option(parser)


def read_load_settings(options: argparse.Namespace) -> LoadSettings:
    """The settings from parsed options; the bundled model where none is named.

    Raises:
        UserError: the token's file cannot be read, or a LoRA's scale is no number.
    """
    return LoadSettings(
        model=options.model or str(BUNDLED_MODEL),
        device=options.device or "auto",
        dtype=options.dtype,
        placement=options.placement,
        revision=options.revision,
        subfolder=options.subfolder,
        token=read_token(options.token_file) if options.token_file else None,
        base=options.base,
        loras=tuple(Lora.parse(text) for text in options.lora),
        dequantize=options.dequantize,
        also_prune=read_patterns(options.also_prune),
    )


def changed(settings: LoadSettings, options: Mapping[str, object]) -> LoadSettings:
    """The settings with some options as JSON has them: revision, subfolder, base, lora (a list), dequantize, placement.

    Raises:
        UserError: an unknown option, or a value of the wrong kind.
    """
    texts = ("revision", "subfolder", "base")
    kinds = {**dict.fromkeys(texts, str | None), "lora": list, "dequantize": bool, "placement": str}
    if not isinstance(options, Mapping):
        raise UserError(f"The options of loading are a JSON object with any of {', '.join(kinds)}.")
    for name, value in options.items():
        if name not in kinds:
            raise UserError(f"There is no option {name!r} of loading; use any of {', '.join(kinds)}.")
        if not isinstance(value, kinds[name]) or (name == "lora" and not all(isinstance(one, str) for one in value)):
            raise UserError(f"The option {name} of loading cannot be {brief(value)}; correct it.")
        if len(value if isinstance(value, list) else ()) > _MOST_LORAS:
            raise UserError(f"There are {len(value):,} LoRAs; fuse at most {_MOST_LORAS}.")
    values = {name: value for name, value in options.items() if name != "lora"}
    if "lora" in options:
        values["loras"] = tuple(Lora.parse(text) for text in options["lora"])
    return replace(settings, **values)


def read_token(path: Path) -> str:
    """The token in a file. UserError if there is none."""
    try:
        token = path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise UserError(
            "--token-file cannot be read; give a text file that holds the token and nothing else."
        ) from None
    if not token or any(letter.isspace() for letter in token):
        raise UserError("--token-file must name a file that holds one token and nothing else; correct it.")
    return token
