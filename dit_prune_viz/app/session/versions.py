"""Plans with a name, kept on disk, so that a link brings one back."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from dit_prune_viz.app.session.plan_name import checked_name
from dit_prune_viz.app.session.recipe_io import open_recipe, save_recipe_text
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.disk_cache import user_folder
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.whole_file import write_whole

FORMAT = 1
MOST = 1000
MOST_BYTES = 8 << 20
"""Of one version: a recipe with the labels of many clusters is large."""
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Version:
    """A named plan. recipe: the text of its file; prompts, seed, steps: what it was drawn with."""

    name: str
    recipe: str
    prompts: tuple[str, ...] = ()
    seed: int = 0
    steps: int = 20

    @property
    def id(self) -> str:
        """Names it in a link; versions with the same content are one."""
        return hashlib.sha256(_text(self).encode()).hexdigest()[:16]


def versions_folder(session: Session) -> Path:
    """Where versions are kept: beside the results of the trade-off, and like them within no bound of the cache."""
    disk = session.store.disk
    return (disk.folder if disk else user_folder()) / "versions"


def save_version(
    session: Session, name: str, prompts: tuple[str, ...] = (), seed: int = 0, steps: int = 20
) -> tuple[Session, Version]:
    """The session with its plan named so, and the version that was written.

    Raises:
        UserError: no plan, no name or a long one, one that is too large, too many versions, a disk that is full.
    """
    named = session.named(checked_name(name))
    version = Version(named.name.text, save_recipe_text(session), tuple(prompts), seed, steps)
    text, folder = _text(version), versions_folder(session)
    if len(text) > MOST_BYTES:
        raise UserError("This plan is too large for a link; save its recipe on the page Take away.")
    path = folder / f"{version.id}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() and sum(1 for _ in folder.glob("*.json")) >= MOST:
            raise UserError(f"There are {MOST:,} saved versions in {folder}; remove some of the files first.")
        write_whole(path, text)
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}); make room and save again.") from error
    return named, version


def find_version(session: Session, id: object) -> Version:
    """The version that a link names.

    Raises:
        UserError: there is none.
    """
    missing = UserError("This link leads to no saved version on this machine; ask for its recipe file instead.")
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise missing
    try:
        held = json.loads((versions_folder(session) / f"{id}.json").read_text(encoding="utf-8"))
        if held.pop("format") != FORMAT:
            raise missing
        held["prompts"] = tuple(held["prompts"])
        return Version(**held)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise missing from None


def open_version(session: Session, version: Version, progress: Progress | None = None) -> Session:
    """The session's model pruned as the version says, with its name.

    Raises:
        UserError: as in `open_recipe`, such as a version of another model.
    """
    return open_recipe(session, version.recipe, progress=progress)[0].named(version.name)


def _text(version: Version) -> str:
    return json.dumps({"format": FORMAT, **asdict(version)}, ensure_ascii=False, sort_keys=True)
