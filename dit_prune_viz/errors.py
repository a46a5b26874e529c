"""The two exceptions every layer of the package shares, and the shape of a progress callback."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called as `progress(done, total, what)`; it may raise `Cancelled` to stop the work."""


class UserError(ValueError):
    """A mistake that a person can mend. The message is one sentence: the problem and the way out."""


class Cancelled(Exception):
    """The person asked to stop; whatever raised this has left the model and the state as they were."""
