"""Put a loaded pipeline where its placement says, with the means of diffusers and accelerate."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from dit_prune_viz.pipelines.layers import list_layers
from dit_prune_viz.pipelines.placement import Placement, PartSize

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_CPU = torch.device("cpu")


def place(pipeline: DiffusionPipeline, placement: Placement, device: torch.device) -> None:
    """Move the parts of a pipeline that was loaded on the CPU, or hang in the hooks that move them when they run.

    Args:
        pipeline: with all its parts.
        placement: where they are to lie.
        device: that computes.
    """
    if placement.kind == "offload":
        pipeline.enable_model_cpu_offload(device=device)
    elif placement.kind == "stream":
        _stream(pipeline, placement, device)
    elif placement.kind == "balanced":
        _balance(pipeline)
    else:
        pipeline.to(device)


@contextmanager
def resting_afterwards(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Around a call of a pipeline: parts that the call has left on the device go back, also where it ended early.

    A pipeline sends them back itself at the end of a call, but calls are left as soon as enough has been seen; the next
    prompt would then be encoded beside a transformer that should have made room for it.
    """
    try:
        yield
    finally:
        if getattr(pipeline, "_all_hooks", None):
            pipeline.maybe_free_model_hooks()


def _stream(pipeline: DiffusionPipeline, placement: Placement, device: torch.device) -> None:
    folder = _temporary_folder(pipeline) if placement.disk else None
    for name, module in pipeline.components.items():
        if not isinstance(module, nn.Module):
            continue
        size = PartSize(name, 0)
        own = folder and folder / name  # files are named by blocks, which have the same names in two transformers
        if size.resident:
            module.to(device)
        elif size.transformer and _blocks_move(module, own):
            _offload_blocks(module, placement, device, own)
        else:
            _offload_layers(module, device, own)


def _blocks_move(transformer: nn.Module, folder: Path | None) -> bool:
    """Whether diffusers can move the transformer's blocks one by one."""
    if not getattr(transformer, "_supports_group_offloading", True):  # DiT reaches into its blocks from outside
        return False
    names = [name for name, _ in transformer.named_parameters(remove_duplicate=False)]
    if folder is not None and len(names) > len(list(transformer.parameters())):
        return False  # of weights that two blocks share, diffusers would write what it has taken away already
    own = {name for name, child in transformer.named_children() if isinstance(child, nn.ModuleList)}
    return {layer.stack for layer in list_layers(transformer)} <= own


def _offload_blocks(transformer: nn.Module, placement: Placement, device: torch.device, folder: Path | None) -> None:
    from diffusers.hooks import apply_group_offloading

    streams = device.type == "cuda"
    apply_group_offloading(
        transformer,
        onload_device=device,
        offload_device=_CPU,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=streams,
        low_cpu_mem_usage=streams and not placement.pinned,
        offload_to_disk_path=None if folder is None else str(folder),
    )


def _offload_layers(module: nn.Module, device: torch.device, folder: Path | None) -> None:
    """Every layer comes by itself: slower, but right for any model; text encoders run once for a prompt."""
    from accelerate import cpu_offload, disk_offload

    if folder is None:
        cpu_offload(module, execution_device=device)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        disk_offload(module, str(folder), execution_device=device)


def _balance(pipeline: DiffusionPipeline) -> None:
    from accelerate import dispatch_model, infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    last = torch.cuda.device_count() - 1
    for name, module in pipeline.components.items():
        if not isinstance(module, nn.Module):
            continue
        where = {"": last}  # accelerate fills the first GPUs first
        if PartSize(name, 0).transformer:
            whole = list(getattr(module, "_no_split_modules", None) or ())
            limits = get_balanced_memory(module, no_split_module_classes=whole)
            where = infer_auto_device_map(module, max_memory=limits, no_split_module_classes=whole)
        dispatch_model(module, device_map=where, force_hooks=True)


def _temporary_folder(pipeline: DiffusionPipeline) -> Path:
    """A new folder that goes with the pipeline: diffusers takes any file of the right name for its own."""
    folder = tempfile.mkdtemp(prefix="dit-prune-viz-")
    weakref.finalize(pipeline, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
