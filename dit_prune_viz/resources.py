"""The files that come with the package: the bundled model, its CLIP, and what was measured on them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def bundled_assets() -> Path:
    """The folder of the bundled files: inside the installed package, or `assets/` of a source checkout."""
    package = Path(str(files("dit_prune_viz")))
    inside = package / "assets"
    return inside if inside.is_dir() else package.parent / "assets"


ASSETS = bundled_assets()
BUNDLED_MODEL = ASSETS / "emoji-flux"
BUNDLED_CLIP = ASSETS / "emoji-clip"
BUNDLED_PICTURE = ASSETS / "input-picture.png"
"""What pipelines that change a picture are given unless somebody gives another one: an apple by the bundled model."""
BUNDLED_CALIBRATION = ASSETS / "calibration.safetensors"
"""The bundled model's calibration with default settings, in float32 on a CPU."""
BUNDLED_FACTS = ASSETS / "emoji-flux.json"
"""The bundled model's layers and the like, see `pipelines.opening`."""
BUNDLED_CLIP_NAME = "bundled emoji-CLIP"
