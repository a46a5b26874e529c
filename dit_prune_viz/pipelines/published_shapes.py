"""The parts of public pipelines in full size and without a weight, to plan where they would lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from dit_prune_viz.pipelines.placement import PartSize, module_size

Build = Callable[[], Mapping[str, nn.Module]]


def published_sizes(name: str, dtype: torch.dtype = torch.bfloat16) -> list[PartSize]:
    """The sizes of all parts of a public pipeline, from its published configuration on the meta device.

    Args:
        name: of `PUBLISHED`.
        dtype: precision in which they would run.
    """
    with torch.device("meta"):
        parts = PUBLISHED[name]()
    return [module_size(part, module, dtype) for part, module in parts.items()]


def _flux_dev() -> Mapping[str, nn.Module]:
    from diffusers import FluxTransformer2DModel

    return {
        "text_encoder": _clip_l(),
        "text_encoder_2": _t5_xxl(),
        "transformer": FluxTransformer2DModel(guidance_embeds=True),
        "vae": _autoencoder(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False),
    }


def _sd35_large() -> Mapping[str, nn.Module]:
    from diffusers import SD3Transformer2DModel

    return {
        "text_encoder": _clip_l(projected=True),
        "text_encoder_2": _clip_g(),
        "text_encoder_3": _t5_xxl(),
        "transformer": SD3Transformer2DModel(
            num_layers=38,
            num_attention_heads=38,
            caption_projection_dim=2432,
            pos_embed_max_size=192,
            qk_norm="rms_norm",
        ),
        "vae": _autoencoder(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False),
    }


def _pixart_sigma() -> Mapping[str, nn.Module]:
    from diffusers import PixArtTransformer2DModel

    return {
        "text_encoder": _t5_xxl(),
        "transformer": PixArtTransformer2DModel(
            num_layers=28, caption_channels=4096, sample_size=128, use_additional_conditions=False
        ),
        "vae": _autoencoder(),
    }


def _qwen_image() -> Mapping[str, nn.Module]:
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    }
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584}
    return {
        "text_encoder": Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)),
        "transformer": QwenImageTransformer2DModel(),
        "vae": AutoencoderKLQwenImage(),
    }


def _clip_l(*, projected: bool = False) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = CLIPTextConfig(**sizes, projection_dim=768)
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


def _clip_g() -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    sizes = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
    return CLIPTextModelWithProjection(CLIPTextConfig(**sizes, projection_dim=1280))


def _t5_xxl() -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    sizes = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    return T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu"))


def _autoencoder(**more) -> nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        **more,
    )


PUBLISHED: Mapping[str, Build] = MappingProxyType(
    {
        "black-forest-labs/FLUX.1-dev": _flux_dev,
        "stabilityai/stable-diffusion-3.5-large": _sd35_large,
        "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": _pixart_sigma,
        "Qwen/Qwen-Image": _qwen_image,
    }
)
"""Hub id → its parts with weights, built on whatever device is the default."""
