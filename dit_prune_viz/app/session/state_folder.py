"""Where work is saved between runs of the app: a folder of the user's own, with a bound and a time to live."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_state_dir

from dit_prune_viz.disk_cache import OFF, chosen_folder
from dit_prune_viz.whole_file import remove_stale_parts, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

VARIABLE = "DIT_PRUNE_VIZ_STATE"
KEPT_SECONDS = 30 * 24 * 3600
SESSION_BYTES = 64 << 20
"""Of one session's work; the oldest pictures are left out."""
ALL_BYTES = 1 << 30
_FOLDER = re.compile(r"[0-9a-f]{32}")
_PICTURE = re.compile(r"[0-9a-f]{32}\.png")
_MOST_PIXELS = 1 << 26


class StateFolder:
    """Saved work: a folder per session, named by a digest of its id, in it a JSON file per model and the pictures.

    Args:
        folder: made when first needed, for its owner alone.
        seconds: work that was not touched for so long is removed.
        session_bytes: of one session, at most.
        all_bytes: of all together; what was touched longest ago goes first.
    """

    def __init__(
        self,
        folder: Path,
        seconds: float = KEPT_SECONDS,
        session_bytes: int = SESSION_BYTES,
        all_bytes: int = ALL_BYTES,
    ) -> None:
        self.folder = folder
        self._seconds, self._session_bytes, self._all_bytes = seconds, session_bytes, all_bytes

    def find(self, id: str, fingerprint: str) -> dict[str, Any] | None:
        """The work of a session on a model; None where there is none, or where it cannot be read."""
        return self._read(self._file(id, fingerprint))

    def others(self, id: str, fingerprint: str) -> tuple[str, ...]:
        """The names of other models on which a session has work."""
        own, found = self._file(id, fingerprint), []
        for path in sorted(self._place(id).glob("work-*.json")):
            model = (self._read(path) or {}).get("model") if path != own else None
            if isinstance(model, dict) and isinstance(model.get("name"), str):
                found.append(model["name"])
        return tuple(found)

    def write(self, id: str, fingerprint: str, values: Mapping[str, Any]) -> None:
        """Save work, whole or not at all, then remove what exceeds the bounds. OSError if the disk does not take it."""
        text = json.dumps(values, ensure_ascii=False)
        while len(text) > self._session_bytes // 2 and values.get("runs"):  # the recipe itself is what matters
            values = {**values, "runs": values["runs"][:-1]}
            text = json.dumps(values, ensure_ascii=False)
        self._make(id)
        write_whole(self._file(id, fingerprint), text)
        self._trim(keep=self._place(id))

    def pictures(self, id: str) -> Pictures:
        """The pictures of a session."""
        self._make(id)
        return Pictures(self._place(id), self._session_bytes // 2)

    def _place(self, id: str) -> Path:
        return self.folder / hashlib.sha256(id.encode()).hexdigest()[:32]

    def _file(self, id: str, fingerprint: str) -> Path:
        return self._place(id) / f"work-{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}.json"

    def _make(self, id: str) -> None:
        if not self.folder.exists():
            self.folder.mkdir(parents=True, mode=0o700)
        self._place(id).mkdir(mode=0o700, exist_ok=True)

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            if time.time() - path.stat().st_mtime > self._seconds or path.stat().st_size > self._session_bytes:
                return None
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return values if isinstance(values, dict) else None

    def _trim(self, keep: Path) -> None:
        known = []
        for place in self.folder.iterdir():
            if not _FOLDER.fullmatch(place.name) or place == keep:
                continue
            with suppress(OSError):  # another process may remove it at the same time
                sizes = [(path.stat().st_mtime, path.stat().st_size) for path in place.iterdir()]
                known.append((max((at for at, _ in sizes), default=0.0), sum(size for _, size in sizes), place))
        used = sum(size for _, size, _ in known)
        for at, size, place in sorted(known):
            if time.time() - at > self._seconds or used > self._all_bytes:
                shutil.rmtree(place, ignore_errors=True)
                used -= size
        remove_stale_parts(keep)


class Pictures:
    """The pictures of one session, each a PNG file named by its content."""

    def __init__(self, place: Path, most: int) -> None:
        self._place, self._most, self._used = place, most, 0
        self._named: set[str] = set()

    def keep(self, image: Image) -> str | None:
        """Keep a picture; its name, or None where there is no room for more."""
        file = io.BytesIO()
        image.save(file, "png")
        content = file.getvalue()
        name = f"{hashlib.sha256(content).hexdigest()[:32]}.png"
        if name not in self._named:
            if self._used + len(content) > self._most:
                return None
            self._used += len(content)
            self._named.add(name)
            if not (self._place / name).exists():
                write_whole(self._place / name, content)
        return name

    def load(self, name: object) -> Image:
        """The picture of a name. ValueError or OSError where there is none."""
        if not isinstance(name, str) or not _PICTURE.fullmatch(name):
            raise ValueError("no picture's name")
        from PIL import Image  # which the command line does not wait for

        try:
            with Image.open(self._place / name, formats=["PNG"]) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise OSError("far too large")
                image.load()
                return image.copy()
        except (SyntaxError, Image.DecompressionBombError) as problem:  # as Pillow says of some damaged files
            raise OSError("damaged") from problem

    def remove_others(self) -> None:
        """Remove the pictures that no saved work of the session names, on whichever model."""
        told = "".join(path.read_text(encoding="utf-8") for path in self._place.glob("work-*.json"))
        for path in self._place.glob("*.png"):
            if path.name not in told:
                path.unlink(missing_ok=True)


def add_state_option(parser: argparse.ArgumentParser) -> None:
    """Let a command take --state; `open_state` understands its value."""
    parser.add_argument(
        "--state", metavar=f"DIR|{OFF}", help=f"folder for the work of sessions between runs (or set {VARIABLE})"
    )


def open_state(choice: str | None = None) -> StateFolder | None:
    """The folder that a person chose.

    Args:
        choice: a folder, or "off"; None or an empty text leaves it to DIT_PRUNE_VIZ_STATE, and else takes the user's
            folder for state.

    Returns:
        None for "off".

    Raises:
        UserError: the folder is a file.
    """
    refusal = "The state folder {} is a file; give a folder, or off to save nothing."
    folder = chosen_folder(choice, VARIABLE, _user_folder, refusal)
    return None if folder is None else StateFolder(folder)


def _user_folder() -> Path:
    return Path(user_state_dir("dit_prune_viz", appauthor=False))
