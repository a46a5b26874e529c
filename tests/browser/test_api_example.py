"""The README's example of a client, against the app that the browser's tests use."""

from __future__ import annotations

from readme import python_block


def test_api_example_runs(app_url):
    names: dict[str, object] = {}
    exec(python_block("gradio_client").replace("http://127.0.0.1:7860", app_url), names)
    assert names["scores"]["clip"]["model"] == "bundled emoji-CLIP"
    assert 0 < names["scores"]["ssim"] < 1
