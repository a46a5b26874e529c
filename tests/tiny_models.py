"""Tiny pipelines with random seeded weights, built without any file: the parts of the fixtures in conftest.py."""

from __future__ import annotations

import torch

TINY_PROMPTS = ("a cat", "a red bus", "two dogs", "a tree in snow", "the moon", "a cup of tea")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def clip_tokenizer(length: int = 16):
    """A CLIP tokenizer that knows single letters, built without any file."""
    from transformers import CLIPTokenizer

    vocab = {letter: index for index, letter in enumerate(_LETTERS)}
    vocab |= {f"{letter}</w>": len(_LETTERS) + index for index, letter in enumerate(_LETTERS)}
    vocab |= {"<|startoftext|>": len(vocab), "<|endoftext|>": len(vocab) + 1}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=length)


def t5_tokenizer(length: int = 16):
    """A T5 tokenizer that knows single letters, built without any file."""
    from transformers import T5Tokenizer

    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)] + [(letter, -3.0) for letter in _LETTERS]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=length)


def clip_text_config(**extra):
    from transformers import CLIPTextConfig

    size = len(clip_tokenizer())
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": size, "bos_token_id": size - 2, "eos_token_id": size - 1, "max_position_embeddings": 16}
    return CLIPTextConfig(**sizes, **ids, **extra)


def _t5_encoder(width: int = 32):
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=64, d_model=width, d_kv=8, d_ff=64, num_layers=1, num_heads=4, tie_word_embeddings=False
    )
    return T5EncoderModel(config)


def _autoencoder_kl(latent_channels: int = 4, **extra):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=latent_channels,
        layers_per_block=1,
        mid_block_add_attention=False,
        **extra,
    )


def build_flux(num_layers: int = 2, num_single_layers: int = 2):
    """FluxPipeline without guidance embedding: so many dual-stream and single-stream blocks of width 64."""
    from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    torch.manual_seed(1)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(0, 0, 0, 1),
            num_decoder_blocks=(1, 0, 0, 0),
            latent_channels=16,
            scaling_factor=0.5,
            shift_factor=0.1,
        ),
        text_encoder=CLIPTextModel(clip_text_config()),
        tokenizer=clip_tokenizer(),
        text_encoder_2=_t5_encoder(),
        tokenizer_2=t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=num_layers,
            num_single_layers=num_single_layers,
            attention_head_dim=32,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            guidance_embeds=False,
            axes_dims_rope=(8, 12, 12),
        ),
    )


def build_sd3():
    """StableDiffusion3Pipeline with its three text encoders."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(2)
    return StableDiffusion3Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_autoencoder_kl(latent_channels=16, scaling_factor=1.5, shift_factor=0.06),
        text_encoder=CLIPTextModelWithProjection(clip_text_config(projection_dim=32)),
        tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip_text_config(projection_dim=32)),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=_t5_encoder(64),
        tokenizer_3=t5_tokenizer(),
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=64,
            caption_projection_dim=32,
            pooled_projection_dim=64,
            pos_embed_max_size=16,
        ),
    )


def build_pixart():
    """PixArtSigmaPipeline with a DPM-Solver; its calls know the old callback only."""
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    torch.manual_seed(3)
    return PixArtSigmaPipeline(
        scheduler=DPMSolverMultistepScheduler(),
        vae=_autoencoder_kl(),
        text_encoder=_t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=PixArtTransformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            cross_attention_dim=32,
            caption_channels=32,
            use_additional_conditions=False,
        ),
    )


def build_dit():
    """Class-conditional DiTPipeline; DDPM adds noise in every step, and the pipeline passes it no generator."""
    from diffusers import DDPMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(4)
    return DiTPipeline(
        transformer=DiTTransformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            num_embeds_ada_norm=1000,
        ),
        vae=_autoencoder_kl(),
        scheduler=DDPMScheduler(),
    )


def build_sana():
    """SanaPipeline, whose feed-forward layers are convolutions, with a Gemma 2 of one layer."""
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel
    from transformers import Gemma2Config, Gemma2Model

    torch.manual_seed(6)
    sides = {
        f"{side}_{what}": value
        for side in ("encoder", "decoder")
        for what, value in {
            "block_out_channels": (8, 8, 8, 8, 8, 8),
            "layers_per_block": (1,) * 6,
            "qkv_multiscales": ((),) * 6,
            "block_types": ("ResBlock",) * 6,
        }.items()
    }
    return SanaPipeline(
        scheduler=DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        vae=AutoencoderDC(latent_channels=4, **sides),
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=64,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
            )
        ),
        tokenizer=t5_tokenizer(),
        transformer=SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=4,
            attention_head_dim=8,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=16,
            cross_attention_dim=32,
            caption_channels=16,
            sample_size=4,
        ),
    )
