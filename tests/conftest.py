"""Fixtures: tiny pipelines saved to a temporary folder once per run of the tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch
from tiny_models import (
    TINY_PROMPTS,
    build_dit,
    build_flux,
    build_pixart,
    build_sana,
    build_sd3,
    clip_text_config,
    clip_tokenizer,
)

# A busy machine takes longer now and then, which says nothing about the code.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

# Tests neither read nor fill the cache folder of the person who runs them, nor the work that is saved there.
os.environ["DIT_PRUNE_VIZ_CACHE"] = "off"
os.environ["DIT_PRUNE_VIZ_STATE"] = "off"


def _save(tmp_path_factory, name: str, build: Callable[[], object], defaults: dict | None) -> Path:
    folder = tmp_path_factory.mktemp("pipelines") / name
    build().save_pretrained(folder)
    if defaults is not None:
        (folder / "generation_defaults.json").write_text(json.dumps(defaults))
    return folder


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory) -> Path:
    """Folder of a tiny FLUX pipeline with generation defaults: 64×64 pixels, 4 steps, guidance 3."""
    sizes = {"height": 64, "width": 64, "steps": 4, "guidance_scale": 3.0, "max_sequence_length": 16}
    return _save(tmp_path_factory, "tiny-flux", build_flux, {**sizes, "prompts": list(TINY_PROMPTS)})


@pytest.fixture(scope="session")
def tiny_sd3(tmp_path_factory) -> Path:
    """Folder of a tiny Stable Diffusion 3 pipeline."""
    return _save(tmp_path_factory, "tiny-sd3", build_sd3, {"steps": 3, "max_sequence_length": 16})


@pytest.fixture(scope="session")
def tiny_pixart(tmp_path_factory) -> Path:
    """Folder of a tiny PixArt-Σ pipeline."""
    return _save(tmp_path_factory, "tiny-pixart", build_pixart, {"steps": 3, "max_sequence_length": 16})


@pytest.fixture(scope="session")
def tiny_sana(tmp_path_factory) -> Path:
    """Folder of a tiny Sana pipeline, 128×128 pixels."""
    sizes = {"height": 128, "width": 128, "steps": 2, "guidance_scale": 3.0, "max_sequence_length": 16}
    return _save(tmp_path_factory, "tiny-sana", build_sana, {**sizes, "prompts": list(TINY_PROMPTS)})


@pytest.fixture(scope="session")
def tiny_dit(tmp_path_factory) -> Path:
    """Folder of a tiny class-conditional DiT pipeline, without a file of defaults."""
    folder = _save(tmp_path_factory, "tiny-dit", build_dit, None)
    index = folder / "model_index.json"  # published DiT pipelines list the class names here; saving drops them
    labels = {"0": "tench, Tinca tinca", "207": "golden retriever"}
    index.write_text(json.dumps({**json.loads(index.read_text()), "id2label": labels}))
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> Path:
    """Folder of a tiny CLIPModel with random weights, its tokenizer and its image processor."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    torch.manual_seed(5)
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=clip_text_config().to_dict(),
        vision_config={**vision, "image_size": 32, "patch_size": 8},
        projection_dim=32,
    )
    folder = tmp_path_factory.mktemp("clip") / "tiny-clip"
    CLIPModel(config).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def flux(tiny_flux):
    """The tiny FLUX pipeline, loaded on the CPU in float32; tests must leave it as it was."""
    from dit_prune_viz.pipelines.model import load_model

    return load_model(tiny_flux, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def sana(tiny_sana):
    """The tiny Sana pipeline, loaded on the CPU in float32; tests must leave it as it was."""
    from dit_prune_viz.pipelines.model import load_model

    return load_model(tiny_sana, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def bundled():
    """The bundled emoji model, loaded on the CPU in float32; tests must leave it as it was."""
    from dit_prune_viz.pipelines.model import load_model

    return load_model(Path(__file__).parents[1] / "assets/emoji-flux", device="cpu", dtype="float32")
