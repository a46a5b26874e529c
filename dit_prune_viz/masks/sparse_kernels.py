"""2:4 layers on the GPU's own kernels: which there are, and a model that runs with them for as long as a block lasts.

Not measured on a GPU yet; choice, comparison and putting back are tested on the CPU with stand-ins for the kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.masks.two_of_four import Choice, Kernel, PlainLinear, Shape, is_two_of_four, relative_error
from dit_prune_viz.pipelines.building import BUILDING

_OLDEST = (8, 0)
"""Compute capability of Ampere, the first with 2:4 tensor cores."""

_HALVES = (torch.bfloat16, torch.float16)
_ROUNDING, _FP8 = 0.02, 0.08
"""Relative errors that another order of summation in bfloat16 explains, and eight bits of weights and inputs."""

_FP8_MAX = 448.0
_CHECK_ROWS = 64


@dataclass(frozen=True)
class Cutlass:
    """`torch.sparse.to_sparse_semi_structured` on CUTLASS, which torch has for compute capability 8 only."""

    name: str = "CUTLASS"
    tolerance: float = _ROUNDING

    def fits(self, shape: Shape, dtype: torch.dtype) -> bool:
        """Rows in 32s, columns in 64s."""
        return dtype in _HALVES and shape.d_out % 32 == 0 and shape.d_in % 64 == 0

    def linear(self, weight: Tensor, bias: Tensor | None, tokens: int) -> nn.Module:
        """See `Kernel`."""
        return PlainLinear(torch.sparse.SparseSemiStructuredTensorCUTLASS.from_dense(weight), bias)


@dataclass(frozen=True)
class Cusparselt:
    """`torch.sparse.to_sparse_semi_structured` on cuSPARSELt; `searched` lets it look for its best algorithm first."""

    searched: bool = False
    tolerance: float = _ROUNDING

    @property
    def name(self) -> str:
        return "cuSPARSELt, searched" if self.searched else "cuSPARSELt"

    def fits(self, shape: Shape, dtype: torch.dtype) -> bool:
        """Rows and columns in 16s."""
        return dtype in _HALVES and shape.d_out % 16 == 0 and shape.d_in % 16 == 0

    def linear(self, weight: Tensor, bias: Tensor | None, tokens: int) -> nn.Module:
        """See `Kernel`."""
        algorithm = _algorithm(Shape(*weight.shape, tokens), weight.dtype, weight.device) if self.searched else 0
        compressed = torch.sparse.SparseSemiStructuredTensorCUSPARSELT.from_dense(weight, alg_id=algorithm)
        return PlainLinear(compressed, bias)


@cache
def _algorithm(shape: Shape, dtype: torch.dtype, device: torch.device) -> int:
    """The number of cuSPARSELt's fastest algorithm for a shape; it tries them all, so once a shape is enough."""
    weight = torch.tensor([1, 1, 0, 0], device=device, dtype=dtype).tile(shape.d_out, shape.d_in // 4)
    rows = torch.ones(-(-shape.tokens // 8) * 8, shape.d_in, device=device, dtype=dtype)
    return int(torch._cslt_sparse_mm_search(torch._cslt_compress(weight), rows.t(), transpose_result=True))


@dataclass(frozen=True)
class CusparseltFp8:
    """cuSPARSELt in fp8 (e4m3), weights and inputs scaled by their largest value. It rounds more than bfloat16 does."""

    name: str = "cuSPARSELt, fp8"
    tolerance: float = _FP8

    def fits(self, shape: Shape, dtype: torch.dtype) -> bool:
        """Rows and columns in 32s."""
        return dtype in _HALVES and shape.d_out % 32 == 0 and shape.d_in % 32 == 0

    def linear(self, weight: Tensor, bias: Tensor | None, tokens: int) -> nn.Module:
        """See `Kernel`."""
        return _Fp8Linear(weight, bias)


class _Fp8Linear(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        eighths, scale = _to_fp8(weight)
        compressed = torch.sparse.SparseSemiStructuredTensorCUSPARSELT.from_dense(eighths)
        with BUILDING:  # otherwise a load in another thread could take the weight
            self.weight, self.scale = nn.Parameter(compressed, requires_grad=False), scale
            self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(-1, self.in_features)
        eighths, scale = _to_fp8(F.pad(rows, (0, 0, 0, -len(rows) % 16)))
        product = torch._scaled_mm(
            self.weight, eighths.t(), scale_a=self.scale, scale_b=scale, out_dtype=input.dtype
        ).t()[: len(rows)]
        product = product if self.bias is None else product + self.bias
        return product.reshape(*input.shape[:-1], self.out_features)


def _to_fp8(table: Tensor) -> tuple[Tensor, Tensor]:
    scale = (table.abs().amax().float() / _FP8_MAX).clamp_min(1e-12)
    return (table / scale).to(torch.float8_e4m3fn), scale


KERNELS: tuple[Kernel, ...] = (Cusparselt(), Cusparselt(searched=True), Cutlass())
"""In the weights' own precision."""

FP8_KERNELS: tuple[Kernel, ...] = (CusparseltFp8(),)


def why_not(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why 2:4 weights cannot run faster on a device, in one sentence; None where they may."""
    if device.type != "cuda" or torch.version.hip:
        return f"2:4 weights run faster only on NVIDIA GPUs from Ampere on; this model runs on {device.type}."
    capability = torch.cuda.get_device_capability(device)
    if capability < _OLDEST:
        card = torch.cuda.get_device_name(device)
        return f"2:4 weights run faster only on NVIDIA GPUs from Ampere on; the {card} is older."
    if dtype not in _HALVES:
        precision = str(dtype).removeprefix("torch.")
        return f"2:4 kernels need bfloat16 or float16, and this model is in {precision}; load it with --dtype bfloat16."
    return None


def two_of_four_layers(layers: Mapping[str, PrunedLayer]) -> tuple[str, ...]:
    """The names of those layers whose masks are 2:4.

    Raises:
        UserError: there are none.
    """
    found = tuple(name for name, layer in layers.items() if is_two_of_four(layer.mask.unpack()))
    if not found:
        raise UserError("No layer of this plan is pruned 2:4; choose the granularity 2:4 first.")
    return found


@contextmanager
def sparse_kernels(
    model: object, layers: Mapping[str, PrunedLayer], chosen: Mapping[str, Choice], *, materialise: bool = False
) -> Iterator[frozenset[str]]:
    """Run a model pruned, with a 2:4 kernel in the place of each chosen layer; on leaving it is the dense model again.

    Dense layers are taken out of the model for that time and not touched, so that they are put back as they were,
    whatever happened inside. Each compressed weight is compared with its masked dense one before it is used; a layer
    that differs, or whose kernel fails, runs masked like all others. Let one thread at a time use a transformer.

    Args:
        model: as in `running_pruned`.
        layers: module path inside the transformer → pruned layer.
        chosen: module path → kernel and tokens of a call, of some of them.
        materialise: keeps the masked weights of all other layers in memory for that time, so that the model can be
            compiled; they cost as much as those layers' own.

    Yields:
        The names of the layers that run on a kernel.

    Raises:
        UserError: as in `running_pruned`, before anything has changed.
    """
    transformer = model if isinstance(model, nn.Module) else model.transformer
    places: list[tuple[nn.Module, str, nn.Module]] = []
    used = set()
    with running_pruned(model, layers):
        try:
            for name, layer in layers.items():
                owner, _, last = name.rpartition(".")
                parent, linear = transformer.get_submodule(owner), transformer.get_submodule(name)
                plain = isinstance(linear, nn.Linear)
                made = _on_kernel(linear, layer, chosen[name]) if plain and name in chosen else None
                if made is not None:
                    used.add(name)
                elif plain and materialise:
                    made = PlainLinear(*masked(linear, layer))
                if made is not None:
                    places.append((parent, last, linear))
                    parent._modules[last] = made
            yield frozenset(used)
        finally:
            for parent, last, linear in places:
                parent._modules[last] = linear


@torch.no_grad()
def _on_kernel(linear: nn.Linear, layer: PrunedLayer, choice: Choice) -> nn.Module | None:
    """The layer on a kernel, None where that fails or computes something else."""
    weight, bias = masked(linear, layer)
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(_CHECK_ROWS, weight.shape[1], generator=random).to(weight.device, weight.dtype)
    try:
        made = choice.kernel.linear(weight, bias, choice.tokens)
        close = relative_error(made(rows), F.linear(rows, weight, bias)) <= choice.kernel.tolerance
    except Exception:  # of whatever library; the layer then runs as it would without kernels
        return None
    return made if close else None


def masked(linear: nn.Linear, layer: PrunedLayer) -> tuple[Tensor, Tensor | None]:
    """The weight (d_out, d_in) that a pruned layer runs with, and its bias."""
    weight = layer.dense(linear.weight.detach())
    bias = linear.bias if layer.bias is None else layer.bias.to(weight.device, weight.dtype)
    return weight, None if bias is None else bias.detach()
