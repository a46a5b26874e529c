"""How far a picture is from another one: SSIM, PSNR, and the difference as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops

from dit_prune_viz.errors import UserError

_SSIM_WINDOW = 7


def ssim(a: Image.Image, b: Image.Image) -> float:
    """Mean structural similarity of two RGB pictures, at most 1 (equal); 7×7 windows, averaged over channels.

    Raises:
        UserError: the sizes differ, or a side is shorter than 7 pixels.
    """
    first, second = _arrays(a, b)
    if min(first.shape[:2]) < _SSIM_WINDOW:
        raise UserError(f"SSIM needs pictures of at least {_SSIM_WINDOW} pixels on each side.")
    from skimage.metrics import structural_similarity

    return float(structural_similarity(first, second, channel_axis=2, data_range=255, win_size=_SSIM_WINDOW))


def ssim_if_large(a: Image.Image, b: Image.Image) -> float | None:
    """As `ssim`; None where a side is shorter than its window. UserError if the sizes differ."""
    return ssim(a, b) if min(*a.size, *b.size) >= _SSIM_WINDOW else None


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal-to-noise ratio of two RGB pictures in dB; infinite if they are equal.

    Raises:
        UserError: the sizes differ.
    """
    first, second = _arrays(a, b)
    if np.array_equal(first, second):
        return math.inf
    from skimage.metrics import peak_signal_noise_ratio

    return float(peak_signal_noise_ratio(first, second, data_range=255))


def difference(a: Image.Image, b: Image.Image) -> Image.Image:
    """|a − b| per channel as an RGB picture, black where they agree.

    Raises:
        UserError: the sizes differ.
    """
    _arrays(a, b)
    return ImageChops.difference(a.convert("RGB"), b.convert("RGB"))


def amplified_differences(
    pairs: Sequence[tuple[Image.Image, Image.Image]],
    gain: int | None = None,
) -> tuple[tuple[Image.Image, ...], int]:
    """`difference` of every pair, all times the same gain, so that small changes can be seen side by side.

    Args:
        pairs: of pictures of one size each.
        gain: None chooses it, see below.

    Returns:
        The pictures and the gain: the largest of 1, 2, 4 and 8 at which at most one value in 200 of all the pairs'
        would be cut off; 1 where nothing differs.

    Raises:
        UserError: there is no pair, or the sizes of one differ.
    """
    if not pairs:
        raise UserError("There are no pictures to compare.")
    plain = [np.asarray(difference(*pair)) for pair in pairs]
    gain = fitting_gain(plain) if gain is None else gain
    louder = [np.minimum(values.astype(np.uint16) * gain, 255).astype(np.uint8) for values in plain]
    return tuple(map(Image.fromarray, louder)), gain


def fitting_gain(differences: Sequence[Image.Image | np.ndarray]) -> int:
    """The largest of 1, 2, 4 and 8 at which at most one value in 200 of all the differences would be cut off.

    Args:
        differences: as from `difference`, at least one. 1 where nothing differs.
    """
    values = np.concatenate([np.asarray(one).ravel() for one in differences])
    high = float(np.quantile(values, 0.995))
    return next(gain for gain in (8, 4, 2, 1) if gain * high <= 255) if values.any() else 1


def _arrays(a: Image.Image, b: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    if a.size != b.size:
        raise UserError(f"Pictures of different sizes cannot be compared: {a.size} and {b.size}.")
    return np.asarray(a.convert("RGB")), np.asarray(b.convert("RGB"))
