"""Tiny transformers of families that mask padding, each with a call of two rows; all random and seeded."""

from __future__ import annotations

import diffusers
import torch

TEXT, PICTURE = 7, 16
"""Tokens of the padded text and of the picture."""

LENGTHS = (3, 5)
"""Tokens of the two texts."""


def mask(lengths=LENGTHS, size: int = TEXT) -> torch.Tensor:
    """(rows, tokens) bool, True is text."""
    return torch.arange(size) < torch.tensor(lengths)[:, None]


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _qwen():
    rope = {"axes_dims_rope": (4, 6, 6), "attention_head_dim": 16, "num_attention_heads": 2}
    model = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, joint_attention_dim=16, **rope
    )
    shapes = [[(1, 4, 4)]] * 2
    call = {"encoder_hidden_states_mask": mask().long(), "img_shapes": shapes, "hidden_states": _noise(2, PICTURE, 16)}
    return model, call | {"encoder_hidden_states": _noise(2, TEXT, 16)}


def _lumina2():
    heads = {"num_attention_heads": 2, "num_kv_heads": 1, "axes_dim_rope": (4, 4, 4), "axes_lens": (32, 32, 32)}
    model = diffusers.Lumina2Transformer2DModel(
        in_channels=4, hidden_size=24, num_layers=2, num_refiner_layers=1, multiple_of=8, cap_feat_dim=16, **heads
    )
    call = {"hidden_states": _noise(2, 4, 8, 8), "encoder_hidden_states": _noise(2, TEXT, 16)}
    return model, call | {"encoder_attention_mask": mask().long()}


def _hunyuan_dit():
    from diffusers.models.embeddings import get_2d_rotary_pos_embed

    model = diffusers.HunyuanDiT2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        patch_size=2,
        sample_size=8,
        hidden_size=16,
        num_layers=2,
        cross_attention_dim=16,
        cross_attention_dim_t5=16,
        pooled_projection_dim=8,
        text_len=TEXT,
        text_len_t5=9,
        use_style_cond_and_image_meta_size=False,
    )
    call = {"encoder_hidden_states": _noise(2, TEXT, 16), "text_embedding_mask": mask().long()}
    call |= {"encoder_hidden_states_t5": _noise(2, 9, 16), "text_embedding_mask_t5": mask((2, 9), 9).long()}
    rope = get_2d_rotary_pos_embed(8, ((0, 0), (4, 4)), (4, 4), output_type="pt")
    return model, call | {"hidden_states": _noise(2, 4, 8, 8), "image_rotary_emb": rope}


def _ltx():
    heads = {"num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": 16, "caption_channels": 16}
    model = diffusers.LTXVideoTransformer3DModel(in_channels=8, out_channels=8, num_layers=2, **heads)
    call = {"hidden_states": _noise(2, PICTURE, 8), "num_frames": 1, "height": 4, "width": 4}
    return model, call | {"encoder_hidden_states": _noise(2, TEXT, 16), "encoder_attention_mask": mask().long()}


def _hunyuan_video():
    heads = {"num_attention_heads": 2, "attention_head_dim": 16, "rope_axes_dim": (4, 6, 6), "patch_size": 1}
    blocks = {"num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1, "text_embed_dim": 16}
    model = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, pooled_projection_dim=8, **heads, **blocks
    )
    call = {"hidden_states": _noise(2, 4, 1, 4, 4), "pooled_projections": _noise(2, 8), "guidance": torch.ones(2)}
    return model, call | {"encoder_hidden_states": _noise(2, TEXT, 16), "encoder_attention_mask": mask().long()}


def _hunyuan_image():
    """With a second text, of which the first row has nothing but padding."""
    heads = {"num_attention_heads": 2, "attention_head_dim": 16, "rope_axes_dim": (8, 8), "patch_size": (1, 1)}
    blocks = {"num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1}
    model = diffusers.HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, text_embed_dim=16, text_embed_2_dim=8, **heads, **blocks
    )
    call = {"hidden_states": _noise(2, 4, 4, 4), "encoder_hidden_states_2": torch.zeros(2, 5, 8)}
    call |= {"encoder_hidden_states": _noise(2, TEXT, 16), "encoder_attention_mask": mask().long()}
    call["encoder_hidden_states_2"][1, :2] = _noise(2, 8)
    return model, call | {"encoder_attention_mask_2": mask((0, 2), 5).long()}


def _mochi():
    model = diffusers.MochiTransformer3DModel(
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=16,
        time_embed_dim=4,
        max_sequence_length=TEXT,
    )
    call = {"hidden_states": _noise(2, 4, 1, 8, 8), "encoder_hidden_states": _noise(2, TEXT, 16)}
    return model, call | {"encoder_attention_mask": mask()}


def _z_image():
    """Its texts come as a list; it pads each to a multiple of 32 with tokens that are read, and all to the longest."""
    rope = {"axes_dims": [4, 6, 6], "axes_lens": [256, 32, 32]}
    model = diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16, **rope
    )
    for token in (model.x_pad_token, model.cap_pad_token):
        torch.nn.init.normal_(token)
    return model, {"x": list(_noise(2, 4, 1, 8, 8)), "cap_feats": [_noise(3, 16), _noise(40, 16)]}


def _omnigen():
    from diffusers.pipelines.omnigen.processor_omnigen import OmniGenCollator

    scaling = {"long_factor": [1.0] * 4, "short_factor": [1.0] * 4, "type": "su"}
    model = diffusers.OmniGenTransformer2DModel(
        in_channels=4,
        hidden_size=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        num_layers=2,
        pad_token_id=0,
        vocab_size=50,
        max_position_embeddings=512,
        original_max_position_embeddings=512,
        time_step_dim=8,
        rope_scaling=scaling,
    )
    collator, read = OmniGenCollator(pad_token_id=0, hidden_size=16), mask().flip(1).long()  # padded at the left
    ids = torch.randint(1, 50, (2, TEXT), generator=torch.Generator().manual_seed(0)) * read
    call = {"attention_mask": collator.create_mask(read, [PICTURE] * 2)[0], "input_ids": ids}
    call |= {"position_ids": collator.create_position(read, [PICTURE] * 2), "hidden_states": _noise(2, 4, 8, 8)}
    return model, call | {"input_img_latents": [], "input_image_sizes": {}}


def _ernie():
    """It takes lengths instead of a mask; its feed-forward layers see (tokens, rows, width)."""
    model = diffusers.ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=2,
        ffn_hidden_size=32,
        in_channels=4,
        out_channels=4,
        text_in_dim=16,
        rope_axes_dim=(4, 6, 6),
    )
    call = {"hidden_states": _noise(2, 4, 4, 4), "text_bth": _noise(2, TEXT, 16)}
    return model, call | {"text_lens": torch.tensor(LENGTHS)}


def _ideogram():
    """Padding, text and picture in one sequence, told apart by numbers of segments."""
    model = diffusers.Ideogram4Transformer2DModel(
        in_channels=8,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        intermediate_size=32,
        adaln_dim=8,
        llm_features_dim=16,
        mrope_section=(4, 2, 2),
    )
    prepare = diffusers.Ideogram4Pipeline._prepare_ids
    ids = prepare(list(LENGTHS), 4, 4, TEXT, torch.device("cpu"))
    call = {"hidden_states": _noise(2, TEXT + PICTURE, 8), "encoder_hidden_states": _noise(2, TEXT + PICTURE, 16)}
    return model, call | dict(zip(("position_ids", "segment_ids", "indicator"), ids, strict=True))


def _fibo():
    """Its mask spans text and picture and lies in a dictionary."""
    model = diffusers.BriaFiboTransformer2DModel(
        in_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=[4, 6, 6],
        text_encoder_dim=8,
    )
    read = torch.cat([mask(), torch.ones(2, PICTURE, dtype=torch.bool)], 1)
    call = {"hidden_states": _noise(2, PICTURE, 8), "encoder_hidden_states": _noise(2, TEXT, 16)}
    call |= {"text_encoder_layers": [_noise(2, TEXT, 8)] * 2, "joint_attention_kwargs": {}}
    call["joint_attention_kwargs"]["attention_mask"] = read[:, None, None, :]
    return model, call | {"img_ids": torch.zeros(PICTURE, 3), "txt_ids": torch.zeros(TEXT, 3)}


def _chroma():
    """Its float mask of ones and zeros is added to the scores, so that padding is read, only less."""
    model = diffusers.ChromaTransformer2DModel(
        in_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
        approximator_num_channels=8,
        approximator_hidden_dim=16,
        approximator_layers=1,
    )
    read = torch.cat([mask().float(), torch.ones(2, PICTURE)], 1)
    call = {"hidden_states": _noise(2, PICTURE, 8), "encoder_hidden_states": _noise(2, TEXT, 16)}
    return model, call | {"attention_mask": read, "img_ids": torch.zeros(PICTURE, 3), "txt_ids": torch.zeros(TEXT, 3)}


FAMILIES = {
    "qwen": _qwen,
    "lumina2": _lumina2,
    "hunyuan-dit": _hunyuan_dit,
    "ltx": _ltx,
    "hunyuan-video": _hunyuan_video,
    "hunyuan-image": _hunyuan_image,
    "mochi": _mochi,
    "z-image": _z_image,
    "omnigen": _omnigen,
    "ernie": _ernie,
    "ideogram": _ideogram,
    "fibo": _fibo,
    "chroma": _chroma,
}


def build(family: str) -> tuple[torch.nn.Module, dict]:
    """A family's transformer and the keyword arguments of a call; what starts as zeros is random."""
    torch.manual_seed(0)
    model, call = FAMILIES[family]()
    model.eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            if not bool(parameter.any()):
                parameter.normal_(std=0.1)
    time = "t" if family == "z-image" else "timestep"
    scale = 1000.0 if family in ("lumina2", "hunyuan-dit", "ltx", "hunyuan-video", "hunyuan-image", "mochi") else 1.0
    return model, {**call, time: torch.full((2,), 0.5 * scale), "return_dict": False}
