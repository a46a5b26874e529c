"""What leaves the app: a session's pruned model as a recipe, a packed folder, a diffusers folder, a file or a report."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.finishing import finish
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.export.ways import export, sizes
from dit_prune_viz.pruning.named_recipes import name_of

LONGEST_NAME = 80
MAX_DOWNLOAD = 2 << 30
"""Bytes of a folder that is also offered as a zip file; larger ones stay where they were written."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Way:
    """One way out.

    Attributes:
        name: as `export` calls it.
        title: for people.
        words: what it is for, in a sentence.
        ending: of the file; "" for a folder.
    """

    name: str
    title: str
    words: str
    ending: str = ""


WAYS = (
    Way("recipe", "Recipe", "Everything that decides masks and weights. Opened here or on the command line, it gives "
        "the same masks again, bit for bit.", ".json"),
    Way("packed", "Packed folder", "The whole pipeline, its pruned transformer without loss at a fraction of the size. "
        "`load_packed` opens it as a stock diffusers pipeline."),
    Way("diffusers", "Diffusers folder", "A plain pipeline with zeros where weights were pruned. `from_pretrained` "
        "opens it; nothing of this app is needed."),
    Way("single-file", "Single file", "The pruned transformer alone as .safetensors, for ComfyUI and friends.",
        ".safetensors"),
    Way("report", "Report", "One HTML file for people: recipe, map, clusters, pictures with scores, curves. It needs "
        "no network.", ".html"),
    Way("numbers", "Numbers", "Layers and clusters as CSV and JSON, the selection of the Layer page with them."),
)  # fmt: skip
WAYS_BY_NAME: Mapping[str, Way] = {way.name: way for way in WAYS}


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
        return f"Written: {self.path} ({formatting.nbytes(self.nbytes)})."


@dataclass(frozen=True, eq=False)
class Extras:
    """What a report and the numbers hold beside the plan; see `export` for the types."""

    options: Mapping[str, object] = field(default_factory=dict)


def suggested_name(session: Session) -> str:
    """A name for what is written: model, recipe and sparsity."""
    model, report = session.need_model(), session.report
    recipe = name_of(session.recipe) or session.recipe.method.name
    words = [model.name, recipe] if report is None else [model.name, recipe, f"{100 * report.achieved:.0f}"]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(words)).strip("-._")
    return name[:LONGEST_NAME] or "pruned"


def check_name(name: object) -> str:
    """The name itself.

    Raises:
        UserError: no plain file name, such as one that leads into another folder.
    """
    name = name.strip() if isinstance(name, str) else name
    if not isinstance(name, str) or len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise UserError(
            f"Name the file with at most {LONGEST_NAME} letters, digits, dots, - and _, beginning with a letter or "
            f"digit, not {brief(name)}."
        )
    return name


def sizes_of(session: Session) -> dict[str, int]:
    """Way → bytes that it would take; empty before pruning."""
    return sizes(session.pruned) if session.pruned else {}


def take(
    session: Session,
    way: str,
    name: str,
    *,
    folder: Path,
    overwrite: bool = False,
    options: Mapping[str, object] | None = None,
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
        options: of this way, see `export`.
        progress: may raise `Cancelled`; nothing is left then.

    Raises:
        UserError: no plan, a bad name, and as in `export`.
    """
    chosen = WAYS_BY_NAME.get(way)
    if chosen is None:
        raise UserError(f"There is no way out called {brief(way)}; use one of {', '.join(WAYS_BY_NAME)}.")
    target = folder / f"{check_name(name)}{chosen.ending or '-' + chosen.name}"
    session.need_plan()
    pruned = session.pruned if way == "recipe" else finish(session, progress)
    with session.model.lock.hold(progress):
        path = export(pruned, target, way, overwrite=overwrite, progress=progress, **(options or {}))
    nbytes = _bytes_of(path)
    return Taken(chosen, path, nbytes, _download(path, nbytes, progress))


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in _files(path))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _download(path: Path, nbytes: int, progress: Progress | None) -> Path | None:
    """The file itself, or a folder as a zip file beside it, whose parts are compressed already."""
    if path.is_file():
        return path
    if nbytes > MAX_DOWNLOAD:
        return None
    archive = path.with_name(f"{path.name}.zip")
    files = _files(path)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
        for done, file in enumerate(files):
            if progress:
                progress(done, len(files), f"Zipping {file.name}")
            zipped.write(file, file.relative_to(path.parent))
    return archive
