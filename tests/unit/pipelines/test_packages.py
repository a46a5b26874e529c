"""What a family's parts need and is not installed is named with its command, before weights are loaded."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines import model as model_module
from dit_prune_viz.pipelines import packages
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.packages import check_packages, installed, require


@pytest.fixture
def without(monkeypatch):
    """A machine on which some packages are absent."""

    def remove(*absent: str) -> None:
        monkeypatch.setattr(packages, "installed", lambda package: package not in absent)

    return remove


def said(index: dict) -> str:
    with pytest.raises(UserError) as caught:
        check_packages(index, "org/name")
    return str(caught.value)


@pytest.mark.parametrize(
    ("index", "start"),
    [
        # Kandinsky 5, Qwen-Image-Edit, NucleusMoE, FLUX.2 and OmniGen, as their folders say.
        ({"tokenizer": ["transformers", "Qwen2VLProcessor"]}, "The tokenizer of org/name (Qwen2VLProcessor)"),
        ({"processor": ["transformers", "Qwen2_5_VLProcessor"]}, "The processor of org/name (Qwen2_5_VLProcessor)"),
        ({"processor": ["transformers", "Qwen3VLProcessor"]}, "The processor of org/name (Qwen3VLProcessor)"),
        ({"_class_name": "OmniGenPipeline"}, "org/name (OmniGenPipeline)"),
    ],
)
def test_torchvision(without, index, start):
    without("torchvision")
    command = f"pip install torchvision torch=={torch.__version__.partition('+')[0]}"
    assert said(index) == f"{start} needs the package torchvision; install it with: {command}."
    without()
    check_packages(index, "org/name")


@pytest.mark.parametrize("family", ["PRXPipeline", "HeliosPipeline", "SkyReelsV2Pipeline"])
def test_ftfy(without, family):
    without("ftfy")
    assert said({"_class_name": family}).endswith("needs the package ftfy; install it with: pip install ftfy.")


def test_ftfy_is_a_choice_where_captions_may_stay_as_they_are(without):
    without("ftfy", "bs4", "torchvision")
    for family in ("PixArtSigmaPipeline", "SanaPipeline", "WanPipeline", "FluxPipeline", "StableDiffusion3Pipeline"):
        check_packages({"_class_name": family, "text_encoder": ["transformers", "T5EncoderModel"]}, "org/name")


def test_placeholders_name_their_package(without):
    index = {"scheduler": ["diffusers", "DPMSolverSDEScheduler"]}
    without("torchsde")
    assert "pip install torchsde." in said(index)


def test_nothing_is_loaded_before(tiny_flux, tmp_path, without, monkeypatch):
    folder = shutil.copytree(tiny_flux, tmp_path / "pipeline")
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "tokenizer_2": ["transformers", "Qwen2VLProcessor"]}))
    without("torchvision")
    monkeypatch.setattr(model_module, "open_pipeline", None)
    with pytest.raises(UserError, match="pip install torchvision"):
        load_model(folder, device="cpu")


def test_what_is_installed():
    assert installed("torch")
    assert not installed("no_such_package_anywhere")
    assert not installed("no_such_package.below")
    with pytest.raises(UserError, match=r"^This needs the package a_b; install it with: pip install a-b\.$"):
        require("a_b", "This", "pip install a-b")
