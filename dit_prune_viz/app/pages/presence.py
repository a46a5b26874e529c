"""Whether the client of a call is still there: gradio knows, but tells generators alone."""

from __future__ import annotations

import time
from typing import Any

from gradio.context import LocalContext

from dit_prune_viz.app.session.workspaces import GONE_SECONDS


class Presence:
    """The client whose call runs in the present context.

    Gradio notices at once when a connection is closed. A client that keeps it open but reads nothing is gone after
    GONE_SECONDS, as long as it is told something meanwhile.
    """

    def __init__(self) -> None:
        blocks, event = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
        self._queue: Any = getattr(blocks, "_queue", None)
        self._event = self._queue.event_ids_to_events.get(event) if self._queue is not None and event else None
        self._reads = time.monotonic()

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer; False where there is no telling, as for a plain function call."""
        if self._event is None:
            return False
        unread = self._queue.pending_messages_per_session.get(self._event.session_hash)
        if unread is None or not unread.qsize():
            self._reads = time.monotonic()
        return not self._event.alive or time.monotonic() - self._reads > GONE_SECONDS
