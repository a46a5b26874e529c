"""Settings that rerun the tables of arXiv 2607.00927, for whoever has the weights and a GPU, and what they print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.prompts import PromptSet

_METHODS = "magnitude,wanda,dit-pruning"
_LEVELS = "20,40,50"
_CLIP = "openai/clip-vit-base-patch32"
_SEED = 42

Published = Mapping[tuple[str, str], Mapping[str, float]]


@dataclass(frozen=True)
class Preset:
    """One table, or one column of it.

    Fields are named as the options of the command line; None leaves the model's default. prompt_source: where the
    prompts come from, "classes" if they are the model's class numbers. published: (recipe, level) → scores as the
    paper prints them, CLIP as a cosine; its CLIP checkpoint and its noises are not known, so compare the order and the
    distances, not the digits.
    """

    name: str
    model: str
    words: str
    methods: str = _METHODS
    sparsities: str = _LEVELS
    prompts: int = 1024
    prompt_source: str = "MJHQ-30K's meta_data.json"
    steps: int | None = None
    guidance: float | None = None
    height: int | None = None
    width: int | None = None
    seeds: int = 1
    first_seed: int = _SEED
    clip: str = _CLIP
    published: Published = field(default_factory=dict)

    def own_prompts(self) -> PromptSet | None:
        """The prompts of a preset that needs no file."""
        return PromptSet(tuple(map(str, range(1000)))) if self.prompt_source == "classes" else None


def _dit(steps: int) -> Preset:
    words = (
        f"DiT-XL/2 256², {steps} steps: SSIM and latent error to dense (FID needs ImageNet and is not computed); "
        "the hub has pickled weights only, so give --model FOLDER with safetensors"
    )
    return Preset(
        f"dit-xl-2-{steps}",
        "facebook/DiT-XL-2-256",
        words,
        methods="magnitude,wanda,stw,dit-pruning",
        prompts=512,
        prompt_source="classes",
        steps=steps,
        guidance=1.5,
        clip="none",
    )


def _pixart(size: int, published: Published | None = None) -> Preset:
    return Preset(
        f"pixart-sigma-{size}",
        {256: "PixArt-alpha/PixArt-Sigma-XL-2-256x256", 512: "PixArt-alpha/PixArt-Sigma-XL-2-512-MS"}[size],
        f"PixArt-Σ {size}², DPM-Solver with 20 steps; the hub has the transformer alone, so give --model FOLDER "
        "with the whole pipeline",
        methods="magnitude,wanda,stw,dit-pruning",
        prompt_source="COCO captions, one a line",
        steps=20,
        guidance=4.5,
        height=size,
        width=size,
        published=published or {},
    )


def _flux(size: int, published: Published | None = None) -> Preset:
    return Preset(
        f"flux.1-dev-{size}",
        "black-forest-labs/FLUX.1-dev",
        f"FLUX.1-dev {size}², 50 steps",
        sparsities="20,40,50,2:4",
        steps=50,
        guidance=3.5,
        height=size,
        width=size,
        published=published or {},
    )


def _scores(table: str) -> Published:
    """From lines "recipe level clip ssim", with "-" for what is not printed."""
    rows = (line.split() for line in table.strip().splitlines())
    return {
        (recipe, level if ":" in level else f"{level} %"): {
            name: float(value) for name, value in zip(("clip", "ssim"), values, strict=True) if value != "-"
        }
        for recipe, level, *values in rows
    }


_FLUX_512 = _scores(
    """
    magnitude 20 .271 .731
    wanda 20 .272 .801
    dit-pruning 20 .273 .847
    magnitude 40 .262 .561
    wanda 40 .271 .624
    dit-pruning 40 .272 .692
    magnitude 50 .249 .493
    wanda 50 .265 .504
    dit-pruning 50 .271 .603
    wanda 2:4 .251 .466
    dit-pruning 2:4 .255 .497
    """
)
_PIXART_512 = _scores(
    """
    magnitude 50 .214 .261
    wanda 50 .219 .373
    stw 50 .242 .428
    dit-pruning 50 .244 .439
    """
)
_ALL = (
    *(_dit(steps) for steps in (50, 100, 250)),
    _pixart(256),
    _pixart(512, _PIXART_512),
    _flux(256),
    _flux(512, _FLUX_512),
)
PRESETS = MappingProxyType({preset.name: preset for preset in _ALL})


def find_preset(name: str) -> Preset:
    """The preset called so. UserError for an unknown name."""
    if name not in PRESETS:
        raise UserError(f"There is no preset {brief(name)}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
