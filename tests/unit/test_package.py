"""What `pip install .` gives: a wheel with everything the app needs, and metadata that names every import."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import dit_prune_viz

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "dit_prune_viz"
NOT_IMPORTED = {"sentencepiece", "protobuf", "ftfy", "torchvision"}
"""What transformers and diffusers import for the tokenizers and prompts of some families."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder]
    done = subprocess.run([*command, ROOT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (built,) = folder.glob("dit_prune_viz-*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="module")
def metadata(wheel):
    (path,) = wheel.glob("*.dist-info/METADATA")
    return Parser().parsestr(path.read_text(encoding="utf-8"))


def names(requirements: list[str]) -> set[str]:
    return {normal(re.match(r"[\w.-]+", text)[0]) for text in requirements}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> set[str]:
    """The distributions of every module that the package imports, at the top of a file or inside a function."""
    modules = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    modules -= {*sys.stdlib_module_names, "dit_prune_viz"}
    owners = packages_distributions()
    return {normal(owners[module][0]) for module in modules}


def test_every_import_is_declared_and_nothing_else(metadata):
    declared = names(metadata.get_all("Requires-Dist"))
    assert {"torch", "pillow", "scikit-learn", "scipy", "huggingface-hub"} <= imported()
    assert declared == imported() | NOT_IMPORTED


def test_the_apps_pins_cover_the_same_distributions(metadata):
    needed = [text for text in metadata.get_all("Requires-Dist") if "extra ==" not in text]
    pinned = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line]
    assert names(pinned) == names(needed)
    assert all(">=" in text for text in needed)


def test_name_version_and_licence(metadata):
    assert (metadata["Name"], metadata["Version"]) == ("dit-prune-viz", dit_prune_viz.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "See where a diffusion transformer is redundant" in metadata.get_payload()
    assert "version" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_wheel_holds_code_scripts_styles_and_the_bundled_model(wheel):
    inside = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    for path in PACKAGE.rglob("*"):
        if path.suffix in (".py", ".js", ".css", ".html", ".typed"):
            assert path.relative_to(ROOT).as_posix() in inside
    assets = {name.removeprefix("dit_prune_viz/assets/") for name in inside if name.startswith("dit_prune_viz/assets/")}
    for folder in ("emoji-flux", "emoji-clip"):
        files = {path.relative_to(ROOT / "assets").as_posix() for path in (ROOT / "assets" / folder).rglob("*.*")}
        assert {name for name in files if not name.endswith(".png")} == {
            x for x in assets if x.startswith(f"{folder}/")
        }
    assert {name for name in assets if "/" not in name} == {
        "damage.json",
        "calibration.safetensors",
        "emoji-flux.json",
        "input-picture.png",
    }
    assert not [name for name in inside if name.startswith(("assets/", "tests/"))]


def run(wheel: Path, folder: Path, *arguments: str) -> str:
    """What Python prints that finds the package in the unpacked wheel only."""
    environment = {**os.environ, "PYTHONPATH": str(wheel), "DIT_PRUNE_VIZ_CACHE": "off"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_wheel_works_from_any_folder(wheel, tmp_path):
    code = (
        "import dit_prune_viz as dpv, dit_prune_viz.resources as r\n"
        "from dit_prune_viz.calibration.stored import shipped_calibration\n"
        "model = dpv.load_model(r.BUNDLED_MODEL, device='cpu')\n"
        "print(dpv.__file__, model.parameters, shipped_calibration(model, samples=128, seed=0).samples)"
    )
    file, parameters, samples = run(wheel, tmp_path, "-W", "ignore", "-c", code).split()
    assert Path(file).is_relative_to(wheel)
    assert int(parameters) == pytest.approx(21e6, rel=0.1)
    assert int(samples) == 128


def test_the_command_of_the_wheel(wheel, tmp_path):
    (entry,) = wheel.glob("*.dist-info/entry_points.txt")
    assert entry.read_text().split() == ["[console_scripts]", "dit-prune-viz", "=", "dit_prune_viz.command:main"]
    assert "preset" in run(wheel, tmp_path, "-m", "dit_prune_viz", "list")
    assert "--cache" in run(wheel, tmp_path, "-m", "dit_prune_viz", "--help")


def test_every_public_name_is_there():
    assert all(getattr(dit_prune_viz, name) is not None for name in dit_prune_viz.__all__)
    assert sorted(dit_prune_viz._HOMES) == sorted(dit_prune_viz.__all__)
    assert set(dit_prune_viz.__all__) <= set(dir(dit_prune_viz))
    with pytest.raises(AttributeError, match="nothing"):
        dit_prune_viz.nothing  # noqa: B018
    code = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in code.body if isinstance(node, ast.If))  # what type checkers see
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"dit_prune_viz.{home}" for name, home in dit_prune_viz._HOMES.items()}
