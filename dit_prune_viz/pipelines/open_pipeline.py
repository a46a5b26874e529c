"""Load a pipeline, check its parts and put each in its place as soon as that is possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from dit_prune_viz.checks import first_sentence
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.building import BUILDING
from dit_prune_viz.pipelines.device import out_of_memory
from dit_prune_viz.pipelines.identity import Sample, sample
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pipelines.loading import check_finite, find_parts, load_pipeline
from dit_prune_viz.pipelines.lora import FoundLora, fuse_loras
from dit_prune_viz.pipelines.placement import Placement, free_memory, plan_placement, stored_sizes
from dit_prune_viz.pipelines.placing import Placing
from dit_prune_viz.pipelines.plain_weights import check_files
from dit_prune_viz.pipelines.source import LOAD_ERRORS, Source
from dit_prune_viz.pipelines.weight_files import Part

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@dataclass(frozen=True, eq=False)
class Opened:
    """A pipeline in its place.

    Attributes:
        pipeline: without progress bars.
        placement: where its parts lie.
        samples: see `fingerprint`; of parts whose weights cannot be told as well any more.
    """

    pipeline: DiffusionPipeline
    placement: Placement
    samples: Mapping[str, Sample]


def open_pipeline(
    source: Source,
    loras: Sequence[FoundLora],
    device: torch.device,
    dtype: torch.dtype,
    settings: LoadSettings,
    tell: Callable[[str], None] | None = None,
    make_room: Callable[[int], None] | None = None,
) -> Opened:
    """Load a pipeline with its LoRAs, checked, and place it.

    Args:
        source: of its files.
        loras: to be fused.
        device: that computes.
        dtype: of the weights.
        settings: of which `placement` and `dequantize` are read here.
        tell: called before anything is loaded with a sentence about where a large model goes.
        make_room: called with the bytes of all weights before anything is loaded.

    Raises:
        UserError: as in `load_model`.
    """
    name, placement = source.name, None
    try:
        parts = find_parts(source, dequantize=settings.dequantize)
        for part in parts:
            check_files(part, name)
        sizes = stored_sizes(parts, dtype)
        if make_room is not None:
            make_room(sum(size.nbytes for size in sizes))
        placement = plan_placement(sizes, free_memory(device), requested=settings.placement)
        if tell is not None and placement.notable:
            tell(placement.sentence)
        settling = _Settling(placement, Placing(placement, device), name)
        with BUILDING:
            if loras:  # are fused by the pipeline as a whole, into weights that are where they were loaded
                pipeline = load_pipeline(source, parts, dtype)
                fuse_loras(pipeline, loras, name)
                for part in parts:
                    settling(part, getattr(pipeline, part.name))
            else:
                pipeline = load_pipeline(source, parts, dtype, settling)
            settling.placing.finish(pipeline)
    except UserError:
        raise
    except (*LOAD_ERRORS, MemoryError) as error:
        if out_of_memory(error):
            raise UserError(_too_large(name, device, placement)) from error
        raise UserError(
            f"{name} could not be loaded ({first_sentence(error)}); save or download it again, or choose another model."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return Opened(pipeline, placement, settling.samples)


@dataclass(frozen=True, eq=False)
class _Settling:
    """Checks a loaded part and puts it in its place."""

    placement: Placement
    placing: Placing
    name: str
    samples: dict[str, Sample] = field(default_factory=dict)

    def __call__(self, part: Part, module: nn.Module) -> None:
        whole = self.placement.kind == "device"
        if not whole:  # a GPU looks faster than the CPU
            check_finite(part, module, self.name)
        if self.placement.kind == "stream":  # a weight that two modules share has two names from then on
            self.samples[part.name] = sample(module)
        self.placing.settle(part.name, module)
        if whole:
            check_finite(part, module, self.name)


def _too_large(name: str, device: torch.device, placement: Placement | None) -> str:
    start = f"{name} does not fit into the memory of {device}"
    if placement is None or placement.kind in ("stream", "cpu"):
        return f"{start}; choose a smaller model."
    return f"{start}; load it with --placement stream, which needs the least."
