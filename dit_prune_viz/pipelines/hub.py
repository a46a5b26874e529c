"""Ask the hub about a model before downloading it, without waiting through retries when there is no connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi, auth_check, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from dit_prune_viz.checks import first_sentence
from dit_prune_viz.errors import UserError

_TIMEOUT = 10.0
_UNAUTHORISED = 401


@dataclass(frozen=True)
class Checkout:
    """A hub model as it is asked for.

    Attributes:
        hub_id: "org/name".
        revision: branch, tag or commit; None is the newest.
        token: of the hub; None takes the one that was logged in with.
    """

    hub_id: str
    revision: str | None = None
    token: str | None = field(default=None, repr=False)


def is_hub_id(text: str) -> bool:
    """Whether a text has the form of a hub id, "org/name"."""
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return "/" in text


def hub_files(model: Checkout) -> list[str] | None:
    """Relative paths of a hub model's files; None if the hub cannot be reached.

    Raises:
        UserError: there is no such model or revision, its licence has not been accepted, or the token is refused.
    """
    with _refusals(model):
        try:
            info = HfApi().model_info(model.hub_id, revision=model.revision, token=model.token, timeout=_TIMEOUT)
            if info.gated:
                auth_check(model.hub_id, token=model.token)
        except HfHubHTTPError as error:
            if _refused(error):
                raise
            return None
        except Exception:  # no connection: which class is raised depends on the HTTP library under huggingface_hub
            return None
    return [file.rfilename for file in info.siblings or ()]


def index_file(model: Checkout, file: str) -> Path:
    """One small file of a hub model, downloaded.

    Raises:
        UserError: as in `download`.
    """
    with _refusals(model):
        return Path(hf_hub_download(model.hub_id, file, revision=model.revision, token=model.token))


def download(model: Checkout, variant: str | None) -> Path:
    """Download what a hub model's pipeline needs, or find it in the local hub cache.

    Args:
        model: what to download.
        variant: of the weights, such as "fp16"; None for plain ones.

    Returns:
        The folder of the pipeline.

    Raises:
        UserError: the hub refuses a file, the connection breaks or the disk is full.
    """
    from diffusers import DiffusionPipeline

    with _refusals(model):
        folder = DiffusionPipeline.download(
            model.hub_id, revision=model.revision, token=model.token, variant=variant, use_safetensors=True
        )
    return Path(folder)


def cached_folder(model: Checkout, file: str) -> Path:
    """The folder of a model's copy in the local hub cache, found by one of its top-level files.

    Raises:
        UserError: there is no copy.
    """
    cached = try_to_load_from_cache(model.hub_id, file, revision=model.revision)
    if not isinstance(cached, str):
        at = "" if model.revision is None else f" at revision {model.revision!r}"
        raise UserError(
            f"There is no folder {model.hub_id!r}{at} and the hub cannot be reached; check the name or go online."
        )
    return Path(cached).parent


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
        raise UserError(f"There is neither a folder nor a hub model {name!r}; {hint}.") from None
    except HfHubHTTPError as error:
        if _refused(error):
            raise UserError(
                f"The hub does not accept the token for {name}; log in again or give another one."
            ) from None
        raise UserError(f"The hub could not send {name}; try again later.") from error
    except UserError:
        raise
    except Exception as error:  # a broken connection, see `hub_files`, a full disk, or files that are not there
        raise UserError(
            f"{name} could not be downloaded ({first_sentence(error)}); check the connection and the space on the disk."
        ) from error
