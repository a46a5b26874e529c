"""Families that draw pictures from a prompt or a class, one function each; they are called with a seed set."""

from __future__ import annotations

import diffusers
from tiny_models import build_dit, build_flux, build_pixart, build_sd3, clip_tokenizer, t5_tokenizer

from tiny_families import parts

_ROPE = (4, 6, 6)
FLUX = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
    "axes_dims_rope": _ROPE,
}


def flux_transformer(**extra):
    return diffusers.FluxTransformer2DModel(**{**FLUX, "guidance_embeds": True, **extra})


def flux_dev():
    return diffusers.FluxPipeline(
        **parts.flux_parts(),
        vae=parts.flux_autoencoder(),
        scheduler=parts.flow(),
        transformer=flux_transformer(),
    )


def pixart_alpha():
    return diffusers.PixArtAlphaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=parts.t5(),
        vae=parts.autoencoder(),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=128,  # as the 1024-pixel models have it, which take the size of the picture as a condition
            patch_size=2,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            attention_head_dim=24,
            num_attention_heads=2,
            cross_attention_dim=48,
            caption_channels=32,
        ),
    )


def flux2_klein():
    return diffusers.Flux2KleinPipeline(
        scheduler=parts.flow(),
        vae=parts.flux2_autoencoder(),
        text_encoder=parts.language_model("Qwen3ForCausalLM", num_hidden_layers=27),
        tokenizer=parts.byte_tokenizer(),
        transformer=flux2_transformer(guidance_embeds=False),
    )


def flux2_transformer(**extra):
    return diffusers.Flux2Transformer2DModel(
        in_channels=32,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        **extra,
    )


def _sana_transformer(**extra):
    return diffusers.SanaTransformer2DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=16,
        **extra,
    )


def _sana_parts():
    return {
        "tokenizer": parts.byte_tokenizer(),
        "text_encoder": parts.language_model("Gemma2Model"),
        "vae": parts.deep_autoencoder(),
    }


def sana():
    return diffusers.SanaPipeline(
        **_sana_parts(),
        transformer=_sana_transformer(),
        scheduler=diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
    )


def sana_sprint():
    return diffusers.SanaSprintPipeline(
        **_sana_parts(),
        transformer=_sana_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads"),
        scheduler=diffusers.SCMScheduler(),
    )


def lumina():
    return diffusers.LuminaPipeline(
        tokenizer=parts.starting_tokenizer(),
        text_encoder=parts.language_model("GemmaModel"),
        vae=parts.autoencoder(),
        scheduler=parts.flow(),
        transformer=diffusers.LuminaNextDiT2DModel(
            sample_size=8,
            hidden_size=16,
            num_layers=2,
            num_attention_heads=2,
            multiple_of=8,
            ffn_dim_multiplier=1.0,
            num_kv_heads=2,
            cross_attention_dim=16,
        ),
    )


def lumina2():
    return diffusers.Lumina2Pipeline(
        tokenizer=parts.byte_tokenizer(),
        text_encoder=parts.language_model("Gemma2Model"),
        vae=parts.flux_autoencoder(),
        scheduler=parts.flow(),
        transformer=diffusers.Lumina2Transformer2DModel(
            sample_size=8,
            hidden_size=32,
            num_layers=2,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            ffn_dim_multiplier=1.0,
            axes_dim_rope=(4, 6, 6),
            axes_lens=(300, 16, 16),
            cap_feat_dim=16,
        ),
    )


def aura_flow():
    return diffusers.AuraFlowPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=parts.t5(kind="UMT5"),
        vae=parts.autoencoder(),
        scheduler=parts.flow(),
        transformer=diffusers.AuraFlowTransformer2DModel(
            sample_size=8,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pos_embed_max_size=64,
        ),
    )


def hunyuan_dit():
    return diffusers.HunyuanDiTPipeline(
        vae=parts.autoencoder(),
        text_encoder=_bert(),
        tokenizer=parts.bert_tokenizer(77),
        text_encoder_2=parts.t5(),
        tokenizer_2=t5_tokenizer(256),
        scheduler=diffusers.DDPMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        transformer=diffusers.HunyuanDiT2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            in_channels=4,
            attention_head_dim=8,
            num_attention_heads=2,
            hidden_size=16,
            cross_attention_dim=16,
            cross_attention_dim_t5=32,
            pooled_projection_dim=16,
        ),
    )


def _bert():
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertModel(BertConfig(vocab_size=64, max_position_embeddings=80, **sizes))


def hunyuan_image():
    from transformers import ByT5Tokenizer

    return diffusers.HunyuanImagePipeline(
        scheduler=parts.flow(),
        vae=diffusers.AutoencoderKLHunyuanImage(
            in_channels=3,
            out_channels=3,
            latent_channels=8,
            block_out_channels=(32, 32, 32),
            layers_per_block=1,
            spatial_compression_ratio=4,
            sample_size=32,
            scaling_factor=0.75,
        ),
        text_encoder=parts.vision_language_model("Qwen2_5_VLForConditionalGeneration", layers=3),
        tokenizer=parts.byte_tokenizer(),
        text_encoder_2=parts.t5(16, vocabulary=384),
        tokenizer_2=ByT5Tokenizer(),
        transformer=diffusers.HunyuanImageTransformer2DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            text_embed_dim=16,
            text_embed_2_dim=16,
            rope_axes_dim=(4, 4),
        ),
    )


def cogview3_plus():
    return diffusers.CogView3PlusPipeline(
        tokenizer=t5_tokenizer(224),
        text_encoder=parts.t5(),
        vae=parts.autoencoder(),
        scheduler=diffusers.CogVideoXDDIMScheduler(snr_shift_scale=4.0, rescale_betas_zero_snr=True),
        transformer=diffusers.CogView3PlusTransformer2DModel(
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            out_channels=4,
            text_embed_dim=32,
            time_embed_dim=8,
            condition_dim=4,
            pos_embed_max_size=16,
            sample_size=8,
        ),
    )


def cogview4():
    return diffusers.CogView4Pipeline(
        tokenizer=parts.starting_tokenizer(),
        text_encoder=parts.language_model("GlmModel", num_hidden_layers=2),
        vae=parts.autoencoder(),
        scheduler=parts.flow(base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear"),
        transformer=cogview4_transformer(),
    )


def cogview4_transformer(channels: int = 4):
    return diffusers.CogView4Transformer2DModel(
        in_channels=channels,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=16,
        time_embed_dim=8,
        condition_dim=4,
        pos_embed_max_size=16,
        sample_size=8,
        rope_axes_dim=(16, 16),
    )


def prx():
    from transformers.models.t5gemma.configuration_t5gemma import T5GemmaConfig
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    half = {name: value for name, value in parts.LANGUAGE.items() if name != "bos_token_id"}
    half |= {"sliding_window": 64, "layer_types": ["full_attention"]}
    config = T5GemmaConfig(encoder=half, decoder=half)
    encoder = T5GemmaEncoder(config.encoder)
    encoder.config = config  # published ones are saved with the whole model's
    return diffusers.PRXPipeline(
        scheduler=parts.flow(),
        vae=parts.flux_autoencoder(),
        text_encoder=encoder,
        tokenizer=parts.byte_tokenizer(64),
        default_sample_size=64,
        transformer=diffusers.PRXTransformer2DModel(
            in_channels=16, context_in_dim=16, hidden_size=32, num_heads=2, depth=2, axes_dim=[8, 8]
        ),
    )


def qwen_image():
    return diffusers.QwenImagePipeline(**qwen_parts(), tokenizer=parts.byte_tokenizer())


def qwen_parts(**extra):
    """Qwen-Image's parts but the tokenizer."""
    return {
        "scheduler": parts.flow(use_dynamic_shifting=True),
        "vae": parts.video_autoencoder("AutoencoderKLQwenImage", 4),
        "text_encoder": parts.vision_language_model("Qwen2_5_VLForConditionalGeneration"),
        "transformer": diffusers.QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=_ROPE,
            **extra,
        ),
    }


def z_image():
    return diffusers.ZImagePipeline(
        scheduler=parts.flow(),
        vae=parts.flux_autoencoder(),
        text_encoder=parts.language_model("Qwen3Model", num_hidden_layers=2),
        tokenizer=parts.byte_tokenizer(),
        transformer=diffusers.ZImageTransformer2DModel(
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[4, 6, 6],
            axes_lens=[1024, 32, 32],
        ),
    )


def chroma():
    return diffusers.ChromaPipeline(
        scheduler=parts.flow(),
        vae=parts.flux_autoencoder(),
        text_encoder=parts.t5(),
        tokenizer=t5_tokenizer(),
        transformer=diffusers.ChromaTransformer2DModel(
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=_ROPE,
            approximator_num_channels=8,
            approximator_hidden_dim=32,
            approximator_layers=1,
        ),
    )


def hidream():
    return diffusers.HiDreamImagePipeline(
        scheduler=parts.flow(),
        vae=parts.flux_autoencoder(blocks=1),  # it draws 128 × 128 cells, whatever is asked
        text_encoder=parts.clip_projection(128),
        tokenizer=clip_tokenizer(),
        text_encoder_2=parts.clip_projection(128),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=parts.t5(),
        tokenizer_3=t5_tokenizer(),
        text_encoder_4=parts.language_model("LlamaForCausalLM", hidden_size=32, num_hidden_layers=2),
        tokenizer_4=parts.byte_tokenizer(),
        transformer=diffusers.HiDreamImageTransformer2DModel(
            patch_size=4,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            caption_channels=[32, 32],
            text_emb_dim=64,
            num_routed_experts=2,
            num_activated_experts=1,
            axes_dims_rope=(8, 4, 4),
            max_resolution=(32, 32),
            llama_layers=[0, 1],
        ),
    )


def bria():
    return diffusers.BriaPipeline(
        transformer=diffusers.BriaTransformer2DModel(**{**FLUX, "in_channels": 16, "pooled_projection_dim": None}),
        scheduler=parts.flow(),
        vae=parts.autoencoder(),
        text_encoder=parts.t5(),
        tokenizer=t5_tokenizer(),
    )


def bria_fibo():
    return diffusers.BriaFiboPipeline(
        transformer=diffusers.BriaFiboTransformer2DModel(
            **{**FLUX, "in_channels": 16, "pooled_projection_dim": None, "text_encoder_dim": 16}
        ),
        scheduler=parts.flow(),
        vae=parts.video_autoencoder(in_channels=12, out_channels=12, patch_size=2, scale_factor_spatial=16),
        text_encoder=parts.language_model("SmolLM3ForCausalLM", vocab_size=128_001),
        tokenizer=parts.byte_tokenizer(),
    )


def ovis():
    return diffusers.OvisImagePipeline(
        scheduler=parts.flow(),
        vae=parts.flux_autoencoder(),
        text_encoder=parts.language_model("Qwen3Model"),
        tokenizer=parts.byte_tokenizer(),
        transformer=diffusers.OvisImageTransformer2DModel(
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=_ROPE,
        ),
    )


def krea2():
    return diffusers.Krea2Pipeline(
        scheduler=parts.flow(),
        vae=parts.video_autoencoder("AutoencoderKLQwenImage", 4),
        text_encoder=parts.vision_language_model("Qwen3VLModel", layers=3),
        tokenizer=parts.byte_tokenizer(),
        text_encoder_select_layers=(1, 2),
        transformer=diffusers.Krea2Transformer2DModel(
            in_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=32,
            timestep_embed_dim=8,
            text_hidden_dim=16,
            num_text_layers=2,
            text_num_attention_heads=2,
            text_num_key_value_heads=2,
            text_intermediate_size=32,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=_ROPE,
        ),
    )


def ernie():
    return diffusers.ErnieImagePipeline(
        vae=parts.flux2_autoencoder(),
        text_encoder=parts.vision_language_model("Mistral3Model", layers=2),
        tokenizer=parts.byte_tokenizer(),
        scheduler=parts.flow(),
        transformer=diffusers.ErnieImageTransformer2DModel(
            hidden_size=32,
            num_attention_heads=2,
            num_layers=2,
            ffn_hidden_size=64,
            in_channels=32,
            out_channels=32,
            text_in_dim=16,
            rope_axes_dim=_ROPE,
        ),
    )


IMAGES = {
    "dit": build_dit,
    "pixart-alpha": pixart_alpha,
    "pixart-sigma": build_pixart,
    "sd3": build_sd3,
    "flux-schnell": build_flux,
    "flux-dev": flux_dev,
    "flux2-klein": flux2_klein,
    "sana": sana,
    "sana-sprint": sana_sprint,
    "lumina": lumina,
    "lumina2": lumina2,
    "aura-flow": aura_flow,
    "hunyuan-dit": hunyuan_dit,
    "hunyuan-image": hunyuan_image,
    "cogview3-plus": cogview3_plus,
    "cogview4": cogview4,
    "prx": prx,
    "qwen-image": qwen_image,
    "z-image": z_image,
    "chroma": chroma,
    "hidream": hidream,
    "bria": bria,
    "bria-fibo": bria_fibo,
    "ovis": ovis,
    "krea2": krea2,
    "ernie": ernie,
}
"""Family → what builds its tiny pipeline."""
