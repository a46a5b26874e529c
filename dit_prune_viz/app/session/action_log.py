"""The app's log: a line of JSON on stderr for every action, saying whose it was only to those who compare lines."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import sys
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dit_prune_viz.app.session.jobs import GaveWay
from dit_prune_viz.errors import Cancelled, UserError

OK, REFUSED, FAILED, CANCELLED, GAVE_WAY = "ok", "refused", "failed", "cancelled", "gave way"
"""What comes of an action; one whose client went away is cancelled."""

_LOG = logging.getLogger("dit_prune_viz.actions")
_PROMPTS = logging.getLogger("dit_prune_viz.prompts")
_KEY = secrets.token_bytes(32)
"""Of this process: without it a digest says nothing of the id it was made from."""
_INNER = ("<lambda>", "work", "verb", "run")


def set_up(*, verbose: bool = False, prompts: bool = False) -> None:
    """Write the log to stderr.

    Args:
        verbose: beginnings and refused requests, too.
        prompts: whether prompts are written.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    own = logging.getLogger("dit_prune_viz")
    own.handlers, own.propagate = [handler], False
    own.setLevel(logging.DEBUG if verbose else logging.INFO)
    _PROMPTS.setLevel(logging.INFO if prompts else logging.CRITICAL)


def digest(owner: str | None) -> str:
    """Eight letters that are the same for one session while the app runs, and lead nobody into it."""
    return hashlib.blake2b((owner or "").encode(), key=_KEY, digest_size=4).hexdigest() if owner else "-"


def write(level: int = logging.INFO, **values: object) -> None:
    """A line of the log."""
    _LOG.log(level, "%s", values, extra={"values": values})


def write_prompts(prompts: Sequence[str]) -> None:
    """What is to be drawn, where the log may say that."""
    _PROMPTS.info("prompts", extra={"values": {"prompts": list(prompts)}})


@contextmanager
def logged(work: Callable[..., Any], owner: str | None) -> Iterator[None]:
    """A line for what is done meanwhile: `work`, for the session of this id."""
    line, outcome = _Line(work, owner), OK
    try:
        yield
    except BaseException as problem:
        outcome = _outcome_of(problem)
        raise
    finally:
        line.end(outcome)


def action_of(work: Callable[..., Any]) -> str:
    """The name of what a function does, which may lie inside the one that has it: "load_model", "compare"."""
    parts = [part.rpartition(".")[2] for part in getattr(work, "__qualname__", "action").split(".<locals>.")]
    while len(parts) > 1 and parts[-1] in _INNER:
        parts.pop()
    return parts[-1].strip("_")


class _Line:
    """One action's line."""

    def __init__(self, work: Callable[..., Any], owner: str | None) -> None:
        self._values = {"action": action_of(work), "session": digest(owner)}
        self._begin = time.perf_counter()
        write(logging.DEBUG, **self._values, outcome="begun")

    def end(self, outcome: str) -> None:
        """Write it."""
        write(**self._values, ms=round(1000 * (time.perf_counter() - self._begin)), outcome=outcome)


class _Lines(logging.Formatter):
    """JSON, in which no text can begin a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z"
        values = getattr(record, "values", None) or {"message": record.getMessage()}
        return json.dumps({"time": when, "level": record.levelname.lower(), **values})


def _outcome_of(problem: BaseException) -> str:
    for one in (problem, problem.__cause__):
        if isinstance(one, GaveWay):
            return GAVE_WAY
        if isinstance(one, Cancelled | CancelledError):
            return CANCELLED
        if isinstance(one, UserError):
            return REFUSED
    return FAILED
