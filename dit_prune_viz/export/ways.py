"""The ways to take a pruned model away, by name: what each weighs, and writing it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.export.diffusers_folder import diffusers_bytes, write_diffusers
from dit_prune_viz.export.folders import check_target, new_file
from dit_prune_viz.export.numbers import number_texts, write_numbers
from dit_prune_viz.export.pack import pack
from dit_prune_viz.export.packed_size import packed_sizes
from dit_prune_viz.export.part_files import own_files, written_bytes
from dit_prune_viz.export.single_file import single_file_bytes, write_single_file
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe_file import recipe_text


@dataclass(frozen=True)
class Way:
    """One way to take a pruned model away.

    Attributes:
        name: as it is asked for.
        title: for people.
        suffix: of the file that is written; empty for a folder.
    """

    name: str
    title: str
    suffix: str = ""


WAYS = MappingProxyType(
    {
        way.name: way
        for way in (
            Way("diffusers", "a folder for diffusers"),
            Way("packed", "a packed folder, the smallest"),
            Way("single-file", "the transformer as one file, for ComfyUI", ".safetensors"),
            Way("recipe", "the recipe", ".json"),
            Way("report", "a report in one page", ".html"),
            Way("numbers", "layers and clusters as CSV and JSON"),
        )
    }
)
"""Name → way, in the order in which people are offered them."""


def export(
    pruned: PrunedModel,
    target: str | Path,
    way: str = "diffusers",
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    scores: Mapping[str, object] | None = None,
    **options: object,
) -> Path:
    """Write a pruned model in one of the `WAYS`; it is there as a whole or not at all.

    Args:
        pruned: only read.
        target: the folder or file to be made, see `Way.suffix`.
        way: "diffusers", "packed", "single-file", "recipe", "report" or "numbers".
        overwrite: whether it may replace what is there.
        progress: called with (done, total, what); may raise `Cancelled`, which leaves nothing.
        scores: name → number or text, for the model card and the report.
        options: of the way, see `write_single_file`, `write_numbers`, `pack` and `report.gather`.

    Returns:
        The target.

    Raises:
        UserError: an unknown way, a target that exists or cannot be written to, a disk that is too small or full, a
            model that cannot be written so.
    """
    if not isinstance(way, str) or way not in WAYS:
        raise UserError(f"There is no way {brief(way)} to take a model away; choose among {', '.join(WAYS)}.")
    check_target(target, overwrite=overwrite, keep=own_files(pruned.model), folder=not WAYS[way].suffix)
    given = {"overwrite": overwrite, **options}
    if way == "recipe":
        return _write_text(pruned, target, _recipe_text(pruned), **given)
    pruned.make_masks(progress)
    if way == "diffusers":
        return write_diffusers(pruned, target, progress=progress, scores=scores, **given)
    if way == "packed":
        return pack(pruned, target, progress=progress, **given)
    if way == "single-file":
        return write_single_file(pruned, target, progress=progress, **given)
    if way == "numbers":
        return write_numbers(pruned, target, **given)
    return _write_report(pruned, target, progress=progress, scores=scores, **given)


def sizes(pruned: PrunedModel) -> dict[str, int]:
    """Bytes that each way takes, before anything is written; a way that this model does not have is left out.

    Exact for the transformers of the folder and the single file and for what is text, estimated for the packed folder.
    The report's is not known before it is made.
    """
    found = {"diffusers": diffusers_bytes(pruned), "packed": written_bytes(pruned.model) + _packed_bytes(pruned)}
    with suppress(UserError):  # nothing reads a single file of this family
        found["single-file"] = single_file_bytes(pruned)
    found["recipe"] = len(_recipe_text(pruned).encode())
    found["numbers"] = sum(len(text.encode()) for text in number_texts(pruned).values())
    return found


def _packed_bytes(pruned: PrunedModel) -> int:
    return packed_sizes(pruned.model).estimate(pruned)


def _recipe_text(pruned: PrunedModel) -> str:
    return recipe_text(pruned, pruned.model)


def _write_report(
    pruned: PrunedModel,
    target: str | Path,
    *,
    overwrite: bool,
    progress: Progress | None,
    scores: Mapping[str, object] | None,
    **gathered: object,
) -> Path:
    from dit_prune_viz.export.report import gather, write_report

    gathered.setdefault("packed_bytes", _packed_bytes(pruned))
    content = gather(pruned, scores=scores, progress=progress, **gathered)
    return write_report(target, content, overwrite=overwrite)


def _write_text(pruned: PrunedModel, target: str | Path, text: str, *, overwrite: bool) -> Path:
    data = text.encode()
    with new_file(target, needs=len(data), overwrite=overwrite, keep=own_files(pruned.model)) as new:
        new.write_bytes(data)
    return Path(target)
