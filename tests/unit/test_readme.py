"""The README's own code runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]


def test_notebook_example_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    code = next(block for block in blocks if "load_model(" in block)
    names: dict[str, object] = {}
    exec(code, names)
    assert "parameters left" in capsys.readouterr().out
    assert isinstance(names["sparse"], Image.Image)
    assert names["sparse"].tobytes() != names["dense"].tobytes()


def test_links_and_pictures_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("http")]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
