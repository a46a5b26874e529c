"""What stays dense in a transformer, by reason, so that nothing is left out in silence."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dit_prune_viz.formatting import percent
from dit_prune_viz.pipelines.denoisers import path_inside

_EXAMPLES = 2
_PLAIN = ("embedders", "final layers", "norms", "biases")
"""Reasons that need no example to be understood."""

_NORM = re.compile(r"norm|(^|_)ln(_|\d|$)")
_MODULATION = re.compile(
    r"(^|[._])(scale_shift\w*|modulations?(_\w+)?)(\.\w+)*$|(adaln\w*|mod)\.(linear|\d+)$|time_embed\w*\.linear$"
    r"|(^|[._])(time_(proj|projection|mod_proj)|t_block)(\.\d+)?$|guidance_layer"
)
_FINAL = re.compile(r"norm_out|proj_out|final|last|^head|(^|_)out(put)?(_|$)")
_EMBEDDER = re.compile(
    r"emb|patch|caption|token|timestep|(^|[._])(pos|proj_in|x_in|img_in|txt_in|time_in|vector_in)(\.|_|$)"
)


@dataclass(frozen=True)
class DensePart:
    """Parameters that stay dense for one reason.

    Attributes:
        reason: "embedders", "final layers", "modulation" (shared projections outside the blocks, and tables),
            "convolutions", "norms", "biases", "stacked experts" (several matrices in one tensor), or "other".
        parameters: how many they are.
        examples: modules that hold the most of them, largest first, "*" for the number of a block.
    """

    reason: str
    parameters: int
    examples: tuple[str, ...]


def dense_parts(
    shapes: Mapping[str, tuple[int, ...]], prunable: Collection[str], stacks: Collection[str]
) -> tuple[DensePart, ...]:
    """Every parameter that is not the weight of a prunable layer, by reason.

    Args:
        shapes: name of each parameter of the transformer → its shape.
        prunable: names of the prunable layers.
        stacks: paths of the lists of blocks.

    Returns:
        The parts, the largest first; their parameters and the prunable weights are all parameters together.
    """
    weights, own_biases = ({f"{name}.{parameter}" for name in prunable} for parameter in ("weight", "bias"))
    prefixes = tuple(f"{stack}." for stack in stacks)
    held: dict[str, Counter[str]] = {}
    for name, shape in shapes.items():
        if name not in weights:
            inside = name.startswith(prefixes)
            reason = "biases" if name in own_biases else reason_of(name, len(shape), inside)
            held.setdefault(reason, Counter())[_example(name)] += math.prod(shape)
    parts = [
        DensePart(reason, sum(counts.values()), tuple(name for name, _ in counts.most_common(_EXAMPLES)))
        for reason, counts in held.items()
    ]
    return tuple(sorted(parts, key=lambda part: -part.parameters))


def dense_sentence(parts: Collection[DensePart], parameters: int) -> str:
    """How much is prunable, and what is not, for people: "97.1 % of the parameters are prunable. Dense: …"."""
    share = 1 - sum(part.parameters for part in parts) / parameters if parameters else 0.0
    told = [
        f"{part.reason} {percent(part.parameters / parameters)}"
        + ("" if part.reason in _PLAIN else f" ({', '.join(part.examples)})")
        for part in parts
        if part.parameters
    ]
    dense = f" Dense: {'; '.join(told)}." if told else ""
    return f"{percent(share)} of the transformer's parameters are prunable.{dense}"


def reason_of(name: str, dimensions: int, inside: bool) -> str:
    """Why a parameter is dense, see `DensePart`; `inside` is whether it stands in a block."""
    name = path_inside(name).lower()
    module, _, parameter = name.rpartition(".")
    whole = module if parameter in ("weight", "bias") else name
    if dimensions <= 1 and _NORM.search(module.rpartition(".")[2]):
        return "norms"
    if not inside and _FINAL.search(whole.partition(".")[0]):
        return "final layers"
    if _MODULATION.search(whole) and not (inside and parameter == "bias"):
        return "modulation"
    if "emb" in whole if inside else _EMBEDDER.search(whole):
        return "embedders"
    if parameter.endswith("bias"):
        return "biases"
    if dimensions > 2:
        return "stacked experts" if "expert" in whole else "convolutions" if parameter == "weight" else "other"
    return "other"


def _example(name: str) -> str:
    """The module that holds a parameter, the same for all blocks of a stack; the parameter where no module does."""
    module, _, parameter = name.rpartition(".")
    return re.sub(r"\.\d+(?=\.)", ".*", module if parameter in ("weight", "bias") and module else name)
