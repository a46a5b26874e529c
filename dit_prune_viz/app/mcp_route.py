"""The address at which agents find the app's tools: who may come in, and when their work is called off."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from dit_prune_viz.app.session.recipe_sessions import FindSession
    from dit_prune_viz.app.session.startup import Startup

PATH = "/mcp"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_GONE = "dit_prune_viz.gone"
"""The key in a request's scope of the event that its client has left."""
_MOST_BYTES = 4 << 20
_MOST_CLIENTS = 1000


class McpRoute:
    """An ASGI middleware that answers at PATH and hands on everything else. It asks for the login of the gradio app.

    Args:
        app: what answers everywhere else.
        startup: see `RecipeSessions`.
        find: see `RecipeSessions`.
    """

    def __init__(self, app: App, startup: Startup, find: FindSession | None = None) -> None:
        self._app = app
        self._startup, self._find = startup, find
        self._opening: asyncio.Task[StreamableHTTPSessionManager] | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"].rstrip("/") != PATH:
            await self._app(scope, receive, send)
            return
        if not _may_enter(scope):
            await _refuse(send)
            return
        scope[_GONE] = gone = asyncio.Event()

        async def watched() -> MutableMapping[str, Any]:
            message = await receive()
            if message["type"] == "http.disconnect":
                gone.set()
            return message

        # The package takes a while to import, which nobody waits for without need. What failed is tried again.
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            self._opening = asyncio.create_task(self._open())
        manager = await asyncio.shield(self._opening)
        await manager.handle_request(scope, watched, send)

    async def _open(self) -> StreamableHTTPSessionManager:
        manager = await asyncio.to_thread(self._make)
        ready = asyncio.Event()
        self._serving = asyncio.create_task(_serve(manager, ready))
        await ready.wait()
        return manager

    def _make(self) -> StreamableHTTPSessionManager:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from dit_prune_viz.app.mcp_server import make_server

        server = make_server(self._startup, lambda request: request.scope[_GONE], self._find)
        return StreamableHTTPSessionManager(server, max_request_body_size=_MOST_BYTES, max_sessions=_MOST_CLIENTS)


async def _serve(manager: StreamableHTTPSessionManager, ready: asyncio.Event) -> None:
    """Until the server's loop ends, which cancels it."""
    async with manager.run():
        ready.set()
        await asyncio.Event().wait()


def _may_enter(scope: Scope) -> bool:
    """Whether a request brings the app's login, as HTTP Basic or as "Bearer user:password"."""
    logins = getattr(scope.get("app"), "auth", None)
    if logins is None:
        return True
    headers = dict(scope["headers"])
    scheme, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            return False
    elif scheme.lower() != "bearer":
        return False
    user, _, password = given.strip().partition(":")
    known = logins.get(user) if isinstance(logins, dict) else None
    return known is not None and secrets.compare_digest(known.encode(), password.encode())


async def _refuse(send: Send) -> None:
    body = b'{"detail": "Log in with HTTP Basic, or send the header Authorization: Bearer user:password."}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", b'Basic realm="dit-prune-viz", charset="UTF-8"'),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
