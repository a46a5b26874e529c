"""The one selection that every view of a layer shares: which of its units, whatever they were chosen in."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.layers import Layer

NONE = np.zeros(0, dtype=np.int32)
MAX_TEXT = 10_000


@dataclass(frozen=True, eq=False)
class Selection:
    """Units of one layer, by index.

    subject: names model, layer and kind of unit (see `layer_subject.subject`); a selection lasts while that stays the
    same, whatever happens to clusters and masks. ids: int32, ascending, none twice. origin: the view it was made in.
    """

    subject: str = ""
    ids: np.ndarray = field(default_factory=lambda: NONE)
    origin: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, subject: str) -> Selection:
        """The selection itself where it is about `subject`, else an empty one that is."""
        return self if self.subject == subject else Selection(subject)

    def changed(self, ids: np.ndarray, mode: str, origin: str) -> Selection:
        """With `ids` in its place ("set"), added to it ("add") or taken away from it ("subtract")."""
        ids = np.asarray(ids, dtype=np.int32)
        combine = {"set": lambda old, new: np.unique(new), "add": np.union1d, "subtract": np.setdiff1d}
        return Selection(self.subject, combine.get(mode, combine["set"])(self.ids, ids).astype(np.int32), origin)


def unpack(packed: str) -> np.ndarray:
    """Ids as the browser sends them: little-endian int32 in base64. UserError for anything else."""
    try:
        raw = base64.b64decode(packed, validate=True)
        return np.frombuffer(raw, dtype="<i4").astype(np.int32)
    except (ValueError, TypeError):
        raise UserError("The selection could not be read; select again.") from None


def packed(ids: np.ndarray) -> str:
    return base64.b64encode(np.asarray(ids, dtype="<i4").tobytes()).decode()


def is_name(text: str) -> bool:
    """Whether a person wrote a name, not numbers."""
    return re.search(r"[^\W\d_]", str(text)) is not None


def find_layer(text: str, layers: Sequence[Layer]) -> str:
    """The layer that a person named: the one called so, or of this kind in this block, else the first with all the
    words in its name or kind.

    A number is that of the block, or one in the name. UserError where there is no such layer.
    """
    words = str(text)[:MAX_TEXT].lower().split()
    for layer in layers:
        if words == [layer.name.lower()]:
            return layer.name
    kind = " ".join(word for word in words if not word.isdigit())
    for layer in layers:
        if kind == layer.kind.lower() and [word for word in words if word.isdigit()] == [str(layer.block)]:
            return layer.name
    for layer in layers:
        said = f"{layer.name} {layer.kind} block".lower()
        numbers = {str(layer.block), *layer.name.split(".")}
        if all(word in numbers if word.isdigit() else word in said for word in words):
            return layer.name
    raise UserError(f"No layer matches {brief(text)}. Write part of its name, or its kind and block, such as adaLN 3.")


def search(text: str, units: int) -> np.ndarray:
    """The units that a person wrote down: "12", "10-20", "3, 5, 40-44". UserError for what a layer does not have."""
    found: list[np.ndarray] = []
    for part in re.split(r"[,;\s]+", str(text)[:MAX_TEXT].strip()):
        match = re.fullmatch(r"(\d{1,12})(?:[-–](\d{1,12}))?", part)
        if match is None:
            raise UserError(f"Write numbers such as 12 or 10-20, not {brief(part)}.")
        low, high = int(match[1]), int(match[2] or match[1])
        if low > high or high >= units:
            raise UserError(f"Units run from 0 to {units - 1:,}; there is no {brief(part)}.")
        found.append(np.arange(low, high + 1, dtype=np.int32))
    return np.unique(np.concatenate(found))
