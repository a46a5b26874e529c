"""Families that draw clips, here of one frame unless more are asked for."""

from __future__ import annotations

import diffusers
from tiny_models import clip_tokenizer, t5_tokenizer

from tiny_families import parts
from tiny_families.edits import wan_transformer


def wan():
    return diffusers.WanPipeline(
        tokenizer=t5_tokenizer(512),
        text_encoder=parts.t5(kind="UMT5"),
        vae=parts.video_autoencoder(),
        scheduler=diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        transformer=wan_transformer(),
    )


def ltx():
    return diffusers.LTXPipeline(
        scheduler=parts.flow(),
        vae=diffusers.AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            patch_size=1,
        ),
        text_encoder=parts.t5(),
        tokenizer=t5_tokenizer(128),
        transformer=diffusers.LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=2,
            caption_channels=32,
        ),
    )


def mochi():
    return diffusers.MochiPipeline(
        scheduler=parts.flow(invert_sigmas=True),
        vae=diffusers.AutoencoderKLMochi(
            latent_channels=12,
            out_channels=3,
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
        ),
        text_encoder=parts.t5(),
        tokenizer=t5_tokenizer(256),
        transformer=diffusers.MochiTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            pooled_projection_dim=16,
            text_embed_dim=32,
            time_embed_dim=4,
        ),
    )


def hunyuan_video():
    return diffusers.HunyuanVideoPipeline(
        text_encoder=parts.language_model("LlamaModel", num_hidden_layers=3),
        tokenizer=parts.byte_tokenizer(),
        vae=diffusers.AutoencoderKLHunyuanVideo(
            latent_channels=4,
            down_block_types=("HunyuanVideoDownBlock3D",) * 4,
            up_block_types=("HunyuanVideoUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            mid_block_add_attention=False,
        ),
        scheduler=parts.flow(7.0),
        text_encoder_2=parts.clip(positions=77),
        tokenizer_2=clip_tokenizer(),
        transformer=diffusers.HunyuanVideoTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=10,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            text_embed_dim=16,
            pooled_projection_dim=32,
            rope_axes_dim=(2, 4, 4),
        ),
    )


def cogvideox():
    return diffusers.CogVideoXPipeline(
        tokenizer=t5_tokenizer(226),
        text_encoder=parts.t5(),
        vae=diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2
        ),
        scheduler=diffusers.CogVideoXDDIMScheduler(snr_shift_scale=3.0, rescale_betas_zero_snr=True),
        transformer=diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            time_embed_dim=8,
            text_embed_dim=32,
            num_layers=2,
            sample_width=8,
            sample_height=8,
            sample_frames=9,
            use_rotary_positional_embeddings=True,
        ),
    )


def latte():
    return diffusers.LattePipeline(
        tokenizer=t5_tokenizer(120),
        text_encoder=parts.t5(),
        vae=parts.autoencoder(),
        scheduler=diffusers.DDIMScheduler(),
        transformer=diffusers.LatteTransformer3DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=16,
            num_attention_heads=2,
            caption_channels=32,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=32,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
        ),
    )


VIDEOS = {
    "wan2.1": wan,
    "ltx": ltx,
    "mochi": mochi,
    "hunyuan-video": hunyuan_video,
    "cogvideox": cogvideox,
    "latte": latte,
}
"""Family → what builds its tiny pipeline."""
