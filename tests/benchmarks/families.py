"""Write assets/docs/families.md: how far every family of pipelines gets, tried on tiny random ones.

    python tests/benchmarks/families.py [family ...]

Layers and shares are those of the transformer that its class builds by default, on the meta device, or of the tiny one
where the class has no defaults to build from.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["DIT_PRUNE_VIZ_CACHE"] = "off"

import torch
from diffusers.utils import logging as diffusers_logging
from tiny_families.drive import Driven, drive
from tiny_families.edits import EDITS
from tiny_families.extras import WITH_FTFY, WITH_TORCHVISION
from tiny_families.images import IMAGES
from tiny_families.videos import VIDEOS
from transformers.utils import logging as transformers_logging

from dit_prune_viz.pipelines.denoisers import named_denoisers
from dit_prune_viz.pipelines.layers import list_layers

PAGE = ROOT / "assets/docs/families.md"
REAL = {
    "DiTTransformer2DModel": {"num_layers": 28, "num_attention_heads": 16, "in_channels": 4, "out_channels": 8},
    "PixArtTransformer2DModel": {"caption_channels": 4096},
    "HunyuanDiT2DModel": {"in_channels": 4, "patch_size": 2, "num_layers": 40, "hidden_size": 1408},
}
"""What the published models have where a class's defaults are not theirs or do not suffice."""
NOT_TRIED = {
    "Qwen-Image-Layered, GLM-Image, JoyImage, Helios, Kandinsky 5 videos, "
    "Allegro, Cosmos, EasyAnimate, LTX-2, HunyuanVideo 1.5, Sana Video, Wan image-to-video": "no tiny pipeline yet",
}
TOP = """# Families

Made by `python tests/benchmarks/families.py` with diffusers {diffusers}. Every row is a tiny pipeline with random
weights that was saved, opened, calibrated, pruned to 37 % and used to draw, dense and pruned. It shows that a family's
pipelines go through, not how well its published models can be pruned.

- **Layers, prunable**: of the transformer that its diffusers class builds by default, which has not always the size of
  the published model; with a star, of the tiny one, whose embedders weigh more.
- NucleusMoE keeps its experts in stacked tensors, which are no layers and stay dense.
- **Exact counts**: as many weights are zero as floor(n · s) per ranked group gives by hand.
- **Preview**: the largest difference, of 255, between the finished picture and its latents shown as a preview; – is a
  family without previews.
- **Dense intact**: every bit of the dense weights is as before.

| Family | Pipeline | Layers | Prunable | Calibrates | Exact counts | Picture | Preview | Dense intact |
|---|---|--:|--:|---|---|---|---|---|
"""


def main(names: list[str]) -> None:
    import diffusers

    warnings.simplefilter("ignore")
    for log in (diffusers_logging, transformers_logging):
        log.set_verbosity_error()
        log.disable_progress_bar()
    families = {**IMAGES, **EDITS, **VIDEOS, **WITH_TORCHVISION, **WITH_FTFY}
    if not names and not (find_spec("torchvision") and find_spec("ftfy")):
        raise SystemExit("The whole table needs torchvision and ftfy; install them, or name the families to try.")
    lines = [_line(name, families[name]) for name in names or families]
    text = TOP.format(diffusers=diffusers.__version__) + "".join(f"{line}\n" for line in lines)
    text += "\n## Not tried\n\n" + "".join(f"- {which}: {why}.\n" for which, why in NOT_TRIED.items())
    text += "\nPipelines that make sound (AceStep, Stable Audio, LongCat Audio) are refused when they are opened.\n"
    if names:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")


def _line(name: str, build: Callable[[], object]) -> str:
    """The family's row; a failure is written down in its own words."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = drive(name, build, Path(folder) / name)
        except Exception as error:  # the table says so, and the next family has its turn
            return f"| {name} | failed: {type(error).__name__}: {str(error).splitlines()[0][:80]} | | | | | | | |"
        needs = " (with torchvision)" * (name in WITH_TORCHVISION) + " (with ftfy)" * (name in WITH_FTFY)
        cells = [name + needs, type(found.model.pipeline).__name__, *_size(found), *_checks(found)]
    print(name, flush=True)
    return "| " + " | ".join(cells) + " |"


def _size(found: Driven) -> tuple[str, str]:
    modules = list(named_denoisers(found.model.transformer).values())
    try:
        with torch.device("meta"):
            full = [type(module)(**REAL.get(type(module).__name__, {})) for module in modules]
    except Exception:  # a class without defaults
        share = found.model.prunable_parameters / found.model.parameters
        return f"{len(found.model.layers)}\\*", f"{100 * share:.1f} %\\*"
    layers = [layer for module in full for layer in list_layers(module)]
    parameters = sum(parameter.numel() for module in full for parameter in module.parameters())
    share = sum(layer.weights for layer in layers) / parameters
    return f"{len(layers)}", f"{100 * share:.1f} % of {parameters / 1e9:.2f} B"


def _checks(found: Driven) -> list[str]:
    finished, changed = found.dense_steps[-1], found.pruned_steps[-1]
    seen = all(int(tokens.sum()) > 0 for tokens in found.calibration.tokens.values())
    exact = found.removed == found.wanted_removed
    size = "{} × {}".format(*finished.image.size)
    drawn = size if not torch.equal(finished.latents, changed.latents) else f"{size}, unchanged by pruning"
    error = "–" if found.preview_error is None else str(found.preview_error)
    return [_yes(seen), _yes(exact), drawn, error, _yes(found.after == found.before)]


def _yes(fact: bool) -> str:
    return "yes" if fact else "**no**"


if __name__ == "__main__":
    main(sys.argv[1:])
