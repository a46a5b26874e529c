"""What a recipe's file says of the model that it was made for, and how that differs from the model there is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from dit_prune_viz.checks import brief, check_keys, unmarked, whole
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.counts import check_sparsity
from dit_prune_viz.pipelines.hub import is_hub_id
from dit_prune_viz.pipelines.load_settings import split_hub_path
from dit_prune_viz.pipelines.source import local_path
from dit_prune_viz.pruning.carry_over import Origin
from dit_prune_viz.pruning.recipe import Recipe

if TYPE_CHECKING:
    from dit_prune_viz.pipelines.model import Model

_MOST_SIDE = 1 << 31
_SHOWN = 12
"""Digits of a fingerprint in a sentence."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class MadeFor:
    """The model that a recipe was made for, and all else that its masks depend on.

    Attributes:
        name: of the model, for people.
        fingerprint: of its transformer.
        identity: the same with text encoders, scheduler and autoencoder.
        family: of the pipeline.
        precision: of the weights, such as "float32".
        also_prune: patterns of the layers that were prunable by request.
        prompts: digest of the prompts for calibration.
        drawing: settings with which the calibration's pictures are drawn.
        methods: method → version.
        source, revision: hub id and revision; "" for a model that came from a folder.
        layers: layer set by hand → what it was.
    """

    name: str
    fingerprint: str
    identity: str
    family: str
    precision: str
    also_prune: tuple[str, ...]
    prompts: str
    drawing: Mapping[str, float | None]
    methods: Mapping[str, int]
    source: str = ""
    revision: str = ""
    layers: Mapping[str, Origin] = field(default_factory=dict)

    @staticmethod
    def of(model: Model, recipe: Recipe, layers: Mapping[str, Origin] | None = None) -> MadeFor:
        """What a recipe of a model depends on."""
        source, revision = _hub_source(model)
        given = asdict(model.defaults)
        texts = recipe.calibration.prompts or given["prompts"]
        left_out = ("prompts",) if recipe.calibration.steps is None else ("prompts", "steps")
        return MadeFor(
            name=model.name,
            fingerprint=model.fingerprint,
            identity=model.identity,
            family=model.family,
            precision=str(model.dtype).removeprefix("torch."),
            also_prune=model.also_prune,
            prompts=hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest(),
            drawing={name: value for name, value in given.items() if name not in left_out},
            methods=recipe.versions,
            source=source,
            revision=revision,
            layers=layers or {},
        )

    def to_dict(self) -> dict[str, object]:
        """In JSON's types."""
        values = {**vars(self), "also_prune": list(self.also_prune)}
        values["layers"] = {name: {**asdict(one), "shape": list(one.shape)} for name, one in self.layers.items()}
        return values

    @staticmethod
    def from_dict(values: object) -> MadeFor:
        """What `to_dict` gave. UserError for anything else."""
        if not isinstance(values, Mapping):
            raise UserError(f"What a recipe says of its model is a JSON object, not {brief(values)}.")
        values = {"source": "", "revision": "", "layers": {}, **values}
        check_keys(values, MadeFor.__dataclass_fields__, "recipe's model", needed=True)
        for name in ("name", "family", "precision", "source", "revision"):
            if not isinstance(values[name], str):
                raise UserError(f"The {name} of a recipe's model is a text, not {brief(values[name])}.")
        for name in ("fingerprint", "identity", "prompts"):
            if not isinstance(values[name], str) or not _DIGEST.fullmatch(values[name]):
                raise UserError(f"The {name} of a recipe's model is 64 hex digits, not {brief(values[name])}.")
        also = values["also_prune"]
        if not isinstance(also, list) or not all(isinstance(one, str) for one in also):
            raise UserError(f"The layers prunable by request are a list of patterns, not {brief(also)}.")
        for name in ("drawing", "methods", "layers"):
            if not isinstance(values[name], Mapping):
                raise UserError(f"The {name} of a recipe's model are a JSON object, not {brief(values[name])}.")
        layers = {name: _origin(name, one) for name, one in values["layers"].items()}
        return MadeFor(**{**values, "also_prune": tuple(also), "layers": layers})

    def differences(self, now: MadeFor) -> list[str]:
        """Why the recipe would not give the same masks with a model as it is `now`, as sentences without their ends."""
        if self.fingerprint != now.fingerprint:
            precise = self.precision != now.precision
            before, here = (
                f"{unmarked(one.name)}{f' in {unmarked(one.precision)}' if precise else ''} "
                f"(fingerprint {one.fingerprint[:_SHOWN]})"
                for one in (self, now)
            )
            return [f"This recipe was made for {before}, this is {here}"]
        found = []
        if sorted(self.also_prune) != sorted(now.also_prune):
            before, here = (", ".join(map(unmarked, one.also_prune)) or "none" for one in (self, now))
            found.append(f"This recipe was made with other layers prunable by request ({before}; here {here})")
        if self.identity != now.identity:
            found.append("This recipe was made with another text encoder, scheduler or autoencoder")
        if self.prompts != now.prompts:
            found.append("This recipe was calibrated on other prompts than this model has")
        other = [name for name, value in now.drawing.items() if self.drawing.get(name) != value]
        if other:
            before, here = (unmarked(str(one.drawing.get(other[0]))) for one in (self, now))
            setting = other[0].replace("_", " ")
            found.append(f"This recipe was calibrated with another {setting} ({before}; here {here})")
        for name, version in now.methods.items():
            if self.methods.get(name) != version:
                found.append(f"This recipe was made with another version of {name} than this app has")
        return found


def _origin(name: str, values: object) -> Origin:
    if not isinstance(values, Mapping):
        raise UserError(f"What a recipe says of layer {brief(name)} is a JSON object, not {brief(values)}.")
    check_keys(values, ("kind", "shape", "achieved"), "layer's origin", needed=True)
    shape = values["shape"]
    if not isinstance(values["kind"], str) or not isinstance(shape, list) or len(shape) != 2:
        raise UserError(f"Layer {brief(name)} of a recipe has a kind and two sides, not {brief(values)}.")
    sides = tuple(whole(side, f"The side of layer {brief(name)}", 1, _MOST_SIDE) for side in shape)
    return Origin(values["kind"], sides, check_sparsity(values["achieved"]))


def _hub_source(model: Model) -> tuple[str, str]:
    """Hub id and revision; empty for a folder, whose path is nobody else's business."""
    source = model.source if model.settings is None else model.settings.model
    if local_path(source) is not None:
        return "", ""
    name, revision, _ = split_hub_path(source)
    if not is_hub_id(name):
        return "", ""
    return name, (model.settings and model.settings.revision) or revision or ""
