"""The app behind a proxy that serves it below a path of its own, as nginx and Hugging Face Spaces may do."""

from __future__ import annotations

import threading
import time

import httpx
import pytest
import uvicorn
from playwright.sync_api import expect
from serving import free_port, running_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "content-encoding", "host", "accept-encoding"}


def proxy(target: str) -> Starlette:
    """Passes everything below /below on to `target`, without that prefix."""
    client = httpx.AsyncClient(base_url=target, timeout=None)

    async def forward(request: Request) -> StreamingResponse:
        headers = [(name, value) for name, value in request.headers.items() if name not in HOP_BY_HOP]
        path = "/" + request.path_params["path"]
        asked = client.build_request(
            request.method, path, params=request.query_params, headers=headers, content=await request.body()
        )
        answer = await client.send(asked, stream=True)
        kept = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
        return StreamingResponse(answer.aiter_bytes(), answer.status_code, kept)

    return Starlette(routes=[Route("/below/{path:path}", forward, methods=["GET", "POST"])])


@pytest.fixture(scope="module")
def below(tmp_path_factory):
    # A folder without a model opens at once; the plots say so, which takes Plotly.
    empty = tmp_path_factory.mktemp("empty")
    with running_app("--model", str(empty), GRADIO_ROOT_PATH="/below") as target:
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(proxy(target), port=port, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/below/"
        server.should_exit = True
        thread.join(10)


def test_plots_are_drawn_below_a_path(browser, below):
    page = browser.new_page()
    answers = []
    page.on("response", lambda response: answers.append((response.status, response.url)))
    page.goto(below)
    expect(page.locator("#layer-map .plot")).to_contain_text("once the model is loaded", timeout=60_000)
    assert any("plotly.min.js" in url and status == 200 for status, url in answers)
    assert [url for status, url in answers if status >= 400 and "plotly" in url] == []
    page.close()
