"""What adaLN rows modulate, against diffusers' own blocks: one part of the rows is marked, and what moves is seen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.modulation import row_parts

D, HEADS = 24, 2
TOKENS, CONTEXT = 5, 3


def flux():
    from diffusers.models.transformers.transformer_flux import FluxTransformerBlock

    block = FluxTransformerBlock(D, HEADS, D // HEADS)
    return block, "attn", ("ff", "ff_context"), lambda b, x, c, t: b(x, c, t)


def flux_single():
    from diffusers.models.transformers.transformer_flux import FluxSingleTransformerBlock

    block = FluxSingleTransformerBlock(D, HEADS, D // HEADS)
    return block, "attn", ("proj_mlp",), lambda b, x, c, t: b(x, c, t)


def sd3(**kind):
    from diffusers.models.attention import JointTransformerBlock

    block = JointTransformerBlock(D, HEADS, D // HEADS, **kind)
    return block, "attn", ("ff", "ff_context"), lambda b, x, c, t: b(x, c, t)


def dit():
    from diffusers.models.attention import BasicTransformerBlock

    block = BasicTransformerBlock(D, HEADS, D // HEADS, num_embeds_ada_norm=3, norm_type="ada_norm_zero")
    call = {"timestep": torch.tensor([5]), "class_labels": torch.tensor([1])}
    return block, "attn1", ("ff",), lambda b, x, c, t: b(x, **call)


def cogvideo():
    from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock

    block = CogVideoXBlock(D, HEADS, D // HEADS, time_embed_dim=D, qk_norm=False)
    return block, "attn1", ("ff",), lambda b, x, c, t: b(x, c, t)


def cogview3():
    from diffusers.models.transformers.transformer_cogview3plus import CogView3PlusTransformerBlock

    block = CogView3PlusTransformerBlock(D, HEADS, D // HEADS, time_embed_dim=D)
    return block, "attn1", ("ff",), lambda b, x, c, t: b(x, c, t)


def cogview4():
    from diffusers.models.transformers.transformer_cogview4 import CogView4TransformerBlock

    block = CogView4TransformerBlock(D, HEADS, D // HEADS, time_embed_dim=D)
    return block, "attn1", ("ff",), lambda b, x, c, t: b(x, c, t)


def lumina2():
    from diffusers.models.transformers.transformer_lumina2 import Lumina2TransformerBlock

    block = Lumina2TransformerBlock(D, HEADS, HEADS, 4, 1.0, 1e-5)
    turns = torch.polar(torch.ones(1, TOKENS, D // HEADS // 2), torch.zeros(1, TOKENS, D // HEADS // 2))
    mask = torch.ones(1, TOKENS, dtype=torch.bool)
    return block, "attn", ("feed_forward",), lambda b, x, c, t: b(x, mask, turns, t)


def qwen():
    from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock

    block = QwenImageTransformerBlock(D, HEADS, D // HEADS)
    turns = tuple(
        torch.polar(torch.ones(n, D // HEADS // 2), torch.zeros(n, D // HEADS // 2)) for n in (TOKENS, CONTEXT)
    )
    return block, "attn", ("img_mlp", "txt_mlp"), lambda b, x, c, t: b(x, c, None, t, turns)[::-1]


def z_image():
    from diffusers.models.transformers.transformer_z_image import ZImageTransformerBlock

    block = ZImageTransformerBlock(0, D, HEADS, HEADS, 1e-5, False)
    turns = torch.polar(torch.ones(1, TOKENS, D // HEADS // 2), torch.zeros(1, TOKENS, D // HEADS // 2))
    return block, "attention", ("feed_forward",), lambda b, x, c, t: b(x, None, turns, t)


def mochi():
    from diffusers.models.transformers.transformer_mochi import MochiTransformerBlock

    block = MochiTransformerBlock(D, HEADS, D // HEADS, D)
    mask = torch.ones(1, CONTEXT, dtype=torch.bool)
    return block, "attn1", ("ff", "ff_context"), lambda b, x, c, t: b(x, c, t, mask)


def hidream(single: bool):
    from diffusers.models.transformers import transformer_hidream_image as hidream

    kind = hidream.HiDreamImageSingleTransformerBlock if single else hidream.HiDreamImageTransformerBlock
    block, tokens = kind(D, HEADS, D // HEADS, num_routed_experts=0), TOKENS if single else TOKENS + CONTEXT
    turns = torch.zeros(1, tokens, 1, D // HEADS // 2, 2, 2) + torch.eye(2)
    if single:
        return block, "attn1", ("ff_i",), lambda b, x, c, t: b(x, temb=t, image_rotary_emb=turns)
    call = {"image_rotary_emb": turns}
    return block, "attn1", ("ff_i", "ff_t"), lambda b, x, c, t: b(x, None, c, t, **call)


def ideogram():
    from diffusers.models.transformers.transformer_ideogram4 import Ideogram4TransformerBlock

    block = Ideogram4TransformerBlock(D, 2 * D, HEADS, 1e-5, D)
    turns = torch.ones(1, TOKENS, D // HEADS), torch.zeros(1, TOKENS, D // HEADS)
    return block, "attention", ("feed_forward",), lambda b, x, c, t: b(x, None, turns, t[:, None])


def kandinsky(decoder: bool):
    from diffusers.models.transformers import transformer_kandinsky as kandinsky

    if not decoder:
        block = kandinsky.Kandinsky5TransformerEncoderBlock(D, D, 2 * D, D // HEADS)
        return block, "self_attention", ("feed_forward",), lambda b, x, c, t: b(x, t, None)
    block = kandinsky.Kandinsky5TransformerDecoderBlock(D, D, 2 * D, D // HEADS)
    return block, "self_attention", ("feed_forward",), lambda b, x, c, t: b(x, c, t, None, None)


def prx():
    from diffusers.models.transformers.transformer_prx import PRXBlock

    block = PRXBlock(D, HEADS)
    angles = torch.zeros(1, 1, TOKENS, D // HEADS // 2, 2, 2) + torch.eye(2)
    return block, "attention", ("gate_proj",), lambda b, x, c, t: b(x, c, t, angles)


CASES = {
    "flux": (flux, ("norm1.linear", "norm1_context.linear")),
    "flux single": (flux_single, ("norm.linear",)),
    "sd3": (sd3, ("norm1.linear", "norm1_context.linear")),
    "sd3 last": (lambda: sd3(context_pre_only=True), ("norm1.linear", "norm1_context.linear")),
    "sd3.5": (lambda: sd3(use_dual_attention=True), ("norm1.linear", "norm1_context.linear")),
    "dit": (dit, ("norm1.linear",)),
    "cogvideox": (cogvideo, ("norm1.linear", "norm2.linear")),
    "cogview3": (cogview3, ("norm1.linear",)),
    "cogview4": (cogview4, ("norm1.linear",)),
    "lumina2": (lumina2, ("norm1.linear",)),
    "mochi": (mochi, ("norm1.linear", "norm1_context.linear")),
    "qwen": (qwen, ("img_mod.1", "txt_mod.1")),
    "z-image": (z_image, ("adaLN_modulation.0",)),
    "hidream": (lambda: hidream(single=False), ("adaLN_modulation.1",)),
    "hidream single": (lambda: hidream(single=True), ("adaLN_modulation.1",)),
    "ideogram": (ideogram, ("adaln_modulation",)),
    "kandinsky text": (lambda: kandinsky(decoder=False), ("text_modulation.out_layer",)),
    "kandinsky picture": (lambda: kandinsky(decoder=True), ("visual_modulation.out_layer",)),
    "prx": (prx, ("modulation.lin",)),
}
"""Block and the paths of its modulation layers."""
OTHERS = {"second attention": "attn2", "cross-attention": "cross_attention"}


class Watched:
    """What goes into a block's attentions and MLPs, and what comes out of it, apart for picture and context."""

    def __init__(self, block: nn.Module, attention: str, mlps: tuple[str, ...], call) -> None:
        self.block, self._call, self._seen = block, call, {}
        for name, path in [("attention", attention), *(("MLP", path) for path in mlps), *OTHERS.items()]:
            if getattr(block, path, None) is not None:
                getattr(block, path).register_forward_pre_hook(self._hook(name), with_kwargs=True)

    def _hook(self, name: str):
        def hook(_, args: tuple, kwargs: dict) -> None:
            for one in (*args, *kwargs.values()):
                if isinstance(one, torch.Tensor) and one.ndim == 3 and one.shape[-1] == D:
                    self._keep(name, one.detach().clone())

        return hook

    def _keep(self, name: str, tensor: torch.Tensor) -> None:
        tokens = tensor.shape[1]
        if tokens in (TOKENS, TOKENS + CONTEXT):  # the context comes first where they are one
            self._seen[name, "picture"] = tensor[:, -TOKENS:]
        if tokens in (CONTEXT, TOKENS + CONTEXT):
            self._seen[name, "context"] = tensor[:, :CONTEXT]

    def run(self) -> dict[tuple[str, str], torch.Tensor]:
        self._seen = {}
        torch.manual_seed(1)
        x, context, time = torch.randn(1, TOKENS, D), torch.randn(1, CONTEXT, D), torch.randn(1, D)
        with torch.no_grad():
            out = self._call(self.block, x, context, time)
        for one in out if isinstance(out, tuple) else (out,):
            if one is not None:
                self._keep("out", one)
        return self._seen


def what_was_marked(before: dict, after: dict) -> tuple[str, str, set[str]]:
    """shift, scale or gate; picture or context; and what it is of, told from what moves while all else is zero."""
    moved = {key: after[key] - before[key] for key in before if not torch.allclose(after[key], before[key], atol=1e-5)}
    streams = {stream for _, stream in moved}
    stream = "picture" if "picture" in streams else "context"
    inside = {name for name, _ in moved if name != "out"}
    if any(name == "out" for name, _ in moved):
        # A gate lets through what attention gives, which the MLP sees as well, or what the MLP gives, which none sees.
        return "gate", stream if ("out", stream) in moved else "context", inside
    key = next(iter(moved))
    change = moved[key]
    return "shift" if float(change.std()) < 1e-4 * float(change.abs().max()) else "scale", stream, inside


@pytest.mark.parametrize("case", CASES)
def test_the_rows_are_named_after_what_they_move_in_the_real_block(case):
    make, paths = CASES[case]
    torch.manual_seed(0)
    watched = Watched(*make())
    layers = {path: watched.block.get_submodule(path) for path in paths}
    for linear in layers.values():  # all modulations are zero but the one that is marked
        linear.bias = nn.Parameter(torch.zeros(linear.out_features))
        nn.init.zeros_(linear.weight)
    model = nn.ModuleDict({"blocks": nn.ModuleList([watched.block])})
    for path, linear in layers.items():
        parts = row_parts(model, Layer(f"blocks.0.{path}", "blocks", 0, "adaLN", tuple(linear.weight.shape)))
        assert [part.first for part in parts] == [0, *(part.end for part in parts[:-1])]
        assert parts[-1].end == linear.out_features
        before = watched.run()
        for part in parts:
            linear.bias.data[:] = 0
            linear.bias.data[part.first : part.end] = 0.5
            what, stream, inside = what_was_marked(before, watched.run())
            subject = part.label.removeprefix("context ").removesuffix(f" {what}")
            of_context = part.label.startswith("context") or "context" in path or "txt" in path
            assert part.label.endswith(f" {what}"), (part, inside)
            assert stream == ("context" if of_context else "picture"), (part, inside)
            seen = {
                ("attention and MLP", "gate"): set(),
                ("MLP", "gate"): set(),
                ("attention", "gate"): {"MLP"} | (inside & OTHERS.keys()),
                ("second attention", "gate"): {"MLP"},
                ("cross-attention", "gate"): {"MLP"},
            }
            assert inside == seen.get((subject, what), set(subject.split(" and "))), part
        linear.bias.data[:] = 0


def test_layers_of_unknown_classes_have_no_parts(tiny_flux):
    class AdaLayerNormZero(nn.Module):  # somebody else's, which may cut in another order
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(D, 6 * D)

    model = nn.ModuleDict({"blocks": nn.ModuleList([nn.ModuleDict({"norm1": AdaLayerNormZero()})])})
    assert row_parts(model, Layer("blocks.0.norm1.linear", "blocks", 0, "adaLN", (6 * D, D))) == ()
    flux = load_model(tiny_flux, device="cpu")
    named = {layer.name: row_parts(flux.transformer, layer) for layer in flux.layers}
    assert {name for name, parts in named.items() if parts} == {
        layer.name for layer in flux.layers if layer.kind.startswith("adaLN")
    }
