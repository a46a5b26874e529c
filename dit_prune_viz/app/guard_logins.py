"""A bound on how fast passwords can be guessed."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

_MOST_ADDRESSES = 10_000


class LoginAttempts:
    """The wrong passwords of every address within the last minutes.

    Args:
        most: of one address before it has to wait.
        seconds: how long a wrong password counts.
        clock: seconds.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until an address may try again; 0 for now."""
        failed = self._failed.get(address, ())
        now = self._clock()
        recent = [then for then in failed if now - then < self._seconds]
        return self._seconds - (now - recent[0]) if len(recent) >= self._most else 0.0

    def failed(self, address: str) -> None:
        """Note a wrong password."""
        times = self._failed.setdefault(address, deque(maxlen=self._most))
        times.append(self._clock())
        self._failed.move_to_end(address)
        if len(self._failed) > _MOST_ADDRESSES:
            self._failed.popitem(last=False)
