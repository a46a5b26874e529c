"""Ask the hub about a model before downloading it, without waiting through retries when there is no connection."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, auth_check, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from dit_prune_viz.errors import UserError

_TIMEOUT = 10.0


def is_hub_id(text: str) -> bool:
    """Whether a text has the form of a hub id, "org/name"."""
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return "/" in text


def hub_files(hub_id: str) -> list[str] | None:
    """Relative paths of a hub model's files; None if the hub cannot be reached.

    Raises:
        UserError: there is no such model, or its licence has not been accepted.
    """
    try:
        info = HfApi().model_info(hub_id, timeout=_TIMEOUT)
        if info.gated:
            auth_check(hub_id)
    except GatedRepoError:
        raise UserError(f"{hub_id} is gated: accept its licence on the hub and log in, then try again.") from None
    except RepositoryNotFoundError:
        raise UserError(f"There is neither a folder nor a hub model {hub_id!r}; check the spelling.") from None
    except Exception:  # no connection: which class is raised depends on the HTTP library under huggingface_hub
        return None
    return [file.rfilename for file in info.siblings or ()]


def cached_folder(hub_id: str, file: str) -> Path:
    """The folder of a model's copy in the local hub cache, found by one of its top-level files.

    Raises:
        UserError: there is no copy.
    """
    cached = try_to_load_from_cache(hub_id, file)
    if not isinstance(cached, str):
        raise UserError(f"There is no folder {hub_id!r} and the hub cannot be reached; check the name or go online.")
    return Path(cached).parent
