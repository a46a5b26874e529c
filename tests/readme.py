"""The examples and tables of the README and of the pages under assets/docs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "assets" / "docs"
README = ROOT / "README.md"


def blocks(path: Path, language: str) -> list[str]:
    """The code examples of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def python_block(word: str, path: Path = README) -> str:
    """The page's Python example in which a word occurs."""
    return next(block for block in blocks(path, "python") if word in block)


def table(path: Path, corner: str) -> list[list[str]]:
    """The cells of the page's table whose first header cell starts with `corner`, header first, without the rule."""
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {corner}"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return [rows[0], *rows[2:]]
