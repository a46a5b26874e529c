"""What a comparison is: the finished pictures of each side, and how far they are from the dense ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL.Image import Image

from dit_prune_viz.formatting import signed
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.unread import Unread
from dit_prune_viz.metrics.clip_mean import mean_clip
from dit_prune_viz.metrics.destroyed import destroyed, told
from dit_prune_viz.metrics.pictures import amplified_differences, psnr, ssim

LEFT, MIDDLE, RIGHT = "left", "middle", "right"
"""The sides as frames name them: dense, A, B."""
GAIN = 4
"""Times which differences are shown unless another gain is chosen; the same in every run, so that they compare."""
GAINS = (1, 2, 4, 8, 16)

Curve = tuple[tuple[int, float], ...]
"""(step, CLIP score over the prompts) pairs."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A look at one side on its way, with its curve up to now; images: one per prompt, empty where none are decoded."""

    side: str
    step: int
    steps: int
    images: tuple[Image, ...]
    curve: Curve


@dataclass(frozen=True, eq=False)
class Draft:
    """B in few steps, one picture per prompt, to be looked at while the full ones are drawn; nothing is scored."""

    images: tuple[Image, ...]
    steps: int


@dataclass(frozen=True, eq=False)
class Side:
    """The finished pictures of one side, one per prompt, and 100·cos of each with its prompt under CLIP.

    name: of the model that drew them. seconds: the time drawing took, also where the pictures come from the cache.
    destroyed: what has become of each picture, see `metrics.destroyed`, "" for a picture; looked up in the pictures
    unless it is given.
    """

    name: str
    images: tuple[Image, ...]
    clips: tuple[float, ...]
    curve: Curve
    seconds: float
    destroyed: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.destroyed is None:
            object.__setattr__(self, "destroyed", tuple(map(destroyed, self.images)))

    @property
    def nbytes(self) -> int:
        """Bytes of the pictures."""
        return sum(image.width * image.height * len(image.getbands()) for image in self.images)

    @property
    def clip(self) -> float:
        """The CLIP score over the prompts, `mean_clip`; NaN where all pictures are destroyed."""
        return math.nan if self.told else mean_clip(self.clips)

    @property
    def told(self) -> str:
        """In place of the CLIP score over the prompts where all pictures are destroyed, else ""."""
        return told(", ".join(dict.fromkeys(self.destroyed))) if all(self.destroyed) else ""


@dataclass(frozen=True, eq=False)
class Scored:
    """A side, and how far its pictures are from the dense ones, per prompt.

    A PSNR is None where the pictures are identical (it would be infinite).
    """

    side: Side
    ssims: tuple[float, ...]
    psnrs: tuple[float | None, ...]

    @property
    def ssim(self) -> float:
        """The mean over the prompts."""
        return float(np.mean(self.ssims))

    @cached_property
    def psnr(self) -> float | None:
        """From the squared errors of all pictures together; for one picture its own."""
        errors = [0.0 if value is None else 10 ** (-value / 10) for value in self.psnrs]
        return -10 * math.log10(np.mean(errors)) if any(errors) else None


@dataclass(frozen=True, eq=False)
class Comparison:
    """The dense pictures, those of a pruned model, B, and of a reference, A, where there is one; both scored to dense.

    differences are |dense − B| times `gain`. unread: of each prompt, what the model does not draw and the CLIP does not
    score; empty where it was not looked up.
    """

    requests: tuple[Request, ...]
    clip_name: str
    dense: Side
    b: Scored
    differences: tuple[Image, ...]
    gain: int
    seconds: float
    unread: tuple[Unread, ...] = ()
    a: Scored | None = None

    @property
    def left(self) -> Side:
        """The dense side."""
        return self.dense

    @property
    def right(self) -> Side:
        """The pruned side, B."""
        return self.b.side

    @property
    def ssims(self) -> tuple[float, ...]:
        """Of B, per prompt."""
        return self.b.ssims

    @property
    def psnrs(self) -> tuple[float | None, ...]:
        """Of B, per prompt."""
        return self.b.psnrs

    @property
    def ssim(self) -> float:
        """Of B, the mean over the prompts."""
        return self.b.ssim

    @property
    def psnr(self) -> float | None:
        """Of B, over all pictures together."""
        return self.b.psnr

    @property
    def delta(self) -> float:
        """CLIP score of B minus that of the dense side, each over the prompts."""
        return self.right.clip - self.dense.clip

    @property
    def told(self) -> str:
        """ "Δ CLIP −1.23", or what has become of B's pictures."""
        return self.right.told or f"Δ CLIP {signed(self.delta)}"


def measure(
    dense: Side,
    right: Side,
    requests: tuple[Request, ...],
    clip_name: str,
    seconds: float,
    gain: int = GAIN,
    reference: Side | None = None,
) -> Comparison:
    """The comparison of finished sides, `right` being B and `reference` A; no model runs."""
    differences, gain = amplified_differences(list(zip(dense.images, right.images, strict=True)), gain)
    return Comparison(
        requests=requests,
        clip_name=clip_name,
        dense=dense,
        b=scored(right, dense),
        differences=differences,
        gain=gain,
        seconds=seconds,
        a=scored(reference, dense) if reference else None,
    )


def with_gain(done: Comparison, gain: int) -> Comparison:
    """The same with differences times another number."""
    pairs = list(zip(done.dense.images, done.right.images, strict=True))
    differences, gain = amplified_differences(pairs, gain)
    return replace(done, differences=differences, gain=gain)


def scored(side: Side, dense: Side) -> Scored:
    """How far a side is from the dense one."""
    pairs = list(zip(dense.images, side.images, strict=True))
    psnrs = [psnr(*pair) for pair in pairs]
    return Scored(
        side,
        ssims=tuple(ssim(*pair) for pair in pairs),
        psnrs=tuple(value if math.isfinite(value) else None for value in psnrs),
    )
