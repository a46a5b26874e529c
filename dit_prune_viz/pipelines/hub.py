"""Ask the hub about a model before downloading it, without waiting through retries when there is no connection."""

from __future__ import annotations

import glob
import shutil
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi, auth_check, constants, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from tqdm.std import tqdm

from dit_prune_viz.checks import first_sentence
from dit_prune_viz.errors import Cancelled, Progress, UserError

_TIMEOUT = 10.0
_MB = 1_000_000
_NEVER = 1e9
"""Seconds."""
_UNAUTHORISED = 401


@dataclass(frozen=True)
class Checkout:
    """A hub model as it is asked for.

    Attributes:
        hub_id: "org/name".
        revision: branch, tag or commit; None is the newest.
        token: of the hub; None takes the one that was logged in with.
        path: of a folder or file in it; empty for the whole.
    """

    hub_id: str
    revision: str | None = None
    token: str | None = field(default=None, repr=False)
    path: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.hub_id}/{self.path}" if self.path else self.hub_id

    def inside(self, file: str) -> str:
        """The path in the repository of a file in the folder that is asked for."""
        return f"{self.path}/{file}" if self.path else file


def is_hub_id(text: str) -> bool:
    """Whether a text has the form of a hub id, "org/name"."""
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return "/" in text


@dataclass(frozen=True)
class Listing:
    """What the hub has of a model: its commit, and the size in bytes of every file by relative path."""

    commit: str | None
    sizes: Mapping[str, int]


def hub_files(model: Checkout) -> Listing | None:
    """A hub model's files; None if the hub cannot be reached.

    Raises:
        UserError: there is no such model or revision, its licence has not been accepted, or the token is refused.
    """
    with _refusals(model):
        try:
            api = HfApi()
            info = api.model_info(
                model.hub_id, revision=model.revision, token=model.token, timeout=_TIMEOUT, files_metadata=True
            )
            if info.gated:
                auth_check(model.hub_id, token=model.token)
        except HfHubHTTPError as error:
            if _refused(error):
                raise
            return None
        except Exception:  # no connection: which class is raised depends on the HTTP library under huggingface_hub
            return None
    return Listing(info.sha, {file.rfilename: file.size or 0 for file in info.siblings or ()})


def small_file(model: Checkout, file: str) -> Path:
    """One small file of a hub model, downloaded.

    Raises:
        UserError: as in `download`.
    """
    with _refusals(model):
        return Path(hf_hub_download(model.hub_id, file, revision=model.revision, token=model.token))


def download(
    model: Checkout, files: Collection[str], listing: Listing | None = None, progress: Progress | None = None
) -> Path:
    """Download some files of a hub model, or find them in the local hub cache.

    Args:
        model: what to download from.
        files: relative paths.
        listing: of the model, for the sizes and the commit.
        progress: told the megabytes; it may raise `Cancelled`, and what has arrived is kept for the next time.

    Returns:
        The folder with the files at their relative paths.

    Raises:
        UserError: the hub refuses a file, the connection breaks or the disk is full.
    """
    listing = listing or Listing(None, {})
    revision = listing.commit or model.revision
    absent = [file for file in files if not isinstance(_cached(model, file, revision), str)]
    wanted = sum(listing.sizes.get(file, 0) for file in absent)
    _check_space(model, wanted)
    bar = _Bar.told(f"Downloading {model.hub_id}", wanted, progress)
    with _refusals(model):
        folder = snapshot_download(
            model.hub_id,
            revision=revision,
            token=model.token,
            allow_patterns=[glob.escape(file) for file in files],
            tqdm_class=bar,
        )
    return Path(folder)


def _cached(model: Checkout, file: str, revision: str | None) -> object:
    return try_to_load_from_cache(model.hub_id, file, revision=revision)


def _check_space(model: Checkout, wanted: int) -> None:
    """UserError where what is to be downloaded is more than the disk has room for."""
    place = Path(constants.HF_HUB_CACHE)
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if wanted > free:
        raise UserError(
            f"{model.hub_id} needs {_gb(wanted)} on the disk and {_gb(free)} are free at {constants.HF_HUB_CACHE}; "
            "make room, or set HF_HUB_CACHE to a folder on another disk."
        )


class _Bar(tqdm):
    """huggingface_hub's progress bar, which tells a `Progress` too, and that alone where there is no terminal."""

    what, wanted, progress, guard = "", 0, None, threading.Lock()

    @classmethod
    def told(cls, what: str, wanted: int, progress: Progress | None) -> type[_Bar]:
        tell = staticmethod(progress or _silent)
        return type("_Bar", (cls,), {"what": what, "wanted": wanted, "progress": tell, "most": [0.0]})

    def __init__(self, *args, **options) -> None:
        self.shown = sys.stderr.isatty()
        super().__init__(*args, **{**options, "disable": False, "delay": 0 if self.shown else _NEVER})

    def display(self, *arguments, **options) -> None:
        if self.shown:
            super().display(*arguments, **options)

    def update(self, n: float | None = 1) -> bool | None:
        with self.guard:  # files come in several threads
            drawn = super().update(n or 0)
            # One bar counts what is received, another one what is written.
            news = self.unit == "B" and self.wanted > 0 and self.n > self.most[0]
            if news:
                self.most[0] = self.n
        if news:
            done = min(self.n, self.wanted)
            words = f"{self.what}, {_gb(done)} of {_gb(self.wanted)}"
            self.progress(int(done / _MB), max(1, int(self.wanted / _MB)), words)
        return drawn


def _silent(done: int, total: int, what: str) -> None:
    """Tell nobody."""


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / _MB:,.1f} MB"


def cached(model: Checkout, files: Iterable[str]) -> Path | None:
    """The first of some files, relative to what is asked for, that is in the local hub cache; None if there is none."""
    found = (_cached(model, model.inside(file), model.revision) for file in files)
    path = next((path for path in found if isinstance(path, str)), None)
    return None if path is None else Path(path)


def unreachable(model: Checkout) -> UserError:
    """What to say where the hub cannot be reached and its cache has no copy."""
    at = "" if model.revision is None else f" at revision {model.revision!r}"
    return UserError(
        f"There is no folder {model.name!r}{at} and the hub cannot be reached; check the name or go online."
    )


def _refused(error: HfHubHTTPError) -> bool:
    """Whether the hub said no, in contrast to being out of order."""
    status = getattr(error.response, "status_code", None)
    return isinstance(error, RepositoryNotFoundError | RevisionNotFoundError) or status == _UNAUTHORISED


@contextmanager
def _refusals(model: Checkout) -> Iterator[None]:
    """Say in one sentence why the hub does not give a model."""
    name = model.hub_id
    try:
        yield
    except GatedRepoError:
        raise UserError(f"{name} is gated: accept its licence on the hub and log in, then try again.") from None
    except RevisionNotFoundError:
        raise UserError(f"{name} has no revision {model.revision!r}; give a branch, tag or commit of it.") from None
    except RepositoryNotFoundError:
        hint = "check the spelling, or log in if it is private"
        raise UserError(f"There is neither a folder nor a hub model {model.name!r}; {hint}.") from None
    except HfHubHTTPError as error:
        if _refused(error):
            raise UserError(
                f"The hub does not accept the token for {name}; log in again or give another one."
            ) from None
        raise UserError(f"The hub could not send {name}; try again later.") from error
    except (UserError, Cancelled):
        raise
    except Exception as error:  # a broken connection, see `hub_files`, a full disk, or files that are not there
        raise UserError(
            f"{name} could not be downloaded ({first_sentence(error)}); check the connection and the space on the disk."
        ) from error
