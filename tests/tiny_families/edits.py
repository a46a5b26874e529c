"""Families that start from a picture, and those with two transformers."""

from __future__ import annotations

import diffusers
from tiny_models import t5_tokenizer

from tiny_families import parts
from tiny_families.images import IMAGES, cogview4_transformer, flux_transformer


def flux_kontext():
    return _flux(diffusers.FluxKontextPipeline)


def flux_img2img():
    return _flux(diffusers.FluxImg2ImgPipeline)


def flux_inpaint():
    return _flux(diffusers.FluxInpaintPipeline)


def flux_fill():
    return _flux(diffusers.FluxFillPipeline, in_channels=384, out_channels=64)


def flux_control():
    return _flux(diffusers.FluxControlPipeline, in_channels=128, out_channels=64)


def _flux(kind, **extra):
    transformer = flux_transformer(**extra)
    return kind(**parts.flux_parts(), vae=parts.flux_autoencoder(), scheduler=parts.flow(), transformer=transformer)


def sd3_img2img():
    return diffusers.StableDiffusion3Img2ImgPipeline(**_without_extras(IMAGES["sd3"]()))


def cogview4_control():
    parts_ = _without_extras(IMAGES["cogview4"]())
    return diffusers.CogView4ControlPipeline(**{**parts_, "transformer": cogview4_transformer(channels=8)})


def _without_extras(pipeline):
    return {name: part for name, part in pipeline.components.items() if part is not None}


def wan():
    """Wan 2.2, whose second transformer takes over at low noise."""
    return diffusers.WanPipeline(
        tokenizer=t5_tokenizer(512),
        text_encoder=parts.t5(kind="UMT5"),
        vae=parts.video_autoencoder(),
        scheduler=parts.flow(),
        transformer=wan_transformer(),
        transformer_2=wan_transformer(),
        boundary_ratio=0.875,
    )


def wan_transformer(kind="WanTransformer3DModel"):
    return getattr(diffusers, kind)(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )


def ideogram4():
    """Two transformers at every step: one sees the prompt, the other does not."""
    return diffusers.Ideogram4Pipeline(
        scheduler=parts.flow(),
        vae=parts.flux2_autoencoder(),
        text_encoder=parts.vision_language_model("Qwen3VLModel", layers=36),
        tokenizer=parts.byte_tokenizer(4096),
        transformer=_ideogram_transformer(),
        unconditional_transformer=_ideogram_transformer(),
    )


def _ideogram_transformer():
    return diffusers.Ideogram4Transformer2DModel(
        in_channels=32,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        intermediate_size=32,
        adaln_dim=16,
        llm_features_dim=16 * 13,
        mrope_section=(4, 2, 2),
    )


EDITS = {
    "flux-kontext": flux_kontext,
    "flux-fill": flux_fill,
    "flux-control": flux_control,
    "flux-img2img": flux_img2img,
    "flux-inpaint": flux_inpaint,
    "sd3-img2img": sd3_img2img,
    "cogview4-control": cogview4_control,
    "wan2.2": wan,
    "ideogram4": ideogram4,
}
"""Family → what builds its tiny pipeline."""
