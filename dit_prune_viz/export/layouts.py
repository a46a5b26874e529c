"""The layouts in which transformers were first published, and which ComfyUI reads, from diffusers' own.

diffusers split fused projections and renamed layers; here they come together again. What each name becomes is said in
tables, which are the inverse of diffusers' readers in `diffusers/loaders/single_file_utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

_TIME_AND_TEXT = {
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
}
_STREAMS = {
    "txt_in": "context_embedder",
    "img_in": "x_embedder",
    "final_layer.linear": "proj_out",
    "double_blocks.#.img_attn.qkv": (
        "transformer_blocks.#.attn.to_q",
        "transformer_blocks.#.attn.to_k",
        "transformer_blocks.#.attn.to_v",
    ),
    "double_blocks.#.txt_attn.qkv": (
        "transformer_blocks.#.attn.add_q_proj",
        "transformer_blocks.#.attn.add_k_proj",
        "transformer_blocks.#.attn.add_v_proj",
    ),
    "double_blocks.#.img_attn.norm.query_norm.scale": "transformer_blocks.#.attn.norm_q.weight",
    "double_blocks.#.img_attn.norm.key_norm.scale": "transformer_blocks.#.attn.norm_k.weight",
    "double_blocks.#.txt_attn.norm.query_norm.scale": "transformer_blocks.#.attn.norm_added_q.weight",
    "double_blocks.#.txt_attn.norm.key_norm.scale": "transformer_blocks.#.attn.norm_added_k.weight",
    "double_blocks.#.img_attn.proj": "transformer_blocks.#.attn.to_out.0",
    "double_blocks.#.txt_attn.proj": "transformer_blocks.#.attn.to_add_out",
    "double_blocks.#.img_mlp.0": "transformer_blocks.#.ff.net.0.proj",
    "double_blocks.#.img_mlp.2": "transformer_blocks.#.ff.net.2",
    "double_blocks.#.txt_mlp.0": "transformer_blocks.#.ff_context.net.0.proj",
    "double_blocks.#.txt_mlp.2": "transformer_blocks.#.ff_context.net.2",
    "single_blocks.#.linear1": (
        "single_transformer_blocks.#.attn.to_q",
        "single_transformer_blocks.#.attn.to_k",
        "single_transformer_blocks.#.attn.to_v",
        "single_transformer_blocks.#.proj_mlp",
    ),
    "single_blocks.#.linear2": "single_transformer_blocks.#.proj_out",
    "single_blocks.#.norm.query_norm.scale": "single_transformer_blocks.#.attn.norm_q.weight",
    "single_blocks.#.norm.key_norm.scale": "single_transformer_blocks.#.attn.norm_k.weight",
}
_FLUX = {
    **_TIME_AND_TEXT,
    **_STREAMS,
    "double_blocks.#.img_mod.lin": "transformer_blocks.#.norm1.linear",
    "double_blocks.#.txt_mod.lin": "transformer_blocks.#.norm1_context.linear",
    "single_blocks.#.modulation.lin": "single_transformer_blocks.#.norm.linear",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_CHROMA = {
    **_STREAMS,
    "distilled_guidance_layer.in_proj": "distilled_guidance_layer.in_proj",
    "distilled_guidance_layer.out_proj": "distilled_guidance_layer.out_proj",
    "distilled_guidance_layer.layers.#.in_layer": "distilled_guidance_layer.layers.#.linear_1",
    "distilled_guidance_layer.layers.#.out_layer": "distilled_guidance_layer.layers.#.linear_2",
    "distilled_guidance_layer.norms.#.scale": "distilled_guidance_layer.norms.#.weight",
}
_FLUX2 = {
    **_STREAMS,
    "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
    "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
    "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
    "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
    "single_stream_modulation.lin": "single_stream_modulation.linear",
    "double_blocks.#.img_mlp.0": "transformer_blocks.#.ff.linear_in",
    "double_blocks.#.img_mlp.2": "transformer_blocks.#.ff.linear_out",
    "double_blocks.#.txt_mlp.0": "transformer_blocks.#.ff_context.linear_in",
    "double_blocks.#.txt_mlp.2": "transformer_blocks.#.ff_context.linear_out",
    "single_blocks.#.linear1": "single_transformer_blocks.#.attn.to_qkv_mlp_proj",
    "single_blocks.#.linear2": "single_transformer_blocks.#.attn.to_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_SD3 = {
    "pos_embed": "pos_embed.pos_embed",
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "context_embedder": "context_embedder",
    "joint_blocks.#.x_block.attn.qkv": (
        "transformer_blocks.#.attn.to_q",
        "transformer_blocks.#.attn.to_k",
        "transformer_blocks.#.attn.to_v",
    ),
    "joint_blocks.#.context_block.attn.qkv": (
        "transformer_blocks.#.attn.add_q_proj",
        "transformer_blocks.#.attn.add_k_proj",
        "transformer_blocks.#.attn.add_v_proj",
    ),
    "joint_blocks.#.x_block.attn2.qkv": (
        "transformer_blocks.#.attn2.to_q",
        "transformer_blocks.#.attn2.to_k",
        "transformer_blocks.#.attn2.to_v",
    ),
    "joint_blocks.#.x_block.attn.ln_q": "transformer_blocks.#.attn.norm_q",
    "joint_blocks.#.x_block.attn.ln_k": "transformer_blocks.#.attn.norm_k",
    "joint_blocks.#.x_block.attn2.ln_q": "transformer_blocks.#.attn2.norm_q",
    "joint_blocks.#.x_block.attn2.ln_k": "transformer_blocks.#.attn2.norm_k",
    "joint_blocks.#.context_block.attn.ln_q": "transformer_blocks.#.attn.norm_added_q",
    "joint_blocks.#.context_block.attn.ln_k": "transformer_blocks.#.attn.norm_added_k",
    "joint_blocks.#.x_block.attn.proj": "transformer_blocks.#.attn.to_out.0",
    "joint_blocks.#.x_block.attn2.proj": "transformer_blocks.#.attn2.to_out.0",
    "joint_blocks.#.context_block.attn.proj": "transformer_blocks.#.attn.to_add_out",
    "joint_blocks.#.x_block.adaLN_modulation.1": "transformer_blocks.#.norm1.linear",
    "joint_blocks.#.context_block.adaLN_modulation.1": "transformer_blocks.#.norm1_context.linear",
    "joint_blocks.#.x_block.mlp.fc1": "transformer_blocks.#.ff.net.0.proj",
    "joint_blocks.#.x_block.mlp.fc2": "transformer_blocks.#.ff.net.2",
    "joint_blocks.#.context_block.mlp.fc1": "transformer_blocks.#.ff_context.net.0.proj",
    "joint_blocks.#.context_block.mlp.fc2": "transformer_blocks.#.ff_context.net.2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_LUMINA2_BLOCK = {
    "attention.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "attention.out": "attn.to_out.0",
    "attention.q_norm": "attn.norm_q",
    "attention.k_norm": "attn.norm_k",
    "attention_norm2": "norm2",
    "ffn_norm1": "ffn_norm1",
    "ffn_norm2": "ffn_norm2",
    "feed_forward.w1": "feed_forward.linear_1",
    "feed_forward.w2": "feed_forward.linear_2",
    "feed_forward.w3": "feed_forward.linear_3",
}
_LUMINA2_MODULATED = {"attention_norm1": "norm1.norm", "adaLN_modulation.1": "norm1.linear"}


def _in_blocks(stack: str, table: Mapping[str, str | tuple[str, ...]]) -> dict[str, str | tuple[str, ...]]:
    def placed(name: str) -> str:
        return f"{stack}.#.{name}"

    return {
        placed(original): placed(ours) if isinstance(ours, str) else tuple(map(placed, ours))
        for original, ours in table.items()
    }


_LUMINA2 = {
    "x_embedder": "x_embedder",
    "t_embedder.mlp.0": "time_caption_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_caption_embed.timestep_embedder.linear_2",
    "cap_embedder.0": "time_caption_embed.caption_embedder.0",
    "cap_embedder.1": "time_caption_embed.caption_embedder.1",
    **_in_blocks("noise_refiner", _LUMINA2_BLOCK | _LUMINA2_MODULATED),
    **_in_blocks("context_refiner", _LUMINA2_BLOCK | {"attention_norm1": "norm1"}),
    **_in_blocks("layers", _LUMINA2_BLOCK | _LUMINA2_MODULATED),
    "final_layer.adaLN_modulation.1": "norm_out.linear_1",
    "final_layer.linear": "norm_out.linear_2",
}
_WAN_ATTENTION = {
    f"{original}.{theirs}": f"{ours}.{own}"
    for original, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
    for theirs, own in {
        "q": "to_q",
        "k": "to_k",
        "v": "to_v",
        "o": "to_out.0",
        "norm_q": "norm_q",
        "norm_k": "norm_k",
        "k_img": "add_k_proj",
        "v_img": "add_v_proj",
        "norm_k_img": "norm_added_k",
    }.items()
}
_WAN_BLOCK = {"norm3": "norm2", "ffn.0": "ffn.net.0.proj", "ffn.2": "ffn.net.2", "modulation": "scale_shift_table"}
_WAN = {
    "patch_embedding": "patch_embedding",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    **_in_blocks("blocks", _WAN_ATTENTION | _WAN_BLOCK),
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
_LTX_BLOCK = {
    **{
        f"{attention}.{theirs}": f"{attention}.{own}"
        for attention in ("attn1", "attn2")
        for theirs, own in {"q_norm": "norm_q", "k_norm": "norm_k"}.items()
    },
    **{
        name: name
        for attention in ("attn1", "attn2")
        for name in (f"{attention}.to_q", f"{attention}.to_k", f"{attention}.to_v", f"{attention}.to_out.0")
    },
    "ff.net.0.proj": "ff.net.0.proj",
    "ff.net.2": "ff.net.2",
    "scale_shift_table": "scale_shift_table",
}
_LTX = {
    "patchify_proj": "proj_in",
    "adaln_single.emb.timestep_embedder.linear_1": "time_embed.emb.timestep_embedder.linear_1",
    "adaln_single.emb.timestep_embedder.linear_2": "time_embed.emb.timestep_embedder.linear_2",
    "adaln_single.linear": "time_embed.linear",
    "caption_projection.linear_1": "caption_projection.linear_1",
    "caption_projection.linear_2": "caption_projection.linear_2",
    **_in_blocks("transformer_blocks", _LTX_BLOCK),
    "proj_out": "proj_out",
    "scale_shift_table": "scale_shift_table",
}
_TABLES = MappingProxyType(
    {
        "FluxTransformer2DModel": _FLUX,
        "SD3Transformer2DModel": _SD3,
        "ChromaTransformer2DModel": _CHROMA,
        "Flux2Transformer2DModel": _FLUX2,
        "Lumina2Transformer2DModel": _LUMINA2,
        "WanTransformer3DModel": _WAN,
        "LTXVideoTransformer3DModel": _LTX,
    }
)
"""Class of a transformer → name in the original layout → diffusers' name, or several whose rows lie one below another.
A number stands for "#"; what follows, ".weight" or ".bias", is the same on both sides unless a name holds it."""

_LAST = r"(\.weight|\.bias|)"


@dataclass(frozen=True)
class Original:
    """One tensor of the original layout.

    Attributes:
        name: there.
        parts: diffusers' names of the tensors whose rows lie in it, in their order.
        swapped: whether its two halves have changed places: diffusers puts the scale of a final modulation before the
            shift.
    """

    name: str
    parts: tuple[str, ...]
    swapped: bool = False


def original_layout(kind: str, names: Iterable[str]) -> tuple[Original, ...] | None:
    """How the tensors of a transformer lie in the layout of its first publication.

    Args:
        kind: class of the transformer.
        names: diffusers' names of its tensors.

    Returns:
        Every tensor of that layout; None where no layout is known here, or it has no place for one of the names.
    """
    table = _TABLES.get(kind)
    if table is None:
        return None
    names = list(names)
    places = {
        re.compile(re.escape(part).replace(r"\#", r"(\d+)") + _LAST): (original, place, len(parts))
        for original, ours in table.items()
        for parts in [(ours,) if isinstance(ours, str) else ours]
        for place, part in enumerate(parts)
    }
    found: dict[str, dict[int, str]] = {}
    wanted: dict[str, int] = {}
    for name in names:
        fitting = ((match, to) for pattern, to in places.items() if (match := pattern.fullmatch(name)))
        match, (original, place, count) = next(fitting, (None, ("", 0, 0)))
        if match is None:
            return None
        number, last = match[1] if "#" in original else "", match[match.lastindex]
        whole = original.replace("#", number) + last
        found.setdefault(whole, {})[place] = name
        wanted[whole] = count
    if any(len(parts) != wanted[whole] for whole, parts in found.items()):
        return None
    swapped = _swapped(kind, names)
    return tuple(
        Original(whole, tuple(parts[place] for place in sorted(parts)), next(iter(parts.values())) in swapped)
        for whole, parts in found.items()
    )


def _swapped(kind: str, names: list[str]) -> set[str]:
    """Modulations that diffusers made an `AdaLayerNormContinuous`: the final one, and in SD3 the context's last."""
    modules = {"norm_out.linear"}  # Lumina 2 and the video models have no such layer
    if kind == "SD3Transformer2DModel":
        blocks = [int(match[1]) for name in names if (match := re.match(r"transformer_blocks\.(\d+)\.", name))]
        modules.add(f"transformer_blocks.{max(blocks, default=0)}.norm1_context.linear")
    return {f"{module}{last}" for module in modules for last in (".weight", ".bias")}


def blank_original(one: Original, blank: Mapping[str, Tensor]) -> Tensor:
    """A tensor of its shape and precision that holds nothing, from such tensors under diffusers' names."""
    parts = [blank[name] for name in one.parts]
    rows = sum(part.shape[0] for part in parts)
    return torch.empty((rows, *parts[0].shape[1:]), dtype=parts[0].dtype, device="meta")


def make_original(one: Original, tensor: Callable[[str], Tensor]) -> Tensor:
    """The tensor itself.

    Args:
        one: which.
        tensor: what gives those of diffusers by name.
    """
    if one.swapped:
        first, second = tensor(one.parts[0]).chunk(2)
        return torch.cat([second, first])
    if len(one.parts) == 1:
        return tensor(one.parts[0])
    return torch.cat([tensor(name) for name in one.parts])
