"""Which models people may open who did not start the app: folders below one root, and listed hub models."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError

if TYPE_CHECKING:
    from dit_prune_viz.pipelines.load_settings import LoadSettings

_MOST_FILES = 100_000
_HUB_PATTERN = re.compile(r"[\w.*?-]+/[\w.*?-]+")
_HUB_PATH = re.compile(r"([\w.-]+/[\w.-]+)(?:@[^/\s]+)?(?:/.*)?", re.ASCII)
_PULL_REQUESTS = "refs/"
"""Anybody can put files under such a revision of anybody's hub model."""


@dataclass(frozen=True)
class AllowedModels:
    """What may be opened beside the model that the app was started with.

    Attributes:
        root: folder that models lie in, resolved; None is none.
        hub: hub ids, with "*" for any text.
    """

    root: Path | None = None
    hub: tuple[str, ...] = ()

    @staticmethod
    def of(root: Path | None, hub: Sequence[str]) -> AllowedModels:
        """From options.

        Raises:
            UserError: a root that is no folder, or a pattern that fits no hub id.
        """
        for pattern in hub:
            if not _HUB_PATTERN.fullmatch(pattern):
                raise UserError(f"--allow-model {brief(pattern)} is no hub id; write ORG/NAME, with * for any text.")
        try:
            resolved = root and root.expanduser().resolve(strict=True)
        except (OSError, RuntimeError):
            resolved = Path()
        if resolved is not None and not (resolved.is_absolute() and resolved.is_dir()):
            raise UserError(f"--models {root} is no folder; give the one that the models lie in.")
        return AllowedModels(resolved, tuple(hub))

    def checked(self, asked: LoadSettings, started: LoadSettings) -> LoadSettings:
        """What is asked for, its paths below the root written in full.

        Args:
            asked: the model, and all that is taken from elsewhere for it.
            started: what the app was started with, which may always be opened, as it was then.

        Raises:
            UserError: a folder elsewhere, a link that leads out of the root, a hub model that is not listed.
        """
        if replace(asked, placement=started.placement, also_prune=started.also_prune) == started:
            return asked
        if asked.subfolder and not _goes_down(asked.subfolder):
            raise UserError(f"The subfolder {brief(asked.subfolder)} leads out of the model; name one inside.")
        if asked.revision and asked.revision.startswith(_PULL_REQUESTS):
            raise UserError(f"The revision {brief(asked.revision)} is a proposal of anybody's; name a branch or a tag.")
        model, base = self._may_add(asked.model, started.model), asked.base
        loras = tuple(
            one if one in started.loras else replace(one, source=self.place(one.source)) for one in asked.loras
        )
        if base is not None and base != started.base:
            base = self._may_add(base, started.model)
        return replace(asked, model=model, base=base, loras=loras, allowed=self.place)

    def place(self, source: str) -> str:
        """A folder, file or hub id that may be opened, a path in full.

        Raises:
            UserError: as in `checked`.
        """
        text = source.strip()
        path = self._below_root(text)
        if path is not None:
            return str(path)
        found = _HUB_PATH.fullmatch(text.removeprefix("hf://"))
        listed = found is not None and any(fnmatchcase(found[1], pattern) for pattern in self.hub)
        if listed and _goes_down(text) and not _exists(text) and f"@{_PULL_REQUESTS}" not in text:
            return text
        raise UserError(f"This app may not open {brief(source)}; {self._instead()}.")

    def _may_add(self, source: str, started: str) -> str:
        """The same; the model that the app was started with is one of them."""
        return source if source.strip() == started else self.place(source)

    def _below_root(self, text: str) -> Path | None:
        """The folder or file that a text names below the root; None if there is none.

        Raises:
            UserError: a link that leads out of the root.
        """
        if self.root is None or not text:
            return None
        for relative in (self.root, Path.cwd()):
            try:
                found = (relative / os.path.expanduser(text)).resolve()
                if found == self.root or not found.is_relative_to(self.root) or not found.exists():
                    continue
            except (OSError, ValueError, RuntimeError):  # a name too long or impossible, or links in a circle
                continue
            self._check_links(found, text)
            return found
        return None

    def _check_links(self, folder: Path, text: str) -> None:
        """UserError if anything in a folder lies, by a link, outside the root."""
        seen = 0
        for place, folders, files in os.walk(folder):
            seen += len(folders) + len(files)
            if seen > _MOST_FILES:
                raise UserError(f"{brief(text)} holds more files than any model; give a model's own folder.")
            for name in (*folders, *files):
                one = Path(place, name)
                if one.is_symlink() and not one.resolve().is_relative_to(self.root):
                    raise UserError(f"{brief(text)} has a link that leads out of the app's models; {self._instead()}.")

    def _instead(self) -> str:
        ways = ["the model that it was started with"]
        ways += ["a folder below its --models"] if self.root else []
        ways += [f"a hub model such as {', '.join(self.hub[:3])}"] if self.hub else []
        return f"choose {' or '.join(ways)}"


def _goes_down(path: str) -> bool:
    """Whether a relative path stays below where it begins."""
    return not path.startswith(("/", "~", "\\")) and ".." not in PurePosixPath(path.replace("\\", "/")).parts


def _exists(text: str) -> bool:
    """Whether a hub id is also a path here, which would be opened in its place."""
    return os.path.lexists(os.path.expanduser(text))
