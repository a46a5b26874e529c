"""The one selection that every view of a layer shares: which of its units, whatever they were chosen in."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.layers import OUTSIDE, Layer

NONE = np.zeros(0, dtype=np.int32)
MAX_TEXT = 10_000
BLOCK = ("block", "blocks")


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
    """The layer that a person named: by its name or by what a page shows of it ("v · block 3"), else the one of this
    kind in this block, else the first that `says` all the words.

    UserError where there is no such layer.
    """
    asked = " ".join(str(text)[:MAX_TEXT].lower().split())
    words = asked.split()
    kind = " ".join(word for word in words if not word.isdigit() and word != "block")
    number = [word for word in words if word.isdigit()]
    matchers = (
        lambda layer: set(filter(None, (part.strip() for part in asked.split("·")))) <= _shown(layer),
        lambda layer: kind == layer.kind.lower() and number == [str(layer.block)],
        lambda layer: says(layer, words),
    )
    found = next((layer.name for match in matchers for layer in layers if words and match(layer)), None)
    if found is None:
        raise UserError(
            f"No layer matches {brief(text)}. Write part of its name, or its kind and block, such as adaLN 3."
        )
    return found


def says(layer: Layer, words: Sequence[str]) -> bool:
    """Whether a layer's name, kind and place hold all the words, in lower case.

    A number behind "block" is that of the block; any other one is the block's or a part of the name. A single letter
    is a whole part of the name or kind. The list of layers searches in the same way, see `layer_list.js`.
    """
    text = f"{layer.name} {layer.kind} {layer.place}".lower()
    parts = re.split(r"[^a-z0-9]+", text)
    block = str(layer.block) if layer.place != OUTSIDE else None
    for before, word in zip(["", *words], words, strict=False):
        if word.isdigit() and (word == block or (before not in BLOCK and word in layer.name.split("."))):
            continue
        if word.isdigit() or (len(word) == 1 and word not in parts) or (word not in text and word not in BLOCK):
            return False
    return True


def _shown(layer: Layer) -> set[str]:
    return {layer.name.lower(), layer.kind.lower(), layer.place.lower()}


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
