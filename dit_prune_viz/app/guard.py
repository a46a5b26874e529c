"""The app's door: a plain ASGI middleware that refuses, limits and guards every request, whoever answers it."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from dit_prune_viz.app.guard_headers import (
    Headers,
    guarded_headers,
    is_html,
    new_nonce,
    page_policy,
    with_nonce,
    with_script,
)
from dit_prune_viz.app.guard_logins import LoginAttempts
from dit_prune_viz.app.guard_rules import API, GuardRules, Refusal, lower_headers, needs_login, route_path
from dit_prune_viz.app.mcp_route import PATH as MCP

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Health = Callable[[], Mapping[str, object]]
"""What is said of the app's state: "status" is "ok", "loading" or "failed"."""

HEALTH, LOGIN = "/health", "/login"


class _TooLarge(Exception):
    """A body that is longer than it may be."""


class Guard:
    """Stands before gradio's app.

    Args:
        app: what answers.
        rules: what is let in.
        health: see `Health`.
        script: that every page runs first.
    """

    def __init__(self, app: App, rules: GuardRules, health: Health, script: str = "") -> None:
        self._app, self._rules, self._health, self._script = app, rules, health, script
        self._attempts = LoginAttempts(rules.logins, rules.login_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app do so."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        path, headers = route_path(scope), lower_headers(scope["headers"])
        method = scope.get("method", "WEBSOCKET")
        answer = _Answer(send, path, self._rules, public=self._rules.is_public(method, path), script=self._script)
        if path == HEALTH and method in ("GET", "HEAD"):
            await answer.health(self._health())
            return
        refusal = self._rules.refuses(method, path, headers) or self._not_logged_in(scope, path, headers)
        if scope["type"] == "websocket":
            if refusal:
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        await self._http(scope, receive, answer, path, headers, refusal)

    async def _http(
        self,
        scope: Scope,
        receive: Receive,
        answer: _Answer,
        path: str,
        headers: Mapping[str, str],
        refusal: Refusal | None,
    ) -> None:
        logs_in = scope["method"] == "POST" and path.rstrip("/") == LOGIN
        brings_login = path.rstrip("/") == MCP and "authorization" in headers
        address = scope["client"][0] if scope.get("client") else ""
        most = self._rules.most_bytes(path)
        refusal = refusal or (self._too_many(address) if logs_in or brings_login else None) or _too_long(headers, most)
        if refusal:
            await answer.refuse(refusal)
            return
        limited = _Limited(receive, most)
        try:
            await self._app(scope, limited, lambda message: answer(message, too_large=limited.exceeded))
        except _TooLarge:
            await answer.refuse(_larger(most))
        if (logs_in and answer.status in (400, 401, 403)) or (brings_login and answer.status == 401):
            self._attempts.failed(address)

    def _too_many(self, address: str) -> Refusal | None:
        wait = self._attempts.wait(address)
        return Refusal(429, f"Too many wrong passwords; try again in {math.ceil(wait):,} s.") if wait else None

    def _not_logged_in(self, scope: Scope, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Gradio asks for the login at most of its routes; here at all of them."""
        app = scope.get("app")
        if not needs_login(path) or getattr(app, "auth", None) is None:
            return None
        names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
        cookies = (one.strip().partition("=") for one in headers.get("cookie", "").split(";"))
        if any(name in names and value in app.tokens for name, _, value in cookies):
            return None
        return Refusal(401, "Log in first.")


class _Limited:
    """A request's body, up to a bound."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._left = receive, most
        self.exceeded: int | None = None
        self._most = most

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self.exceeded = self._most
                raise _TooLarge
        return message


class _Answer:
    """What goes back, with the headers that guard it."""

    def __init__(self, send: Send, path: str, rules: GuardRules, *, public: bool, script: str) -> None:
        self._send, self._path, self._public, self._script = send, path, public, script
        self._nonce = new_nonce()
        self._policy = page_policy(self._nonce, space=rules.space)
        self._page: list[bytes] | None = None
        self._start: MutableMapping[str, Any] | None = None
        self.status: int | None = None
        self._refused = False

    async def __call__(self, message: MutableMapping[str, Any], *, too_large: int | None = None) -> None:
        """Send on what the app says; in place of what it says of a body cut short comes the reason."""
        if self._refused:
            return
        if too_large is not None and self.status is None:
            await self.refuse(_larger(too_large))
        elif message["type"] == "http.response.start":
            await self._begin(message)
        elif self._page is not None and message["type"] == "http.response.body":
            await self._collect(message)
        else:
            await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with a sentence, unless an answer has begun."""
        if self.status is not None:
            return
        # Gradio's page shows the whole answer to an upload, and "detail" of any other.
        plain = self._path.startswith(f"{API}upload")
        body = refusal.sentence.encode() if plain else json.dumps({"detail": refusal.sentence}).encode()
        await self._whole(refusal.status, "text/plain; charset=utf-8" if plain else "application/json", body)

    async def health(self, health: Mapping[str, object]) -> None:
        """Answer with the app's state; 503 tells a load balancer that it cannot work."""
        status = 503 if health["status"] == "failed" else 200
        await self._whole(status, "application/json", json.dumps(health).encode(), (b"cache-control", b"no-store"))

    def _guarded(self, headers: Headers) -> Headers:
        return guarded_headers(headers, self._path, self._policy, public=self._public)

    async def _whole(self, status: int, kind: str, body: bytes, *more: tuple[bytes, bytes]) -> None:
        self._refused, self.status = True, status
        headers: Headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *more]
        await self._send({"type": "http.response.start", "status": status, "headers": self._guarded(headers)})
        await self._send({"type": "http.response.body", "body": body})

    async def _begin(self, message: MutableMapping[str, Any]) -> None:
        self.status = message["status"]
        headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        message = {**message, "headers": self._guarded(headers)}
        if is_html(headers):
            self._page, self._start = [], message
        else:
            await self._send(message)

    async def _collect(self, message: MutableMapping[str, Any]) -> None:
        self._page.append(message.get("body", b""))
        if message.get("more_body"):
            return
        page = with_nonce(with_script(b"".join(self._page), self._script), self._nonce)
        kept = [(name, value) for name, value in self._start["headers"] if name.lower() != b"content-length"]
        length = (b"content-length", str(len(page)).encode())
        await self._send({**self._start, "headers": [*kept, length]})
        await self._send({"type": "http.response.body", "body": page})


def _too_long(headers: Mapping[str, str], most: int) -> Refusal | None:
    try:
        length = int(headers.get("content-length", "0"))
    except ValueError:
        return Refusal(400, "The request says no readable length; send it again.")
    return _larger(most) if length > most else None


def _larger(most: int) -> Refusal:
    return Refusal(413, f"At most {most >> 20:,} MB can be sent at once; send less.")
