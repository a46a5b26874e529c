"""Put a loaded pipeline where its placement says, with the means of diffusers and accelerate."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from dit_prune_viz.pipelines.layers import list_layers
from dit_prune_viz.pipelines.matrices import takes_weights
from dit_prune_viz.pipelines.placement import PartSize, Placement

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_CPU = torch.device("cpu")


class Placing:
    """Puts the parts of a pipeline in their places, or hangs in the hooks that move them when they run.

    Args:
        placement: where they are to lie.
        device: that computes.
    """

    def __init__(self, placement: Placement, device: torch.device) -> None:
        self._placement, self._device = placement, device
        self._folder = _temporary_folder() if placement.kind == "stream" and placement.disk else None
        self._settled: set[nn.Module] = set()

    def settle(self, name: str, module: nn.Module) -> None:
        """Place a part on the CPU before the next one is loaded, so that memory never holds all that moves away."""
        if self._placement.kind == "device":
            module.to(self._device)
        elif self._placement.kind == "stream":
            self._stream(name, module)
        self._settled.add(module)

    def finish(self, pipeline: DiffusionPipeline) -> None:
        """Place what is left, once the pipeline has all its parts."""
        if self._folder is not None:
            weakref.finalize(pipeline, self._folder.cleanup)
        if self._placement.kind == "offload":
            _offload_parts(pipeline, self._device)
        elif self._placement.kind == "balanced":
            _balance(pipeline)
        elif self._placement.kind == "stream":
            for name, module in _modules(pipeline):
                if module not in self._settled:
                    self._stream(name, module)
        else:
            pipeline.to(self._device)

    def _stream(self, name: str, module: nn.Module) -> None:
        size = PartSize(name, 0)
        # Files are named by blocks, which have the same names in two transformers.
        folder = None if self._folder is None else Path(self._folder.name) / name
        if size.resident:
            _keep(module, self._device)
        elif size.transformer and _blocks_move(module, self._device, folder):
            _offload_blocks(module, self._placement, self._device, folder)
        else:
            _offload_layers(module, self._device, folder)


@contextmanager
def resting_around(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Around a call of a pipeline: parts that something has left on the device go back before it and after it.

    A pipeline sends them back itself at the end of a call, but calls are left as soon as enough has been seen, and the
    transformer also runs alone; the next prompt would then be encoded beside it.
    """
    offloaded = bool(getattr(pipeline, "_all_hooks", None))
    if offloaded:
        pipeline.maybe_free_model_hooks()
    try:
        yield
    finally:
        if offloaded:
            pipeline.maybe_free_model_hooks()


def _keep(module: nn.Module, device: torch.device) -> None:
    """Leave a part on the device, and let it say so: a pipeline asks its first part where it runs."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    module.to(device)
    add_hook_to_module(module, AlignDevicesHook(execution_device=device))


def _modules(pipeline: DiffusionPipeline) -> Iterator[tuple[str, nn.Module]]:
    return ((name, one) for name, one in pipeline.components.items() if isinstance(one, nn.Module))


def _offload_parts(pipeline: DiffusionPipeline, device: torch.device) -> None:
    """Each part comes when it runs, but what `PartSize.resident` says stays: for a preview after every few steps the
    transformer would have to leave otherwise."""
    resident = [name for name, _ in _modules(pipeline) if PartSize(name, 0).resident]
    order = pipeline.model_cpu_offload_seq or "->".join(name for name, _ in _modules(pipeline))
    pipeline.model_cpu_offload_seq = "->".join(name for name in order.split("->") if name not in resident)
    pipeline._exclude_from_cpu_offload = [*pipeline._exclude_from_cpu_offload, *resident]
    pipeline.enable_model_cpu_offload(device=device)


def _blocks_move(transformer: nn.Module, device: torch.device, folder: Path | None) -> bool:
    """Whether diffusers can move the transformer's blocks one by one."""
    if folder is not None and device.type == "cpu":
        # diffusers would map its files into memory at odd addresses, where the CPU adds up in another order.
        return False
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

    whole = sorted({type(one).__name__ for one in module.modules() if takes_weights(one)})  # come with all their layers
    if folder is None:
        cpu_offload(module, execution_device=device, preload_module_classes=whole)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        disk_offload(module, str(folder), execution_device=device, preload_module_classes=whole)
    _say_device(module, device)


def _say_device(module: nn.Module, device: torch.device) -> None:
    """Pipelines and models ask a part where it runs; it would look at its first weight, which is away."""
    kind = type(module)
    if hasattr(kind, "device"):
        own = {"__module__": kind.__module__, "device": property(lambda _: device)}
        module.__class__ = type(kind.__name__, (kind,), own)


def _balance(pipeline: DiffusionPipeline) -> None:
    from accelerate import dispatch_model, infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    last = torch.cuda.device_count() - 1
    for name, module in _modules(pipeline):
        where = {"": last}  # accelerate fills the first GPUs first
        if PartSize(name, 0).transformer:
            whole = list(getattr(module, "_no_split_modules", None) or ())
            limits = get_balanced_memory(module, no_split_module_classes=whole)
            where = infer_auto_device_map(module, max_memory=limits, no_split_module_classes=whole)
        dispatch_model(module, device_map=where, force_hooks=True)


def _temporary_folder() -> tempfile.TemporaryDirectory:
    """A new folder, as diffusers takes any file of the right name for its own."""
    return tempfile.TemporaryDirectory(prefix="dit-prune-viz-", ignore_cleanup_errors=True)
