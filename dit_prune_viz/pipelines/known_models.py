"""Public models by their hub ids: settings to draw with, size, licence, and where a usable pipeline lies."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

_T5_XXL, _UMT5_XXL, _CLIP_L, _CLIP_G = 4.76, 5.68, 0.12, 0.70
_GEMMA_2B, _QWEN_VL_7B, _QWEN_4B, _QWEN_8B, _GLM_9B, _MISTRAL_24B = 2.61, 8.29, 4.02, 7.57, 9.4, 24.0
_SD3_ENCODERS = _T5_XXL + _CLIP_L + _CLIP_G
_FLUX_ENCODERS = _T5_XXL + _CLIP_L
_BYTES = 2

_APACHE = "Apache 2.0"
_STABILITY = "Stability AI Community"
_FLUX_DEV = "FLUX.1 [dev] non-commercial"
_PAPER = "arXiv 2607.00927"
_CARD = "its authors"
_PICKLED = (
    "its weights on the hub are pickled, which this program does not open: convert them to safetensors and give the "
    "folder"
)


@dataclass(frozen=True)
class KnownModel:
    """A public model, as its authors describe it. Sizes are of the pipeline without safety checkers.

    Attributes:
        name: as people call it.
        hub_id: "org/name".
        steps: denoising steps, and
        guidance_scale: guidance (0 and 1 are none; None where the pipeline takes no number), and
        size: (height, width) in pixels, as `settings` used them.
        transformer: parameters of the denoiser, in billions, counted on diffusers' class.
        encoders: parameters of the text encoders, in billions.
        licence: of the weights.
        gated: whether the hub asks for consent and a login.
        download: GB on disk as published, in whatever precision that is; None where that was not to be verified.
        settings: whose steps, guidance and size these are.
        instead: why the hub's repository cannot be opened as it is, and what can; empty where it can.
    """

    name: str
    hub_id: str
    steps: int
    guidance_scale: float | None
    size: tuple[int, int]
    transformer: float
    encoders: float
    licence: str
    gated: bool = False
    download: float | None = None
    settings: str = _CARD
    instead: str = ""

    @property
    def memory(self) -> float:
        """GB of all weights in bfloat16, without the autoencoder (0.1 to 0.7) and what a run needs beside them."""
        return _BYTES * (self.transformer + self.encoders)


def _square(pixels: int) -> tuple[int, int]:
    return pixels, pixels


def _dit(pixels: int) -> KnownModel:
    return KnownModel(
        f"DiT-XL/2 {pixels}²", f"facebook/DiT-XL-2-{pixels}", 50, 1.5, _square(pixels), 0.75, 0, "CC BY-NC 4.0",
        download=3.3, settings=_PAPER, instead=_PICKLED,
    )  # fmt: skip


def _sigma(pixels: int, hub_id: str) -> KnownModel:
    alone = (
        "this repository holds the transformer alone: save PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers with this "
        "transformer in it by save_pretrained and give the folder"
    )
    return KnownModel(
        f"PixArt-Σ {pixels}²", hub_id, 20, 4.5, _square(pixels), 0.61, _T5_XXL, "OpenRAIL++",
        download=2.4, settings=_PAPER, instead=alone,
    )  # fmt: skip


_ALL = (
    _dit(256),
    _dit(512),
    KnownModel("PixArt-α 1024²", "PixArt-alpha/PixArt-XL-2-1024-MS", 20, 4.5, _square(1024), 0.61, _T5_XXL,
               "OpenRAIL++"),
    _sigma(256, "PixArt-alpha/PixArt-Sigma-XL-2-256x256"),
    _sigma(512, "PixArt-alpha/PixArt-Sigma-XL-2-512-MS"),
    KnownModel("PixArt-Σ 1024²", "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", 20, 4.5, _square(1024), 0.61, _T5_XXL,
               "OpenRAIL++"),
    KnownModel("SD3 medium", "stabilityai/stable-diffusion-3-medium-diffusers", 28, 7.0, _square(1024), 2.03,
               _SD3_ENCODERS, _STABILITY, gated=True),
    KnownModel("SD3.5 medium", "stabilityai/stable-diffusion-3.5-medium", 40, 4.5, _square(1024), 2.24, _SD3_ENCODERS,
               _STABILITY, gated=True),
    KnownModel("SD3.5 large", "stabilityai/stable-diffusion-3.5-large", 28, 3.5, _square(1024), 8.06, _SD3_ENCODERS,
               _STABILITY, gated=True),
    KnownModel("SD3.5 large turbo", "stabilityai/stable-diffusion-3.5-large-turbo", 4, 0.0, _square(1024), 8.06,
               _SD3_ENCODERS, _STABILITY, gated=True),
    KnownModel("FLUX.1 dev", "black-forest-labs/FLUX.1-dev", 50, 3.5, _square(512), 11.90, _FLUX_ENCODERS, _FLUX_DEV,
               gated=True, download=33.7, settings=_PAPER),
    KnownModel("FLUX.1 schnell", "black-forest-labs/FLUX.1-schnell", 4, 0.0, _square(1024), 11.89, _FLUX_ENCODERS,
               _APACHE, gated=True, download=33.7),
    KnownModel("FLUX.1 Kontext dev", "black-forest-labs/FLUX.1-Kontext-dev", 28, 2.5, _square(1024), 11.90,
               _FLUX_ENCODERS, _FLUX_DEV, gated=True, download=33.7),
    KnownModel("FLUX.2 dev", "black-forest-labs/FLUX.2-dev", 50, 4.0, _square(1024), 32.22, _MISTRAL_24B,
               "FLUX non-commercial", gated=True),
    KnownModel("FLUX.2 klein 4B", "black-forest-labs/FLUX.2-klein-4B", 4, 1.0, _square(1024), 3.88, _QWEN_4B, _APACHE),
    KnownModel("FLUX.2 klein 9B", "black-forest-labs/FLUX.2-klein-9B", 4, 1.0, _square(1024), 9.08, _QWEN_8B,
               "FLUX non-commercial", gated=True),
    KnownModel("Sana 1.6B", "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers", 20, 4.5, _square(1024), 1.60,
               _GEMMA_2B, "NVIDIA, NSCL v2 (custom)"),
    KnownModel("Qwen-Image", "Qwen/Qwen-Image", 50, 4.0, _square(1328), 20.43, _QWEN_VL_7B, _APACHE, download=57.7),
    KnownModel("Qwen-Image-Edit", "Qwen/Qwen-Image-Edit", 50, 4.0, _square(1024), 20.43, _QWEN_VL_7B, _APACHE,
               download=57.7),
    KnownModel("Z-Image-Turbo", "Tongyi-MAI/Z-Image-Turbo", 8, 0.0, _square(1024), 6.15, _QWEN_4B, _APACHE,
               download=32.8),
    KnownModel("Chroma1-HD", "lodestones/Chroma1-HD", 40, 3.0, _square(1024), 8.90, _T5_XXL, _APACHE),
    KnownModel("HunyuanDiT", "Tencent-Hunyuan/HunyuanDiT-Diffusers", 50, 5.0, _square(1024), 1.52, 2.0,
               "Tencent Hunyuan Community"),
    KnownModel("HunyuanImage 2.1", "hunyuanvideo-community/HunyuanImage-2.1-Diffusers", 50, None, _square(2048), 17.41,
               _QWEN_VL_7B + 0.2, "Tencent Hunyuan Community"),
    KnownModel("CogView4", "THUDM/CogView4-6B", 50, 3.5, _square(1024), 6.37, _GLM_9B, _APACHE),
    KnownModel("Lumina-Image 2.0", "Alpha-VLLM/Lumina-Image-2.0", 50, 4.0, _square(1024), 2.61, _GEMMA_2B, _APACHE),
    KnownModel("AuraFlow", "fal/AuraFlow", 50, 3.5, _square(1024), 6.86, 1.22, _APACHE),
    KnownModel("Wan 2.1 1.3B", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", 50, 5.0, (480, 832), 1.42, _UMT5_XXL, _APACHE),
    KnownModel("Wan 2.1 14B", "Wan-AI/Wan2.1-T2V-14B-Diffusers", 50, 5.0, (480, 832), 14.29, _UMT5_XXL, _APACHE),
    KnownModel("Wan 2.2 5B", "Wan-AI/Wan2.2-TI2V-5B-Diffusers", 50, 5.0, (704, 1280), 5.00, _UMT5_XXL, _APACHE),
)  # fmt: skip

KNOWN_MODELS = MappingProxyType({model.hub_id: model for model in _ALL})
"""Hub id → model."""


def describe(model: KnownModel) -> str:
    """Everything to know before choosing it, in a few plain sentences."""
    disk = f"; {model.download:.0f} GB to download" if model.download else ""
    gate = ", gated (accept it on the hub and log in)" if model.gated else ""
    found = f" It cannot be opened by its name: {model.instead}." if model.instead else ""
    return (
        f"{model.name}: a transformer of {model.transformer:.1f} B parameters; {model.memory:.0f} GB of memory in "
        f"bfloat16 with the text encoders{disk}. Licence: {model.licence}{gate}. Settings of {model.settings}: "
        f"{drawing(model)}.{found}"
    )


def drawing(model: KnownModel) -> str:
    """Steps, guidance and size in a few words."""
    height, width = model.size
    size = f"{height}²" if height == width else f"{height} × {width}"
    guidance = "" if model.guidance_scale is None else f"guidance {model.guidance_scale:g}, "
    return f"{model.steps} steps, {guidance}{size}"
