"""The rooms of the package, proved from its imports: which may import which, no circles, nothing grown too large."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from dit_prune_viz.figures.library import PLOTLY_JS

ROOT = Path(__file__).parents[2] / "dit_prune_viz"
FLOORS = (
    (
        "errors",
        "checks",
        "formatting",
        "caching",
        "disk_cache",
        "resources",
        "plugins",
        "memory",
        "csv_text",
        "whole_file",
    ),
    ("pipelines",),
    ("calibration", "clustering", "metrics"),
    ("masks",),
    ("methods", "sensitivity"),
    ("pruning",),
    ("generation",),
    ("figures",),
    ("export",),
    ("experiments",),
    ("app",),
    ("command", "__main__"),
)
"""From the ground up: a room imports from floors below its own, and from itself."""

WITH_GRADIO = ("app/pages/", "app/widgets/", "app/api.py", "app/server.py", "app/serve.py", "app/theme.py")
MOST_LINES, MOST_IN_FUNCTION = 400, 80


@cache
def modules() -> dict[str, Path]:
    """Dotted name → file of every module."""
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = ("dit_prune_viz", *path.relative_to(ROOT).with_suffix("").parts)
        names[".".join(parts).removesuffix(".__init__")] = path
    return names


@cache
def imports(name: str) -> frozenset[str]:
    """Everything a module imports, at whatever place: own modules by their names, others by their package."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            own = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in modules() else node.module for full in own}
    return frozenset(found)


def own_imports(name: str) -> set[str]:
    return {other for other in imports(name) if other in modules() and other != name}


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else "__init__"


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The nodes that lie on some circle."""
    left = {node: set(others) for node, others in graph.items()}
    while free := [node for node, others in left.items() if not others & left.keys()]:
        for node in free:
            del left[node]
    return sorted(left)


def test_no_circle_of_files_or_of_rooms():
    files = {name: own_imports(name) for name in modules() if name != "dit_prune_viz"}
    assert circle(files) == []
    rooms: dict[str, set[str]] = {}
    for name, others in files.items():
        rooms.setdefault(room(name), set()).update({room(other) for other in others} - {room(name), "__init__"})
    assert circle(rooms) == []


def test_imports_point_down():
    floor = {one: level for level, floor in enumerate(FLOORS) for one in floor}
    for name in modules():
        if name == "dit_prune_viz":
            continue
        assert room(name) in floor, f"{room(name)} stands on no floor; give it one"
        for other in own_imports(name) - {"dit_prune_viz"}:
            below = floor[room(other)] <= floor[room(name)]
            assert below, f"{name} imports {other}, which stands above it"


def relative(name: str) -> str:
    return modules()[name].relative_to(ROOT).as_posix()


@pytest.mark.parametrize("name", sorted(modules()))
def test_every_room_keeps_to_its_libraries(name):
    packages = {other.partition(".")[0] for other in imports(name)}
    path = relative(name)
    if not path.startswith(WITH_GRADIO):
        assert "gradio" not in packages
    if path.startswith(("app/pages/", "app/widgets/")):
        assert "torch" not in packages
    if path.startswith("app/session/"):
        pages = [other for other in own_imports(name) if ".app.pages" in other or ".app.widgets" in other]
        assert pages == []
    if path.startswith("app/widgets/"):
        assert [other for other in own_imports(name) if ".app.pages" in other] == []
    if not path.startswith("figures/"):
        assert "plotly" not in packages


def test_the_page_needs_gradio_and_the_session_does_not():
    """The rules above are about something: what they forbid elsewhere is there where it is allowed."""
    assert any("gradio" in imports(name) for name in modules() if relative(name).startswith("app/pages/"))
    assert any("torch" in imports(name) for name in modules() if relative(name).startswith("app/session/"))


@pytest.mark.parametrize("name", sorted(modules()))
def test_files_and_functions_are_short(name):
    text = modules()[name].read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= MOST_IN_FUNCTION, f"{node.name} has {length} lines"


def test_scripts_are_short():
    scripts = [path for path in ROOT.rglob("*.js") if path != PLOTLY_JS]
    assert scripts
    for path in scripts:
        assert path.read_text(encoding="utf-8").count("\n") <= MOST_LINES, path.name
