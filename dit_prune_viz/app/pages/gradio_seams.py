"""What gradio would do for anybody who asks, taken away: to fetch addresses, and to let other sites read answers."""

from __future__ import annotations

import gradio as gr
from gradio import processing_utils
from gradio.route_utils import CustomCORSMiddleware

NO_ADDRESSES = "This app opens files that were uploaded to it, and fetches no addresses; upload the file."


def close_seams() -> None:
    """Have gradio refuse, in this process, files that are given as addresses, and all cross-origin grants.

    Gradio downloads a file value such as {"path": "https://…"} to hand it to a component. It tells a browser that every
    other origin may read its answers wherever it does not run on localhost. There is no setting for either.
    """
    processing_utils.async_ssrf_protected_get = _fetch_nothing
    CustomCORSMiddleware.is_valid_origin = lambda self, request_headers: False


async def _fetch_nothing(url: str) -> None:
    raise gr.Error(NO_ADDRESSES, print_exception=False)
