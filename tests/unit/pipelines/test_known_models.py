"""Public models by name: counts against diffusers' own classes, settings applied by hub id, one sentence of notes."""

from __future__ import annotations

from pathlib import Path

import diffusers
import pytest
import torch

from dit_prune_viz.app.pages.controls import known_models as page
from dit_prune_viz.experiments import cli
from dit_prune_viz.experiments.presets import PRESETS
from dit_prune_viz.pipelines.defaults import defaults_for
from dit_prune_viz.pipelines.hub import is_hub_id
from dit_prune_viz.pipelines.known_models import KNOWN_MODELS, describe
from dit_prune_viz.pipelines.model import load_model

_CLASSES = {
    "facebook/DiT-XL-2-256": ("DiTTransformer2DModel", {}),
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": ("PixArtTransformer2DModel", {"sample_size": 128}),
    "black-forest-labs/FLUX.1-dev": ("FluxTransformer2DModel", {"guidance_embeds": True}),
    "black-forest-labs/FLUX.1-schnell": ("FluxTransformer2DModel", {"guidance_embeds": False}),
    "black-forest-labs/FLUX.2-dev": ("Flux2Transformer2DModel", {}),
    "Qwen/Qwen-Image": ("QwenImageTransformer2DModel", {}),
    "Tongyi-MAI/Z-Image-Turbo": ("ZImageTransformer2DModel", {}),
    "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers": ("SanaTransformer2DModel", {}),
    "Alpha-VLLM/Lumina-Image-2.0": ("Lumina2Transformer2DModel", {}),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": ("WanTransformer3DModel", {}),
}
"""Classes whose default configuration is the published model's."""


@pytest.mark.parametrize("hub_id", _CLASSES)
def test_parameters_are_those_of_the_class(hub_id):
    name, settings = _CLASSES[hub_id]
    with torch.device("meta"):
        transformer = getattr(diffusers, name)(**settings)
    counted = sum(parameter.numel() for parameter in transformer.parameters())
    assert KNOWN_MODELS[hub_id].transformer == pytest.approx(counted / 1e9, abs=0.006)


def test_published_sizes_hold_the_weights():
    """A file cannot be smaller than its weights in half precision, and more than float32 nobody publishes."""
    whole = [model for model in KNOWN_MODELS.values() if model.download and not model.instead]
    assert whole
    for model in whole:
        assert model.memory <= model.download <= 2 * model.memory + 1


def test_ids_are_hub_ids_and_presets_agree():
    assert all(is_hub_id(hub_id) for hub_id in KNOWN_MODELS)
    for preset in PRESETS.values():
        known = KNOWN_MODELS[preset.model]
        assert known.guidance_scale == preset.guidance
        assert known.instead or "hub" not in preset.words


def test_the_hub_id_brings_its_settings(tiny_flux):
    pipeline = load_model(tiny_flux).pipeline
    plain = defaults_for(pipeline, Path("nowhere"))
    turbo = defaults_for(pipeline, Path("nowhere"), "black-forest-labs/FLUX.1-schnell")
    assert (turbo.steps, turbo.guidance_scale, turbo.height, turbo.width) == (4, 0.0, 1024, 1024)
    assert turbo.prompts == plain.prompts
    assert defaults_for(pipeline, Path("nowhere"), "someone/else") == plain
    image = defaults_for(pipeline, Path("nowhere"), "hunyuanvideo-community/HunyuanImage-2.1-Diffusers")
    assert image.guidance_scale == plain.guidance_scale


def test_words_say_gate_and_folder():
    flux = describe(KNOWN_MODELS["black-forest-labs/FLUX.1-dev"])
    assert "11.9 B parameters; 34 GB of memory" in flux
    assert "gated (accept it on the hub and log in)" in flux
    assert "50 steps, guidance 3.5, 512²" in flux
    dit = describe(KNOWN_MODELS["facebook/DiT-XL-2-512"])
    assert "pickled" in dit
    assert "folder" in dit
    assert "480 × 832" in describe(KNOWN_MODELS["Wan-AI/Wan2.1-T2V-14B-Diffusers"])


def test_choosing_fills_the_field():
    hub_id = "Qwen/Qwen-Image"
    assert page.choose(hub_id) == (hub_id, describe(KNOWN_MODELS[hub_id]))
    assert page.choose(None)[1] == page.NOTE


def test_the_command_prints_every_model(capsys):
    assert cli.main(["models"]) == 0
    printed = capsys.readouterr().out
    assert [hub_id for hub_id in KNOWN_MODELS if f"| {hub_id} |" not in printed] == []
    assert "| FLUX.1 dev | black-forest-labs/FLUX.1-dev | 11.9 B | 34 GB | 34 GB |" in printed
