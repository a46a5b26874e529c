"""One granularity for all layers: the whole layer, each output row, or each input column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dit_prune_viz.methods.granularity.base import Granularity
from dit_prune_viz.methods.registry import register


class _SameForAll(Granularity):
    def choose(self, g_out: Mapping[str, float]) -> dict[str, str]:
        return dict.fromkeys(g_out, self.name)


@register
@dataclass(frozen=True)
class WholeLayer(_SameForAll):
    """All weights of a layer are ranked together."""

    name: ClassVar[str] = "layer"
    label: ClassVar[str] = "Whole layer"
    formula: ClassVar[str] = "one ranking per layer"


@register
@dataclass(frozen=True)
class OutputRows(_SameForAll):
    """The weights of each output row are ranked among themselves, as in Wanda (arXiv 2306.11695)."""

    name: ClassVar[str] = "row"
    label: ClassVar[str] = "Each output row"
    formula: ClassVar[str] = "one ranking per output row"
    paper: ClassVar[str] = "arXiv 2306.11695"


@register
@dataclass(frozen=True)
class InputColumns(_SameForAll):
    """The weights of each input column are ranked among themselves."""

    name: ClassVar[str] = "column"
    label: ClassVar[str] = "Each input column"
    formula: ClassVar[str] = "one ranking per input column"
