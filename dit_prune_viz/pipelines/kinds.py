"""What a layer does inside its block, read from its name: the one vocabulary of layer kinds for every family."""

from __future__ import annotations

import re
from collections.abc import Collection

KINDS = (
    "adaLN",
    "adaLN context",
    "q",
    "k",
    "v",
    "qkv",
    "attn out",
    "cross q",
    "cross k",
    "cross v",
    "cross kv",
    "cross out",
    "context q",
    "context k",
    "context v",
    "context qkv",
    "context out",
    "mlp in",
    "mlp out",
    "context mlp in",
    "context mlp out",
    "fused in",
    "fused out",
    "other",
)
"""Every kind `classify` can answer, in the order in which figures show them. "fused" are the projections of a
single-stream block that serve attention and MLP at once."""

_MODULATION = re.compile(r"adaln|(^|[._])mod(ulation)?\d*(\.|$)|(^|\.)norm\w*\.(linear|lin|proj|fc)")
_CONTEXT = re.compile(r"context|txt|text|(^|[._])add_|to_add_|_t(\.|$)")
_ATTENTION = re.compile(r"attn|attention|(^|\.)to_(q|k|v|out)")
_ROLES = (
    ("qkv", re.compile(r"qkv")),
    ("kv", re.compile(r"(^|[._])kv(_|\.|$)")),
    ("q", re.compile(r"(^|[._])(q|query)(_proj|_t)?$")),
    ("k", re.compile(r"(^|[._])(k|key)(_proj|_t)?$")),
    ("v", re.compile(r"(^|[._])(v|value)(_proj|_t)?$")),
    ("out", re.compile(r"out(_t|_layer|_proj)?(\.\d+)?$|o_proj$|attn_proj$")),
)
_MLP = re.compile(r"(^|[._])(ff|ffn|mlp|feed_forward)(_|\.|$)|experts?\.")
_MLP_OUT = re.compile(
    r"(down(_proj)?|net\.2|out(_proj|_layer|_projection)?|fc2|linear_out|ff_out|conv_point|point_conv(\.conv)?)$"
)
_MLP_IN = re.compile(
    r"((gate|up)(_proj|_layer)?|net\.0(\.proj)?|fc1|linear_in|in_layer|proj|ff_in|conv_inverted|inverted_conv(\.conv)?)$"
)


def classify(name: str, shape: tuple[int, int], siblings: Collection[str] = ()) -> str:
    """The kind of one layer of a block.

    Args:
        name: its module path inside the block, e.g. "attn.to_q".
        shape: (d_out, d_in); decides "mlp in" against "mlp out" where a family only numbers its layers.
        siblings: the paths of all layers of the same block; tells cross-attention from a second self-attention
            (Stable Diffusion 3.5 calls the latter "attn2" too) and finds fused single-stream blocks.

    Returns:
        One of `KINDS`; "other" for a name that follows no known pattern.
    """
    name = name.lower()
    fused_in = any("qkv_mlp" in sibling for sibling in siblings)
    if "qkv_mlp" in name:
        return "fused in"
    if name.endswith("proj_mlp"):
        return "mlp in"
    if name == "proj_out" and any(sibling.endswith("proj_mlp") for sibling in siblings):
        return "fused out"
    context = bool(_CONTEXT.search(name))
    if _MODULATION.search(name):
        return "adaLN context" if context else "adaLN"
    if _MLP.search(name) or re.fullmatch(r"(gate|up|down)_proj|ff_(in|out)", name):
        return ("context mlp " if context else "mlp ") + _mlp_side(name, shape)
    if _ATTENTION.search(name):
        return _attention_kind(name, context, fused_in, siblings)
    return "other"


def _mlp_side(name: str, shape: tuple[int, int]) -> str:
    if _MLP_OUT.search(name):
        return "out"
    if _MLP_IN.search(name):
        return "in"
    return "in" if shape[0] >= shape[1] else "out"


def _attention_kind(name: str, context: bool, fused_in: bool, siblings: Collection[str]) -> str:
    role = next((role for role, pattern in _ROLES if pattern.search(name)), None)
    if role is None:
        return "other"
    if fused_in and role == "out":
        return "fused out"
    cross = "cross" in name or ("attn2" in name and any("attn1" in sibling for sibling in siblings))
    if role == "kv" or (cross and role != "qkv"):
        return f"cross {role}"
    if context:
        return f"context {role}"
    return "attn out" if role == "out" else role
