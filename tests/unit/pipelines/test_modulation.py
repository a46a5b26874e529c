"""What adaLN rows modulate, against the real blocks: one part of the rows is marked at a time, and what moves is seen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.modulation import row_parts

D, HEADS = 24, 2
TOKENS = 5


def flux():
    from diffusers.models.transformers.transformer_flux import FluxTransformerBlock

    block = FluxTransformerBlock(D, HEADS, D // HEADS)
    return block, "attn", {"": "ff", "context": "ff_context"}, lambda b, x, c, t: b(x, c, t)


def flux_single():
    from diffusers.models.transformers.transformer_flux import FluxSingleTransformerBlock

    block = FluxSingleTransformerBlock(D, HEADS, D // HEADS)
    return block, "attn", {"": "proj_mlp"}, lambda b, x, c, t: b(x, c, t)


def sd3(**kind):
    from diffusers.models.attention import JointTransformerBlock

    block = JointTransformerBlock(D, HEADS, D // HEADS, **kind)
    return block, "attn", {"": "ff", "context": "ff_context"}, lambda b, x, c, t: b(x, c, t)


def dit():
    from diffusers.models.attention import BasicTransformerBlock

    block = BasicTransformerBlock(D, HEADS, D // HEADS, num_embeds_ada_norm=3, norm_type="ada_norm_zero")
    call = {"timestep": torch.tensor([5]), "class_labels": torch.tensor([1])}
    return block, "attn1", {"": "ff"}, lambda b, x, c, t: b(x, **call)


def aura():
    from diffusers.models.transformers.auraflow_transformer_2d import AuraFlowJointTransformerBlock

    block = AuraFlowJointTransformerBlock(D, HEADS, D // HEADS)
    return block, "attn", {"": "ff", "context": "ff_context"}, lambda b, x, c, t: b(x, c, t)


def cogvideo():
    from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock

    block = CogVideoXBlock(D, HEADS, D // HEADS, time_embed_dim=D, qk_norm=False)
    return block, "attn1", {"both": "ff"}, lambda b, x, c, t: b(x, c, t)


def cogview3():
    from diffusers.models.transformers.transformer_cogview3plus import CogView3PlusTransformerBlock

    block = CogView3PlusTransformerBlock(D, HEADS, D // HEADS, time_embed_dim=D)
    return block, "attn1", {"both": "ff"}, lambda b, x, c, t: b(x, c, t)


def cogview4():
    from diffusers.models.transformers.transformer_cogview4 import CogView4TransformerBlock

    block = CogView4TransformerBlock(D, HEADS, D // HEADS, time_embed_dim=D)
    return block, "attn1", {"both": "ff"}, lambda b, x, c, t: b(x, c, t)


def lumina2():
    from diffusers.models.transformers.transformer_lumina2 import Lumina2TransformerBlock

    block = Lumina2TransformerBlock(D, HEADS, HEADS, 4, 1.0, 1e-5)
    turns = torch.polar(torch.ones(1, TOKENS, D // HEADS // 2), torch.zeros(1, TOKENS, D // HEADS // 2))
    mask = torch.ones(1, TOKENS, dtype=torch.bool)
    return block, "attn", {"": "feed_forward"}, lambda b, x, c, t: b(x, mask, turns, t)


def qwen():
    from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock

    block = QwenImageTransformerBlock(D, HEADS, D // HEADS)
    turns = tuple(torch.polar(torch.ones(n, D // HEADS // 2), torch.zeros(n, D // HEADS // 2)) for n in (TOKENS, 3))
    return block, "attn", {"": "img_mlp", "context": "txt_mlp"}, lambda b, x, c, t: b(x, c, None, t, turns)[::-1]


def z_image():
    from diffusers.models.transformers.transformer_z_image import ZImageTransformerBlock

    block = ZImageTransformerBlock(0, D, HEADS, HEADS, 1e-5, False)
    turns = torch.polar(torch.ones(1, TOKENS, D // HEADS // 2), torch.zeros(1, TOKENS, D // HEADS // 2))
    return block, "attention", {"": "feed_forward"}, lambda b, x, c, t: b(x, None, turns, t)


def prx():
    from diffusers.models.transformers.transformer_prx import PRXBlock

    block = PRXBlock(D, HEADS)
    angles = torch.zeros(1, 1, TOKENS, D // HEADS // 2, 2, 2) + torch.eye(2)
    return block, "attention", {"": "mlp"}, lambda b, x, c, t: b(x, c, t, angles)


CASES = {
    "flux": (flux, {"norm1.linear": "", "norm1_context.linear": "context"}),
    "flux single": (flux_single, {"norm.linear": ""}),
    "sd3": (sd3, {"norm1.linear": "", "norm1_context.linear": "context"}),
    "sd3 last": (lambda: sd3(context_pre_only=True), {"norm1_context.linear": "context"}),
    "sd3.5": (lambda: sd3(use_dual_attention=True), {"norm1.linear": ""}),
    "dit": (dit, {"norm1.linear": ""}),
    "aura flow": (aura, {"norm1.linear": "", "norm1_context.linear": "context"}),
    "cogvideox": (cogvideo, {"norm1.linear": "", "norm2.linear": ""}),
    "cogview3": (cogview3, {"norm1.linear": ""}),
    "cogview4": (cogview4, {"norm1.linear": ""}),
    "lumina2": (lumina2, {"norm1.linear": ""}),
    "qwen": (qwen, {"img_mod.1": "", "txt_mod.1": "context"}),
    "z-image": (z_image, {"adaLN_modulation.0": ""}),
    "prx": (prx, {"modulation.lin": ""}),
}


class Watched:
    """What goes into a block's attention and MLPs, and what comes out of the block, in parts for both streams."""

    def __init__(self, block: nn.Module, attention: str, mlps: dict[str, str], call) -> None:
        self.block, self._call = block, call
        self.seen: dict[str, torch.Tensor] = {}
        modules = {"attention": attention, "second attention": "attn2"} | {f"{s} MLP": m for s, m in mlps.items()}
        for name, path in modules.items():
            module = getattr(block, path, None)
            if module is not None:
                module.register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: self._see(name, args, kwargs), with_kwargs=True
                )

    def _see(self, name: str, args: tuple, kwargs: dict) -> None:
        tensors = [*args, *kwargs.values()]
        states = [one for one in tensors if isinstance(one, torch.Tensor) and one.ndim == 3 and one.shape[-1] == D]
        for index, one in enumerate(states[:2]):
            self.seen[name, "" if index == 0 else "context"] = one.detach().clone()

    def run(self) -> dict:
        self.seen = {}
        torch.manual_seed(1)
        x, context, time = torch.randn(1, TOKENS, D), torch.randn(1, 3, D), torch.randn(1, D)
        with torch.no_grad():
            out = self._call(self.block, x, context, time)
        outs = out if isinstance(out, tuple) else (out,)
        return self.seen | {("out", index): one.clone() for index, one in enumerate(outs) if one is not None}


def what_moves(before: dict, after: dict) -> dict:
    """Place → (how it differs from before)."""
    return {key: after[key] - before[key] for key in before if not torch.allclose(after[key], before[key], atol=1e-6)}


def named(moved: dict, before: dict) -> str:
    """What was marked, told from what it moves while all other modulations are zero."""
    inputs = {key: change for key, change in moved.items() if key[0] != "out"}
    if not any(key[0] == "out" for key in moved):
        change, base = next((change, before[key]) for key, change in inputs.items())
        flat = change[change.abs().sum(-1) > 1e-6]
        what = "shift" if float(flat.std()) < 1e-5 else "scale"
    else:
        what = "gate"
    subjects = [key[0] for key in inputs]
    return what, subjects


@pytest.mark.parametrize("case", CASES)
def test_the_rows_are_named_after_what_they_move_in_the_real_block(case):
    make, layers = CASES[case]
    torch.manual_seed(0)
    watched = Watched(*make())
    for name, stream in layers.items():
        linear = watched.block.get_submodule(name)
        for path in CASES[case][1]:  # all modulations of the block are zero but the one that is marked
            other = watched.block.get_submodule(path)
            nn.init.zeros_(other.weight)
            if other.bias is None:
                other.bias = nn.Parameter(torch.zeros(other.out_features))
            nn.init.zeros_(other.bias)
        layer = Layer(name, "blocks", 0, "adaLN", tuple(linear.weight.shape))
        parts = row_parts(watched.block, layer)
        assert parts and parts[0].first == 0 and parts[-1].end == linear.out_features
        before = watched.run()
        for part in parts:
            nn.init.zeros_(linear.bias)
            linear.bias.data[part.first : part.end] = 0.5
            what, subjects = named(what_moves(before, watched.run()), before)
            print(case, name, part.label, "->", what, subjects)
