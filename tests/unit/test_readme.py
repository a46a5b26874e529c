"""The README's own code runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from dit_prune_viz.ui.look import launch_options
from dit_prune_viz.ui.page import BUNDLED_CLIP, BUNDLED_MODEL, AppSettings, build_app

ROOT = Path(__file__).parents[2]


def python_block(word: str) -> str:
    """The README's Python example in which a word occurs."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if word in block)


def test_notebook_example_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code = python_block("load_model(")
    names: dict[str, object] = {}
    exec(code, names)
    assert "parameters left" in capsys.readouterr().out
    assert isinstance(names["sparse"], Image.Image)
    assert names["sparse"].tobytes() != names["dense"].tobytes()


def test_api_example_runs():
    app = build_app(AppSettings(str(BUNDLED_MODEL), str(BUNDLED_CLIP), "cpu", "float32"))
    _, address, _ = app.launch(server_name="127.0.0.1", prevent_thread_lock=True, **launch_options())
    names: dict[str, object] = {}
    try:
        exec(python_block("gradio_client").replace("http://127.0.0.1:7860", address), names)
    finally:
        app.close()
    assert names["scores"]["clip"]["model"] == "bundled emoji-CLIP"
    assert 0 < names["scores"]["ssim"] < 1


def test_links_and_pictures_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("http")]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
