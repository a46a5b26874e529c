"""Which requests the app refuses before anybody looks at them, and with which sentence."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
API = "/gradio_api/"

_UNUSED = re.compile(
    r"/monitoring(/.*)?|/docs(/.*)?|/redoc|/openapi\.json|/pwa_icon(/.*)?|/svelte/.*|/gradio_api/("
    r"proxy=.*|file/.*|file=\s*[a-z][a-z0-9+.-]*:.*|deep_link|custom_component/.*|stream/.*|process_recording|token"
    r"|dev/.*|vibe-.*|undo-vibe-edit|profiling/.*|runs|run-history/.*|monitoring.*)/?",
    re.IGNORECASE | re.DOTALL,
)
"""Routes of gradio that the app has no use for: they fetch other addresses, show what others did, or change code."""

_PUBLIC = ("/assets/", "/static/", "/theme.css", "/favicon.ico")
"""Gradio's own files, which a page may ask for under another port where a proxy does not pass on its own."""

_OPEN = frozenset({"login_check", "user", "app_id", "startup-events", "theme.css"})
"""What a browser asks below `API` before anybody is logged in."""


@dataclass(frozen=True)
class Refusal:
    """An answer in place of the app's.

    Attributes:
        status: of HTTP.
        sentence: for people.
    """

    status: int
    sentence: str


@dataclass(frozen=True)
class GuardRules:
    """What one app lets in.

    Attributes:
        loopback: whether it listens on this machine alone.
        public_hosts: names under which a proxy or a DNS entry shows it, in lower case, without a port.
        space: whether it runs on a Hugging Face Space, whose pages show it in a frame.
        most_upload: bytes of one upload.
        most_body: bytes of any other request.
        logins: wrong passwords from one address within `login_seconds`.
        login_seconds: see `logins`.
        public_files: paths of files that come with the app and hold nothing of anybody.
    """

    loopback: bool = True
    public_hosts: tuple[str, ...] = ()
    space: bool = False
    most_upload: int = 128 << 20
    most_body: int = 32 << 20
    logins: int = 20
    login_seconds: float = 300.0
    public_files: tuple[str, ...] = ()

    def is_public(self, method: str, path: str) -> bool:
        """Whether a request is for a file that everybody may see."""
        own = path.startswith(f"{API}file=") and path.removeprefix(f"{API}file=") in self.public_files
        return method in ("GET", "HEAD") and (own or path.startswith(_PUBLIC))

    def most_bytes(self, path: str) -> int:
        """How many bytes a request may bring."""
        return self.most_upload if path.rstrip("/") == f"{API}upload" else self.most_body

    def refuses(self, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why a request is refused, before its body is read; None if it is not.

        Args:
            method: of HTTP.
            path: decoded once, as routes see it.
            headers: names in lower case.
        """
        other = None if self.is_public(method, path) else self._other_origin(method, path, headers)
        return self._wrong_host(headers) or other or _unused(path)

    def _wrong_host(self, headers: Mapping[str, str]) -> Refusal | None:
        """By a name of its own that leads here, a page elsewhere could get at a local app (DNS rebinding)."""
        name = host_name(headers.get("host", ""))
        known = name in LOOPBACK or name in self.public_hosts
        if known or (not self.loopback and (not self.public_hosts or _is_address(name))):
            return None
        return Refusal(403, f"This app does not answer as {_quoted(name)}; start it with --public-host NAME.")

    def _other_origin(self, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None:  # only browsers write it, and no page can change it
            foreign = site not in ("same-origin", "none")
            # A link, or the frame of a Space, opens the page itself, and nothing that acts.
            opens = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
            if foreign and not (opens and not path.startswith(API)):
                return _elsewhere(origin)
            if not foreign:
                return None
        if origin is None:
            return None
        whose = _authority(origin)
        own = whose is not None and whose == _authority(f"//{headers.get('host', '')}", like=origin)
        return None if own or (whose is not None and whose[0] in self.public_hosts) else _elsewhere(origin)


def needs_login(path: str) -> bool:
    """Whether a path is for those alone who are logged in, where a login is asked for."""
    return path.startswith(API) and path.removeprefix(API).rstrip("/") not in _OPEN


def host_name(authority: str) -> str:
    """The name in "name:port" or "[::1]:port", in lower case; empty where there is none."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def route_path(scope: Mapping[str, object]) -> str:
    """The path of a request below the app's own, as its routes see it."""
    path, root = str(scope["path"]), str(scope.get("root_path") or "")
    inside = root and (path == root or path.startswith(f"{root.rstrip('/')}/"))
    return path.removeprefix(root.rstrip("/")) if inside else path


def lower_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """ASGI's headers as texts; of several with one name, all between commas."""
    found: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]},{text}" if key in found else text
    return found


def _unused(path: str) -> Refusal | None:
    if _UNUSED.fullmatch(path):
        return Refusal(404, "This app has no such address.")
    return None


def _elsewhere(origin: str | None) -> Refusal:
    whose = _quoted(origin) if origin else "another site"
    return Refusal(403, f"Requests from pages of {whose} are refused; open the app itself, or give --public-host.")


def _authority(url: str, like: str = "") -> tuple[str, int | None] | None:
    """(host, port) of an address, the port of its scheme, or of the scheme of `like`, where it says none."""
    try:
        parts, scheme = urlsplit(url), urlsplit(like or url).scheme
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(scheme)
    except ValueError:
        return None
    return (host.rstrip("."), port) if host else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _quoted(text: str) -> str:
    return re.sub(r"[^\w.:/\[\]-]", "?", text)[:80] or "no name"
