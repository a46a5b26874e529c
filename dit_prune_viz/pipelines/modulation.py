"""What the rows of an adaLN layer modulate: its output is cut into shifts, scales and gates of attention and MLP.

diffusers cuts it in another order in every class, so that the class of the module, or of the block, that owns the layer
decides. Layers of classes that are not listed have no parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from dit_prune_viz.pipelines.layers import Layer


@dataclass(frozen=True)
class RowPart:
    """Rows from `first` on, up to `end`, that modulate one thing, such as "MLP gate"."""

    first: int
    end: int
    label: str


def _three(*subjects: str) -> tuple[str, ...]:
    return tuple(f"{subject} {what}" for subject in subjects for what in ("shift", "scale", "gate"))


def _two(*subjects: str) -> tuple[str, ...]:
    return tuple(f"{subject} {what}" for subject in subjects for what in ("scale", "gate"))


_BOTH = ("attention", "MLP")
_CONTEXT = tuple(f"context {subject}" for subject in _BOTH)
_PAIRED = tuple(f"{stream}{label}" for label in _three(*_BOTH) for stream in ("", "context "))

_NORMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "AdaLayerNormZero": _three(*_BOTH),
        "AdaLayerNormZeroSingle": _three("attention and MLP"),  # both see the same input, and leave by the same gate
        "SD35AdaLayerNormZeroX": _three(*_BOTH, "second attention"),
        "CogView3PlusAdaLayerNormZeroTextImage": _three(*_BOTH, *_CONTEXT),
        "CogView4AdaLayerNormZero": _PAIRED,
        "LuminaRMSNormZero": _two(*_BOTH),
        "MochiRMSNormZero": _two(*_BOTH),
    }
)
"""Class of a norm whose child `linear` is the layer → what its rows modulate, in equal parts."""

_PLACED: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        ("AdaLayerNormContinuous", "norm1_context"): ("attention scale", "attention shift"),
        ("CogVideoXLayerNormZero", "norm1"): _three("attention", "context attention"),
        ("CogVideoXLayerNormZero", "norm2"): _three("MLP", "context MLP"),
    }
)
"""The same for norms that stand before attention and MLP alike: (class, name in its block)."""

_BLOCKS: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        ("QwenImageTransformerBlock", "img_mod.1"): _three(*_BOTH),
        ("QwenImageTransformerBlock", "txt_mod.1"): _three(*_BOTH),
        ("ZImageTransformerBlock", "adaLN_modulation.0"): _two(*_BOTH),
        ("Ideogram4TransformerBlock", "adaln_modulation"): _two(*_BOTH),
        ("HiDreamImageTransformerBlock", "adaLN_modulation.1"): _three(*_BOTH, *_CONTEXT),
        ("HiDreamImageSingleTransformerBlock", "adaLN_modulation.1"): _three(*_BOTH),
        ("PRXBlock", "modulation.lin"): _three(*_BOTH),
        ("Kandinsky5TransformerEncoderBlock", "text_modulation.out_layer"): _three(*_BOTH),
        ("Kandinsky5TransformerDecoderBlock", "visual_modulation.out_layer"): _three(
            "attention", "cross-attention", "MLP"
        ),
    }
)
"""The same for layers that the block itself cuts: (class of the block, path of the layer inside it)."""


def row_parts(transformer: nn.Module, layer: Layer) -> tuple[RowPart, ...]:
    """What the rows of a layer modulate, part after part; none where it is no modulation, or of an unknown class.

    Args:
        transformer: the denoiser that the layer belongs to.
        layer: one of its layers.
    """
    labels = _labels(transformer, layer.name)
    rows = layer.shape[0]
    if not labels or rows % len(labels):
        return ()
    size = rows // len(labels)
    return tuple(RowPart(place * size, (place + 1) * size, label) for place, label in enumerate(labels))


def _labels(transformer: nn.Module, name: str) -> tuple[str, ...]:
    path = name.split(".")
    owner = _class_name(transformer, path[:-1])
    if path[-1] == "linear" and owner:
        labels = _NORMS.get(owner) or _PLACED.get((owner, path[-2] if len(path) > 1 else ""))
        if labels:
            return labels
    for depth in range(len(path) - 1, 0, -1):
        labels = _BLOCKS.get((_class_name(transformer, path[:depth]), ".".join(path[depth:])))
        if labels:
            return labels
    return ()


def _class_name(transformer: nn.Module, path: list[str]) -> str:
    """Of the module at a path; empty unless diffusers itself defines the class."""
    kind = type(transformer.get_submodule(".".join(path)))
    return kind.__name__ if kind.__module__.partition(".")[0] == "diffusers" else ""
