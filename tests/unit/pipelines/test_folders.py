"""Folders as people have them: only one variant of the files, parts left out, a pipeline one level further down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import load_file, save_file
from tiny_models import build_flux, build_sd3

from dit_prune_viz.checks import first_sentence
from dit_prune_viz.errors import UserError
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.pipelines.model import Model, load_model
from dit_prune_viz.pipelines.weight_files import files_of_variant, variant_of


@pytest.fixture
def copy(tiny_flux, tmp_path):
    return shutil.copytree(tiny_flux, tmp_path / "pipeline")


@pytest.fixture
def sd3(tiny_sd3, tmp_path):
    return shutil.copytree(tiny_sd3, tmp_path / "sd3")


def opened(folder: Path) -> Model:
    return load_model(folder, device="cpu", dtype="float32")


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        opened(folder)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 400
    return message


def in_half(model: Model, dense: Model) -> bool:
    """Whether all weights of a model are those of another one in half precision."""
    return all(torch.equal(model.weight(one.name), dense.weight(one.name).half().float()) for one in dense.layers)


@pytest.mark.parametrize("shard", [None, "100KB"])
def test_a_folder_of_one_variant_opens(tmp_path, flux, shard):
    build_flux().to(torch.float16).save_pretrained(
        tmp_path / "half", variant="fp16", **({"max_shard_size": shard} if shard else {})
    )
    files = {path.name for path in (tmp_path / "half/transformer").glob("*.safetensors")}
    assert all("fp16" in file for file in files)
    assert len(files) == 1 if shard is None else len(files) > 1
    assert in_half(opened(tmp_path / "half"), flux)


def test_every_part_has_its_own_variant(copy, flux):
    (file,) = (copy / "transformer").glob("*.safetensors")
    half = {key: tensor.half() for key, tensor in load_file(file).items()}
    save_file(half, file.with_suffix("").with_suffix(".fp16.safetensors"))
    assert all(torch.equal(opened(copy).weight(one.name), flux.weight(one.name)) for one in flux.layers)
    file.unlink()
    model = opened(copy)
    assert in_half(model, flux)
    for mine, theirs in zip(model.pipeline.vae.parameters(), flux.pipeline.vae.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_files_that_are_loaded_are_the_ones_looked_at(copy):
    (file,) = (copy / "transformer").glob("*.safetensors")
    tensors = load_file(file)
    file.unlink()
    codes = {key: tensor.to(torch.float8_e4m3fn) for key, tensor in tensors.items()}
    save_file(codes, file.with_name("diffusion_pytorch_model.fp8.safetensors"))
    assert "quantised (weights stored as F8_E4M3)" in refusal(copy)
    save_file(tensors, file.with_name("diffusion_pytorch_model.bf16.safetensors"))
    assert opened(copy).layers


def test_variants_by_their_names():
    plain, half = "model.safetensors", "model.fp16.safetensors"
    assert variant_of([plain, half]) is None
    assert variant_of([half, "model.bf16.safetensors"]) == "bf16"
    assert variant_of(["diffusion_pytorch_model.fp16-00001-of-00002.safetensors"]) == "fp16"
    assert variant_of(["diffusion_pytorch_model-00001-of-00002.fp16.safetensors"]) == "fp16"
    assert variant_of(["diffusion_pytorch_model-00001-of-00002.safetensors", half]) is None
    assert variant_of(["config.json", "adapter.safetensors"]) is None
    assert files_of_variant([half, "config.json"]) == [half, "config.json"]
    assert files_of_variant([half, plain, "config.json", "model.ema.safetensors"]) == [plain, "config.json"]
    assert files_of_variant(["adapter.safetensors"]) == ["adapter.safetensors"]


def rewrite(folder: Path, **changes) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("null", [[None, None], None])
@pytest.mark.parametrize("kept", [True, False])
def test_sd3_without_its_third_encoder_draws(sd3, null, kept):
    rewrite(sd3, text_encoder_3=null, tokenizer_3=null)
    if not kept:
        for part in ("text_encoder_3", "tokenizer_3"):
            shutil.rmtree(sd3 / part)
    model = opened(sd3)
    assert model.family == "sd3"
    assert type(model.pipeline) is StableDiffusion3Pipeline
    assert model.pipeline.text_encoder_3 is None
    assert model.pipeline.text_encoder_2 is not None
    assert generate(model, Request("a cat", seed=0, steps=1))[0].size == (64, 64)
    assert model.identity


@pytest.mark.parametrize("null", [[None, None], None])
@pytest.mark.parametrize("part", ["vae", "text_encoder_2", "tokenizer"])
def test_a_part_that_nothing_is_drawn_without(copy, part, null):
    rewrite(copy, **{part: null})
    message = refusal(copy)
    assert f"has no {part} in its model_index.json" in message
    assert "FluxPipeline cannot draw" in message


def test_a_third_tokenizer_is_needed_by_its_encoder(sd3):
    rewrite(sd3, tokenizer_3=[None, None])
    assert "has no tokenizer_3" in refusal(sd3)


def test_what_a_library_says_is_cut_between_words(copy):
    path = copy / "scheduler/scheduler_config.json"
    path.write_text("{oops")
    message = refusal(copy)
    assert message.startswith(f"{copy} could not be loaded (")
    assert message.endswith("); save or download it again, or choose another model.")
    assert first_sentence(ValueError("It broke. Try this.\nOr that")) == "It broke"
    assert first_sentence(KeyError()) == "KeyError"
    long = first_sentence(ValueError("word " * 100 + "end."))
    assert len(long) <= 202
    assert long.endswith("word …")


def test_the_folder_around_a_pipeline_names_it(copy, tmp_path):
    outer = tmp_path / "models--org--name"
    inner = outer / "snapshots" / "0123abc"
    inner.parent.mkdir(parents=True)
    copy.rename(inner)
    assert f"give {inner}." in refusal(outer)
    assert f"give {inner}." in refusal(outer / "snapshots")
    for number in range(1, 5):
        (outer / "snapshots" / str(number)).mkdir()
        shutil.copy(inner / "model_index.json", outer / "snapshots" / str(number))
        message = refusal(outer)
        assert "give one of" in message
        assert "pipelines in it, snapshots/0123abc or snapshots/1" in message
        assert ("another one" in message) == (number > 2)
    assert "snapshots/3" not in message
    assert f"the pipeline {inner}, give that" in refusal(inner / "transformer")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "give the folder of a pipeline saved with" in refusal(empty)


def test_a_revision_is_for_the_hub(copy):
    with pytest.raises(UserError, match="leave the revision out"):
        load_model(copy, device="cpu", revision="main")


def test_all_three_encoders_of_sd3_still_load(tmp_path):
    build_sd3().save_pretrained(tmp_path / "sd3")
    assert opened(tmp_path / "sd3").pipeline.text_encoder_3 is not None
