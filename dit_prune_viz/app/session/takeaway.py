"""What leaves the app: a session's pruned model as a recipe, folders, a single file, a report or numbers."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from dit_prune_viz.app.session.finishing import finish
from dit_prune_viz.app.session.layer_subject import layer_of
from dit_prune_viz.app.session.recipe_io import with_clusters
from dit_prune_viz.app.session.runs import Run
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.experiments.results import Row
from dit_prune_viz.experiments.table import tabulate
from dit_prune_viz.export.folders import bytes_at, files_in, new_file
from dit_prune_viz.export.report_parts.content import Pair
from dit_prune_viz.export.report_parts.pairs import draw_pairs, make_pair
from dit_prune_viz.export.ways import WAYS, Way, export, sizes
from dit_prune_viz.formatting import size
from dit_prune_viz.pruning.named_recipes import name_of
from dit_prune_viz.pruning.pruned_model import PrunedModel

LONGEST_NAME = 80
MAX_DOWNLOAD = 2 << 30
"""Bytes of a folder that is also offered as a zip file; larger ones stay where they were written."""
EXACT, INT8 = "exact", "int8"
"""How the packed folder stores values."""

WORDS = MappingProxyType(
    {
        "diffusers": "A plain pipeline with zeros where weights were pruned. `from_pretrained` opens it; nothing of "
        "this app is needed.",
        "packed": "The whole pipeline, its pruned transformer at a fraction of the size. `load_packed` opens it as a "
        "stock diffusers pipeline.",
        "single-file": "The pruned transformer alone as .safetensors, for ComfyUI and friends.",
        "recipe": "Everything that decides masks and weights. Opened here or on the command line, it gives the same "
        "masks again, bit for bit.",
        "report": "One HTML page for people: recipe, map, clusters, pictures with scores, curves. It needs no network.",
        "numbers": "Layers, clusters and the selection of the Layer page, as CSV and JSON.",
    }
)
"""Way → what it is for."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Taken:
    """What was written: where, how large, and a file that a browser can download, if there is one."""

    way: Way
    path: Path
    nbytes: int
    download: Path | None = None

    @property
    def words(self) -> str:
        """In a sentence."""
        return f"Written: `{self.path}`, {size(self.nbytes)}."


@dataclass(frozen=True, eq=False)
class Found:
    """What other pages have found that goes along: comparisons, measured cells, selected units of a layer."""

    runs: Sequence[Run] = ()
    rows: Sequence[Row] = ()
    selection: Selection = field(default_factory=Selection)


def suggested_name(session: Session) -> str:
    """A name for what is written: model, recipe and sparsity."""
    model, report, recipe = session.need_model(), session.report, session.recipe
    words = [
        model.name,
        name_of(recipe) or recipe.method.name,
        "" if report is None else f"{100 * report.achieved:.0f}",
    ]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(filter(None, words))).strip("-._")
    return name[:LONGEST_NAME] or "pruned"


def check_name(name: object) -> str:
    """The name itself.

    Raises:
        UserError: no plain file name, such as one that leads into another folder.
    """
    name = name.strip() if isinstance(name, str) else name
    if not isinstance(name, str) or len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise UserError(
            f"A name has at most {LONGEST_NAME} letters, digits, dots, - and _ and begins with a letter or digit; "
            f"{brief(name)} does not."
        )
    return name


def place(folder: Path, way: Way, name: str) -> Path:
    """Where a way is written: "pruned/emoji-packed", "pruned/emoji.json"."""
    return folder / (f"{name}{way.suffix}" if way.suffix else f"{name}-{way.name}")


def sizes_of(session: Session) -> dict[str, int]:
    """Way → bytes that it would take; empty before pruning, and before a large model has its masks."""
    if session.pruned is None or len(session.pruned.layers.made) < len(session.pruned.layers):
        return {}
    return sizes(session.pruned)


def take(
    session: Session,
    way: str,
    name: str,
    *,
    folder: Path,
    overwrite: bool = False,
    values: str = EXACT,
    found: Found | None = None,
    progress: Progress | None = None,
) -> Taken:
    """Write a session's pruned model in one way, whole or not at all.

    Searches and updates of the recipe are done first where they are not known yet.

    Args:
        session: pruned.
        way: of `WAYS`.
        name: of the file or folder, without ending.
        folder: where all that is taken away goes.
        overwrite: whether what has the name may be replaced.
        values: of the packed folder, EXACT or INT8.
        found: by other pages, for the report and the numbers.
        progress: may raise `Cancelled`; nothing is left then.

    Raises:
        UserError: no plan, a bad name, and as in `export`.
    """
    if not isinstance(way, str) or way not in WAYS:
        raise UserError(f"There is no way {brief(way)} to take a model away; choose among {', '.join(WAYS)}.")
    chosen = WAYS[way]
    target = place(folder, chosen, check_name(name))
    planned = with_clusters(session)
    pruned = planned
    if way != "recipe":
        done = finish(session, progress)
        pruned = PrunedModel(done.model, planned.plan, done.layers, done.report, done.seconds)
    options = _options(session, pruned, way, values, found or Found(), progress)
    path = export(pruned, target, way, overwrite=overwrite, progress=progress, **options)
    nbytes = bytes_at(path)
    return Taken(chosen, path, nbytes, _download(path, nbytes, progress))


def _options(session: Session, pruned: PrunedModel, way: str, values: str, found: Found, progress) -> dict[str, object]:
    if way == "packed":
        return {} if values == EXACT else {"values": values}
    if way == "numbers":
        layer = layer_of(session, found.selection.subject) if len(found.selection) else None
        chosen = (layer, session.clusters[layer].unit, found.selection.ids) if layer else None
        return {"clusters": session.clusters or None, "selection": chosen}
    if way != "report":
        return {}
    pairs = _pairs(session, found.runs)
    if not pairs:
        pairs = draw_pairs(session.model, pruned, clip=session.store.clip(), progress=progress)
    lines = tabulate(found.rows)
    return {
        "statistics": session.statistics,
        "clusters": {name: one for name, one in session.clusters.items() if pruned.plan.layer(name).clusters},
        "pictures": pairs,
        "curves": lines or None,
    }


def _pairs(session: Session, runs: Sequence[Run]) -> tuple[Pair, ...]:
    """The pictures of comparisons between the dense model and the plan that is present."""
    mine = [run for run in runs if run.is_plan and run.session.pruned is session.pruned]
    return tuple(
        make_pair(
            left,
            right,
            request,
            names=(run.comparison.left.name, run.comparison.right.name),
            clip=None if any(map(math.isnan, clips)) else clips,
            clip_name=run.comparison.clip_name,
        )
        for run in mine
        for left, right, request, clips in zip(
            run.comparison.left.images,
            run.comparison.right.images,
            run.comparison.requests,
            zip(run.comparison.left.clips, run.comparison.right.clips, strict=True),
            strict=True,
        )
    )


def _download(path: Path, nbytes: int, progress: Progress | None) -> Path | None:
    """The file itself, or a folder as a zip file beside it; what is in there is compressed already."""
    if path.is_file():
        return path
    if nbytes > MAX_DOWNLOAD:
        return None
    archive, files = path.with_name(f"{path.name}.zip"), files_in(path)
    with new_file(archive, needs=nbytes, overwrite=True) as part, zipfile.ZipFile(part, "w") as zipped:
        for done, file in enumerate(files):
            if progress:
                progress(done, len(files), f"Zipping {file.name}")
            zipped.write(file, file.relative_to(path.parent))
    return archive
