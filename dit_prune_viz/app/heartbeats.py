"""Which pages and clients are there: each keeps a connection open at gradio's heartbeat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from dit_prune_viz.app.guard_rules import API, route_path

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[..., Awaitable], Callable[..., Awaitable]], Awaitable[None]]

_PATH = f"{API}heartbeat/"


class Connected(Protocol):
    """Who is told of pages that come and go, such as `Workspaces`."""

    def connect(self, page: str) -> None:
        """A page has one more connection."""

    def disconnect(self, page: str) -> None:
        """It has one less."""


class Heartbeats:
    """An ASGI middleware that tells of the connections that pages and clients keep open.

    Gradio tells of their end alone, so that a page that is back after a gap looks like one that is gone.

    Args:
        app: what answers.
        pages: is told, with gradio's name of the page.
    """

    def __init__(self, app: App, pages: Connected) -> None:
        self._app, self._pages = app, pages

    async def __call__(self, scope: Scope, receive: Callable[..., Awaitable], send: Callable[..., Awaitable]) -> None:
        """Hand a request on."""
        path = route_path(scope) if scope["type"] == "http" else ""
        if not path.startswith(_PATH):
            await self._app(scope, receive, send)
            return
        page = path.removeprefix(_PATH)
        self._pages.connect(page)
        try:
            await self._app(scope, receive, send)
        finally:
            self._pages.disconnect(page)
