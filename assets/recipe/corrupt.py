"""Ways in which a picture degrades, each with a strength from 0 (untouched) to 1 (unrecognisable)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter


def blur(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """Gaussian blur of up to 14 pixels standard deviation; x is (3, h, w) in 0..1, as for every corruption here."""
    pixels = x.mul(255).round().byte().permute(1, 2, 0).numpy()
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(14 * strength**1.5))
    return torch.from_numpy(np.array(blurred)).permute(2, 0, 1) / 255


def noise(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """Gaussian noise of up to one full range standard deviation."""
    return (x + strength**1.3 * torch.randn(x.shape, generator=rng)).clamp(0, 1)


def shuffle(x: torch.Tensor, strength: float, rng: torch.Generator, side: int = 16) -> torch.Tensor:
    """A share `strength` of the side×side patches is permuted among itself."""
    rows, columns = x.shape[1] // side, x.shape[2] // side
    patches = x.reshape(3, rows, side, columns, side).permute(1, 3, 0, 2, 4).flatten(0, 1)
    moved = torch.randperm(len(patches), generator=rng)[: round(strength * len(patches))]
    patches = patches.clone()
    patches[moved] = patches[moved.roll(1)] if len(moved) > 1 else patches[moved]
    return patches.reshape(rows, columns, 3, side, side).permute(2, 0, 3, 1, 4).reshape(x.shape)


def fade(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """Colours drift towards a random tint and contrast falls."""
    tint = torch.rand(3, 1, 1, generator=rng)
    grey = x.mean(0, keepdim=True)
    return torch.lerp(torch.lerp(x, grey.expand_as(x), strength), tint.expand_as(x), 0.8 * strength)


def erase(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """A square of up to the whole picture is painted white or in a random colour."""
    h = max(1, round(x.shape[1] * strength**0.5))
    top, left = (int(torch.randint(x.shape[1] - h + 1, (), generator=rng)) for _ in range(2))
    x = x.clone()
    white = torch.rand((), generator=rng) < 0.5
    x[:, top : top + h, left : left + h] = 1.0 if white else torch.rand(3, 1, 1, generator=rng)
    return x


def warp(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """A smooth random displacement of up to 40 pixels, as a badly denoised latent bends shapes."""
    if strength < 0.02:
        return x
    field = F.interpolate(torch.randn(1, 2, 6, 6, generator=rng), x.shape[1:], mode="bicubic", align_corners=True)
    base = F.affine_grid(torch.eye(2, 3)[None], (1, *x.shape), align_corners=False)
    grid = base + 0.35 * strength * field.permute(0, 2, 3, 1)
    return F.grid_sample(x[None], grid, padding_mode="border", align_corners=False)[0]


CORRUPTIONS = {"blur": blur, "noise": noise, "shuffle": shuffle, "fade": fade, "erase": erase, "warp": warp}
