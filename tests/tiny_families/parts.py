"""Tokenizers, text encoders and autoencoders of tiny pipelines, random and built without any file."""

from __future__ import annotations

from tiny_models import clip_text_config, clip_tokenizer, t5_tokenizer

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part.get('text', '<|image_pad|>') }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>")
_MARKS += ("<|video_pad|>",)
VOCABULARY = 320
_SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_WORDS = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
LANGUAGE = {**_SMALL, **_WORDS, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4096}


def byte_tokenizer(length: int = 1024):
    """A Qwen tokenizer of single bytes with the marks of a chat."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    vocab = {mark: index for index, mark in enumerate(_MARKS)}
    vocab |= {byte: len(vocab) + index for index, byte in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(
        vocab=vocab, merges=[], model_max_length=length, additional_special_tokens=list(_MARKS[1:])
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def starting_tokenizer():
    """A tokenizer of single bytes that puts a mark before every text, also before an empty one, as GLM's does."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    inner = byte_tokenizer().backend_tokenizer
    inner.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<|endoftext|>", model_max_length=1024)


def bert_tokenizer(length: int = 16):
    """A BERT tokenizer that knows single letters."""
    from transformers import BertTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizer(vocab={word: index for index, word in enumerate(words)}, model_max_length=length)


def t5(width: int = 32, kind: str = "T5", vocabulary: int = 64):
    """A T5, UMT5 or ByT5 encoder."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=vocabulary, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, tie_word_embeddings=False
    )
    return getattr(transformers, f"{kind}EncoderModel")(config)


def clip(positions: int = 16):
    from transformers import CLIPTextModel

    config = clip_text_config()
    config.max_position_embeddings = positions
    return CLIPTextModel(config)


def clip_projection(positions: int = 16):
    from transformers import CLIPTextModelWithProjection

    config = clip_text_config(projection_dim=32)
    config.max_position_embeddings = positions
    return CLIPTextModelWithProjection(config)


def flux_parts():
    """The text encoders of FLUX.1."""
    return {
        "text_encoder": clip(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5(),
        "tokenizer_2": t5_tokenizer(),
    }


def language_model(name: str, **extra):
    """A decoder-only language model by its class name, e.g. "Gemma2Model"."""
    import transformers

    kind = getattr(transformers, name)
    return kind(kind.config_class(**{**LANGUAGE, **extra}))


def vision_language_model(name: str, layers: int = 1):
    """A Qwen2.5-VL, Qwen3-VL or Mistral 3 by its class name; it has eyes for pictures of any size."""
    import transformers

    kind = getattr(transformers, name)
    text = {**LANGUAGE, "num_hidden_layers": layers, "rope_theta": 10000.0}
    ids = {}
    if name.startswith("Mistral3"):
        eyes = {**_SMALL, "head_dim": 8, "image_size": 28, "patch_size": 14, "model_type": "pixtral"}
        text["model_type"] = "mistral"
    elif name.startswith("Qwen3VL"):
        text["rope_scaling"] = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
        eyes = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16}
        eyes |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0], "patch_size": 14}
    else:
        text["rope_scaling"] = {"rope_type": "default", "type": "default", "mrope_section": [2, 1, 1]}
        eyes = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16}
        eyes |= {"fullatt_block_indexes": [0]}
    if name.startswith("Qwen"):
        ids = {"image_token_id": 3, "vision_start_token_id": 4, "vision_end_token_id": 5, "video_token_id": 6}
    return kind(kind.config_class(text_config=text, vision_config=eyes, **ids))


def autoencoder(channels: int = 4, blocks: int = 4, **extra):
    """A KL autoencoder of 8 pixels per cell, or of half as many for each block less."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 4, 8, 8)[:blocks],
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=channels,
        layers_per_block=1,
        mid_block_add_attention=False,
        **{"use_quant_conv": False, "use_post_quant_conv": False, **extra},
    )


def flux_autoencoder(blocks: int = 4):
    return autoencoder(16, blocks, scaling_factor=0.4, shift_factor=0.1)


def flux2_autoencoder():
    """FLUX.2's, with 8 channels that are packed to 32."""
    from diffusers import AutoencoderKLFlux2

    return AutoencoderKLFlux2(
        block_out_channels=(4, 4, 8, 8),
        norm_num_groups=2,
        latent_channels=8,
        layers_per_block=1,
        mid_block_add_attention=False,
    )


def deep_autoencoder(channels: int = 8):
    """A deep-compression autoencoder of 4 pixels per cell."""
    from diffusers import AutoencoderDC

    blocks = {"block_out_channels": (8, 8, 8), "layers_per_block": (1, 1, 1), "qkv_multiscales": ((), (), ())}
    return AutoencoderDC(
        latent_channels=channels,
        attention_head_dim=4,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        upsample_block_type="interpolate",
        downsample_block_type="stride_conv",
        decoder_act_fns="silu",
        scaling_factor=0.41,
        **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in blocks.items()},
    )


def video_autoencoder(kind: str = "AutoencoderKLWan", channels: int = 16, **extra):
    """Wan's or Qwen-Image's, which has statistics per latent channel; 8 pixels and 4 frames per cell."""
    import diffusers

    return getattr(diffusers, kind)(
        base_dim=4,
        z_dim=channels,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1] * channels,
        latents_std=[1.5] * channels,
        **extra,
    )


def flow(shift: float = 3.0, **extra):
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=shift, **extra)
