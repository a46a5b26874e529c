"""The CLIP score of several pictures, by torchmetrics' rule: average first, then nothing below 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

CLIP_UNIT = "100·max(mean cos, 0)"
"""What every CLIP score that people see is."""
NO_CLIP = "No CLIP score applies, because there are no words for what was drawn."


def mean_clip(scores: Sequence[float]) -> float:
    """The CLIP score of a set of pictures, 100·max(mean cos, 0), as torchmetrics' `CLIPScore` computes it.

    Raising each picture to 0 before averaging would lift the mean of a model whose pictures have lost their prompts.

    Args:
        scores: 100·cos of each picture with its text, at least one; below 0 where they disagree, NaN where there is no
            text, which leaves the picture out.

    Returns:
        The score; NaN where no picture has a text.
    """
    known = [score for score in scores if not math.isnan(score)]
    return max(float(sum(known)) / len(known), 0.0) if known else math.nan
