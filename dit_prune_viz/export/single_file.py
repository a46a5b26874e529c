"""A pruned transformer as one safetensors file, for ComfyUI and whatever else reads such files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.export.about import about
from dit_prune_viz.export.folders import new_file
from dit_prune_viz.export.layouts import Original, blank_original, make_original, original_layout
from dit_prune_viz.export.part_files import own_files
from dit_prune_viz.export.pipeline_files import transformers_of
from dit_prune_viz.export.pruned_state import PrunedState
from dit_prune_viz.export.weight_file import file_bytes, write_weights
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.pruned_model import PrunedModel

ORIGINAL, DIFFUSERS = "original", "diffusers"
SUFFIX = ".safetensors"
_COMFY_READS = ("PixArtTransformer2DModel",)
"""Classes of which diffusers reads no single files, but ComfyUI does, with diffusers' names of tensors."""
_SPARE = 1 << 20
_CONVERSION_ERRORS = (KeyError, IndexError, ValueError, RuntimeError, AttributeError, TypeError)


def write_single_file(
    pruned: PrunedModel,
    path: str | Path,
    *,
    part: str | None = None,
    layout: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a pruned transformer as one file, which ComfyUI expects in `models/diffusion_models`.

    The names of its tensors have no prefix. Its header says how it was pruned and which layout it has. One tensor at a
    time is made.

    Args:
        pruned: only read.
        path: of the file, which ends in ".safetensors"; complete or not there at all.
        part: which transformer, of a pipeline that has two.
        layout: "original", as the model was first published, or "diffusers"; None takes the original one where it is
            known here and diffusers reads it back.
        overwrite: whether it may replace one that is there.
        progress: called before every tensor; may raise `Cancelled`.

    Returns:
        The file.

    Raises:
        UserError: it exists or cannot be written to, the disk is too small, a family of which nothing reads a single
            file, or a pipeline with two transformers of which none is chosen.
    """
    if Path(path).suffix != SUFFIX:
        raise UserError(f"A single file's name ends in {SUFFIX}, or nothing opens it; rename {Path(path).name!r}.")
    state = PrunedState(pruned, _chosen(pruned, part))
    plan = _plan(pruned, state, layout)
    state.check_shared()
    needs = file_bytes(plan.blank, plan.metadata) + _SPARE
    with new_file(path, needs=needs, overwrite=overwrite, keep=own_files(pruned.model)) as new:
        write_weights(new, plan.blank, plan.tensor, plan.metadata, progress)
    return Path(path)


def single_file_bytes(pruned: PrunedModel) -> int:
    """Bytes of the file that `write_single_file` makes, of all of them where there are two transformers.

    Raises:
        UserError: nothing reads a single file of this family.
    """
    plans = [_plan(pruned, PrunedState(pruned, part), None) for part in transformers_of(pruned.model.pipeline)]
    return sum(file_bytes(plan.blank, plan.metadata) for plan in plans)


def check_single_file(model: Model) -> None:
    """Refuse a family of which nothing reads a single file. UserError with the way out."""
    for transformer in transformers_of(model.pipeline).values():
        _check_read(transformer)


def file_names(model: Model, stem: str) -> dict[str, str]:
    """Transformer → a name for its file."""
    parts = tuple(transformers_of(model.pipeline))
    return {part: f"{stem}{SUFFIX}" if len(parts) == 1 else f"{stem}-{part}{SUFFIX}" for part in parts}


@dataclass(frozen=True, eq=False)
class _Plan:
    """What will be in a file: blank tensors by name, what makes the real ones, and the header's texts."""

    blank: Mapping[str, Tensor]
    tensor: Callable[[str], Tensor]
    metadata: Mapping[str, str]


def _plan(pruned: PrunedModel, state: PrunedState, layout: str | None) -> _Plan:
    if layout not in (None, ORIGINAL, DIFFUSERS):
        raise UserError(f"There is no layout {layout!r}; use {ORIGINAL}, {DIFFUSERS}, or none.")
    transformer, dtype = state.transformer, state.exact_in
    blank, originals = state.stored(dtype), _originals(state.transformer, state.blank)
    if layout == ORIGINAL and originals is None:
        raise UserError(
            f"No other layout of a {_kind(transformer)} than diffusers' is known here; leave the layout out."
        )
    if layout == ORIGINAL or (layout is None and originals is not None and _reads_back(transformer, originals, blank)):
        by_name = {one.name: one for one in originals}
        return _Plan(
            {name: blank_original(one, blank) for name, one in by_name.items()},
            lambda name: make_original(by_name[name], lambda own: state.as_stored(own, dtype)),
            about(pruned) | {"layout": ORIGINAL, "class": _kind(transformer)},
        )
    if layout is None:
        _check_read(transformer)
    metadata = about(pruned) | {"layout": DIFFUSERS, "class": _kind(transformer)}
    return _Plan(blank, lambda name: state.as_stored(name, dtype), metadata)


def _check_read(transformer: nn.Module) -> None:
    if _reader(transformer) is None and not _is_any(transformer, _COMFY_READS):
        raise UserError(
            f"No program is known to read a {_kind(transformer)} from a single file, in diffusers' layout or another; "
            "take the diffusers folder or the packed one."
        )


def _chosen(pruned: PrunedModel, part: str | None) -> str:
    parts = tuple(transformers_of(pruned.model.pipeline))
    if part is None and len(parts) == 1:
        return parts[0]
    if part not in parts:
        given = "has several transformers" if part is None else f"has no transformer {part!r}"
        raise UserError(f"{pruned.model.name} {given}; choose {' or '.join(parts)}.")
    return part


def _originals(transformer: nn.Module, blank: Mapping[str, Tensor]) -> tuple[Original, ...] | None:
    found = (original_layout(kind.__name__, blank) for kind in type(transformer).__mro__)
    return next((one for one in found if one is not None), None)


def _reader(transformer: nn.Module) -> Callable[..., Mapping[str, Tensor]] | None:
    """diffusers' own function that reads another layout of this class; None where it reads no single file of it."""
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    readers = (name for name in SINGLE_FILE_LOADABLE_CLASSES if _is_any(transformer, (name,)))
    return next((SINGLE_FILE_LOADABLE_CLASSES[name]["checkpoint_mapping_fn"] for name in readers), None)


def _reads_back(transformer: nn.Module, originals: tuple[Original, ...], blank: Mapping[str, Tensor]) -> bool:
    """Whether diffusers makes all its own tensors of the original layout: some of its readers know one width only."""
    reader = _reader(transformer)
    if reader is None:
        return False
    try:
        found = reader(
            checkpoint={one.name: blank_original(one, blank) for one in originals}, config=dict(transformer.config)
        )
    except _CONVERSION_ERRORS:
        return False
    return {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        name: tuple(tensor.shape) for name, tensor in blank.items()
    }


def _is_any(transformer: nn.Module, names: tuple[str, ...]) -> bool:
    return any(kind.__name__ in names for kind in type(transformer).__mro__)


def _kind(transformer: nn.Module) -> str:
    return type(transformer).__name__
