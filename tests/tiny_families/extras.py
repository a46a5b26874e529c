"""Families whose parts need torchvision (processors of pictures), and one that needs ftfy."""

from __future__ import annotations

import diffusers
import torch
from tiny_models import clip_tokenizer

from tiny_families import parts
from tiny_families.edits import wan_transformer
from tiny_families.images import flux2_transformer, qwen_parts

_ROPE = (4, 6, 6)
_EYES = {"patch_size": 14, "merge_size": 2, "min_pixels": 28 * 28, "max_pixels": 28 * 28 * 4}


def qwen2_processor():
    """Eyes and tokenizer of Qwen2.5-VL."""
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(**_EYES),
        tokenizer=parts.byte_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=parts.CHAT_TEMPLATE,
    )


def qwen3_processor():
    """Eyes and tokenizer of Qwen3-VL."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**_EYES),
        tokenizer=parts.byte_tokenizer(),
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=parts.CHAT_TEMPLATE,
    )


def mistral_processor():
    """Eyes and tokenizer of Mistral 3."""
    from transformers import PixtralImageProcessor, PixtralProcessor

    return PixtralProcessor(
        image_processor=PixtralImageProcessor(size={"longest_edge": 28}, patch_size=14),
        tokenizer=parts.byte_tokenizer(),
        patch_size=14,
        image_token="<|image_pad|>",
        image_break_token="<|vision_start|>",
        image_end_token="<|vision_end|>",
        chat_template=parts.CHAT_TEMPLATE,
    )


def flux2_dev():
    return diffusers.Flux2Pipeline(
        scheduler=parts.flow(),
        vae=parts.flux2_autoencoder(),
        text_encoder=parts.vision_language_model("Mistral3ForConditionalGeneration", layers=30),
        tokenizer=mistral_processor(),
        transformer=flux2_transformer(guidance_embeds=True),
    )


def qwen_edit():
    return diffusers.QwenImageEditPipeline(
        **qwen_parts(), tokenizer=parts.byte_tokenizer(), processor=qwen2_processor()
    )


def qwen_edit_plus():
    return diffusers.QwenImageEditPlusPipeline(
        **qwen_parts(), tokenizer=parts.byte_tokenizer(), processor=qwen2_processor()
    )


def kandinsky5():
    return diffusers.Kandinsky5T2IPipeline(
        transformer=_kandinsky_transformer(),
        vae=parts.flux_autoencoder(),
        **_kandinsky_parts(),
    )


def _kandinsky_parts():
    return {
        "text_encoder": parts.vision_language_model("Qwen2_5_VLForConditionalGeneration"),
        "tokenizer": qwen2_processor(),
        "text_encoder_2": parts.clip(positions=77),
        "tokenizer_2": clip_tokenizer(),
        "scheduler": parts.flow(),
    }


def _kandinsky_transformer():
    return diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=16,
        in_text_dim=16,
        in_text_dim2=32,
        time_dim=16,
        out_visual_dim=16,
        model_dim=32,
        ff_dim=64,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=_ROPE,
    )


def nucleus():
    pipeline = _nucleus()
    for name, parameter in pipeline.transformer.named_parameters():
        if "experts" in name:  # which the class leaves as memory has it
            torch.nn.init.normal_(parameter.data, std=0.1)
    return pipeline


def _nucleus():
    return diffusers.NucleusMoEImagePipeline(
        transformer=diffusers.NucleusMoEImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=5,
            attention_head_dim=16,
            num_attention_heads=2,
            num_key_value_heads=1,
            joint_attention_dim=16,
            axes_dims_rope=_ROPE,
            num_experts=4,
            moe_intermediate_dim=16,
            capacity_factors=2.0,
            mlp_ratio=8.0,
        ),
        scheduler=parts.flow(),
        vae=parts.video_autoencoder("AutoencoderKLQwenImage", 4),
        text_encoder=parts.vision_language_model("Qwen3VLForConditionalGeneration", layers=9),
        processor=qwen3_processor(),
    )


def omnigen():
    from transformers import PreTrainedTokenizerFast

    return diffusers.OmniGenPipeline(
        transformer=diffusers.OmniGenTransformer2DModel(
            hidden_size=16,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=32,
            num_layers=1,
            pad_token_id=0,
            vocab_size=parts.VOCABULARY,
            rope_scaling={"short_factor": [1.0] * 4, "long_factor": [1.0] * 4, "type": "su"},
            pos_embed_max_size=32,
            time_step_dim=16,
        ),
        scheduler=parts.flow(invert_sigmas=True, num_train_timesteps=1),
        vae=parts.autoencoder(),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=parts.byte_tokenizer().backend_tokenizer, pad_token="<|endoftext|>", model_max_length=1024
        ),
    )


def longcat():
    return diffusers.LongCatImagePipeline(
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=parts.flux_autoencoder(),
        text_encoder=parts.vision_language_model("Qwen2_5_VLForConditionalGeneration"),
        tokenizer=parts.byte_tokenizer(),
        text_processor=qwen2_processor(),
        transformer=diffusers.LongCatImageTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=_ROPE,
        ),
    )


def fibo2():
    return diffusers.BriaFibo2Pipeline(
        transformer=diffusers.BriaFibo2Transformer2DModel(
            in_channels=8,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            cap_feat_dim=48,
            injection_layer_ids=(0,),
            perceiver_num_layers=1,
            min_num_gist_tokens=4,
            max_num_gist_tokens=8,
            gist_step=4,
            gist_min_text_len=4,
            gist_max_text_len=64,
            axes_dims=_ROPE,
            axes_lens=(2048, 64, 64),
        ),
        scheduler=parts.flow(),
        vae=parts.flux2_autoencoder(),
        text_encoder=parts.vision_language_model("Qwen3VLForConditionalGeneration", layers=36),
        processor=qwen3_processor(),
    )


def qwen21():
    return diffusers.QwenImage21Pipeline(
        scheduler=parts.flow(use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKLQwenImage21(
            base_dim=4,
            decoder_base_dim=4,
            z_dim=16,
            dim_mult=[1, 1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.1] * 16,
            latents_std=[1.5] * 16,
        ),
        text_encoder=parts.vision_language_model("Qwen3VLForConditionalGeneration", layers=2),
        processor=qwen3_processor(),
        transformer=diffusers.QwenImage21Transformer2DModel(
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            context_in_dim=16,
            axes_dims_rope=_ROPE,
        ),
    )


def skyreels():
    from tiny_models import t5_tokenizer

    return diffusers.SkyReelsV2Pipeline(
        tokenizer=t5_tokenizer(512),
        text_encoder=parts.t5(kind="UMT5"),
        vae=parts.video_autoencoder(),
        scheduler=diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        transformer=wan_transformer("SkyReelsV2Transformer3DModel"),
    )


WITH_TORCHVISION = {
    "flux2-dev": flux2_dev,
    "qwen-edit": qwen_edit,
    "qwen-edit-plus": qwen_edit_plus,
    "qwen-image-2.1": qwen21,
    "kandinsky5": kandinsky5,
    "nucleus-moe": nucleus,
    "omnigen": omnigen,
    "longcat": longcat,
    "bria-fibo2": fibo2,
}
"""Family → what builds its tiny pipeline, where torchvision is installed."""
WITH_FTFY = {"skyreels-v2": skyreels}
"""Family → what builds its tiny pipeline, where ftfy is installed."""
