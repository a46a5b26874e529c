"""What the app tells browsers to refuse: scripts that are not its own, other hosts, and frames of other sites."""

from __future__ import annotations

import re
import secrets

from dit_prune_viz.app.guard_rules import API

Headers = list[tuple[bytes, bytes]]

_SPACES = "https://huggingface.co https://*.hf.space"
_FILE = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; media-src 'self'; sandbox"
"""For what visitors uploaded and the app drew: to be looked at, never to run."""
_SCRIPT = re.compile(rb"<script(?=[\s>])")
_OWN = (b"content-security-policy", b"x-content-type-options", b"referrer-policy", b"cross-origin-resource-policy")


def new_nonce() -> str:
    """A word that only the scripts of one answer know."""
    return secrets.token_urlsafe(16)


def page_policy(nonce: str, *, space: bool) -> str:
    """The Content-Security-Policy of the page.

    Scripts run if gradio's page has them, or if those load them: markup that somebody slips in has no nonce. Gradio
    makes functions of the texts of its HTML components, hence 'unsafe-eval'; Svelte and Plotly write styles. Plotly
    saves pictures through blobs.

    Args:
        nonce: of this answer.
        space: whether pages of Hugging Face may show it in a frame.
    """
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'nonce-{nonce}' 'strict-dynamic' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self' data: blob:",
            "worker-src 'self' blob:",
            "frame-src 'none'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            f"frame-ancestors 'self'{f' {_SPACES}' if space else ''}",
        )
    )


def guarded_headers(headers: Headers, path: str, policy: str, *, public: bool = False) -> Headers:
    """An answer's headers with those that guard it; a file of a visitor gets a policy of its own.

    Args:
        headers: as the app has them.
        path: of the request.
        policy: of the page.
        public: whether other origins may load it.
    """
    policy = _FILE if path.startswith(f"{API}file=") else policy
    guards = (policy.encode("latin-1"), b"nosniff", b"same-origin", b"cross-origin" if public else b"same-origin")
    return [(name, value) for name, value in headers if name.lower() not in _OWN] + list(zip(_OWN, guards, strict=True))


def with_nonce(page: bytes, nonce: str) -> bytes:
    """An HTML page whose scripts know the nonce, and tell it to those that they load."""
    word = nonce.encode()
    page = _SCRIPT.sub(b'<script nonce="' + word + b'"', page)
    return page.replace(b"<head>", b'<head><meta property="csp-nonce" nonce="' + word + b'">', 1)


def with_script(page: bytes, script: str) -> bytes:
    """An HTML page that runs a script of the app's before any other."""
    return page.replace(b"<head>", b"<head><script>" + script.encode() + b"</script>", 1) if script else page


def is_html(headers: Headers) -> bool:
    """Whether an answer is a page."""
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in headers)
