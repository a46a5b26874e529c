"""The README's own code runs as printed."""

from __future__ import annotations

import re

from PIL import Image
from readme import ROOT, python_block


def test_notebook_example_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code = python_block("load_model(")
    names: dict[str, object] = {}
    exec(code, names)
    assert "parameters left" in capsys.readouterr().out
    assert isinstance(names["sparse"], Image.Image)
    assert names["sparse"].tobytes() != names["dense"].tobytes()


def test_links_and_pictures_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'\bsrc(?:set)?="([^"]+)"', text)
    targets = [target for target in found if not target.startswith("http")]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
