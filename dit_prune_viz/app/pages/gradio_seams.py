"""What gradio has no setting for: it would fetch addresses, let other sites read answers, and never forget a page."""

from __future__ import annotations

from contextlib import suppress

import gradio as gr
from gradio import processing_utils
from gradio.route_utils import CustomCORSMiddleware
from gradio.state_holder import StateHolder

_delete_state = StateHolder.delete_state
NO_ADDRESSES = "This app opens files that were uploaded to it, and fetches no addresses; upload the file."


def close_seams() -> None:
    """Have gradio refuse, in this process, files that are given as addresses, and all cross-origin grants.

    Gradio downloads a file value such as {"path": "https://…"} to hand it to a component. It tells a browser that every
    other origin may read its answers wherever it does not run on localhost. There is no setting for either. What it
    looks through once a second for what has expired may lose a page meanwhile, see `forget_page`.
    """
    processing_utils.async_ssrf_protected_get = _fetch_nothing
    CustomCORSMiddleware.is_valid_origin = lambda self, request_headers: False
    StateHolder.delete_state = _delete_what_is_there


def forget_page(blocks: gr.Blocks, page: str) -> None:
    """Drop what gradio keeps of a page that is gone: its states, for an hour, and a copy of the layout, for good."""
    holder = blocks.state_holder
    with holder.lock:
        holder.session_data.pop(page, None)
        holder.time_last_used.pop(page, None)


def _delete_what_is_there(self: StateHolder, session_id: str, expired_only: bool = False) -> None:
    with suppress(KeyError):
        _delete_state(self, session_id, expired_only)


async def _fetch_nothing(url: str) -> None:
    raise gr.Error(NO_ADDRESSES, print_exception=False)
