"""Opening pipelines: what is loaded, and one sentence for everything that cannot be."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import DiffusionPipeline
from tiny_models import build_flux, build_pixart

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.families import call_arguments, class_label
from dit_prune_viz.pipelines.identity import fingerprint
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.pipeline_index import check_index


def refusal(source, **options) -> str:
    with pytest.raises(UserError) as caught:
        load_model(source, device="cpu", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.fixture
def copy(tiny_flux, tmp_path):
    """A copy of the tiny FLUX folder that a test may damage."""
    return shutil.copytree(tiny_flux, tmp_path / "pipeline")


def test_flux_folder(flux, tiny_flux):
    assert (flux.source, flux.name, flux.family) == (str(tiny_flux), "tiny-flux", "flux")
    assert (flux.device.type, flux.dtype) == ("cpu", torch.float32)
    assert flux.parameters == sum(parameter.numel() for parameter in flux.transformer.parameters())
    assert 0 < flux.prunable_parameters < flux.parameters
    assert flux.defaults.steps == 4
    assert flux.defaults.prompts[0] == "a cat"
    assert not flux.transformer.training
    assert not any(parameter.requires_grad for parameter in flux.transformer.parameters())


@pytest.mark.parametrize(
    ("family", "size", "steps", "guidance"), [("sd3", 64, 3, 7.0), ("pixart", 64, 3, 4.5), ("dit", 64, 50, 1.5)]
)
def test_other_families_and_their_defaults(request, family, size, steps, guidance):
    model = load_model(request.getfixturevalue(f"tiny_{family}"), device="cpu")
    assert model.family == family
    defaults = model.defaults
    assert (defaults.height, defaults.width, defaults.steps) == (size, size, steps)
    assert defaults.guidance_scale == guidance
    assert defaults.prompts


def test_weight_is_the_parameter_itself(flux):
    name = flux.layers[0].name
    weight = flux.weight(name)
    assert weight.data_ptr() == flux.transformer.get_submodule(name).weight.data_ptr()
    assert tuple(weight.shape) == flux.layer(name).shape
    for unknown in ("nowhere", "proj_out", ""):
        with pytest.raises(UserError, match="no prunable layer"):
            flux.weight(unknown)


def test_fingerprint_is_stable_and_sees_a_change(flux, tiny_flux, tiny_pixart):
    again = load_model(tiny_flux, device="cpu")
    assert again.fingerprint == flux.fingerprint == fingerprint(flux.transformer)
    assert load_model(tiny_pixart, device="cpu").fingerprint != flux.fingerprint
    with torch.no_grad():
        again.transformer.get_submodule(again.layers[3].name).weight[0, 0] += 1
    assert fingerprint(again.transformer) != flux.fingerprint


def test_precision_by_name(tiny_flux):
    assert load_model(tiny_flux, device="cpu", dtype="bfloat16").weight("transformer_blocks.0.attn.to_q").dtype == (
        torch.bfloat16
    )


def test_unknown_places(tmp_path):
    assert "no folder" in refusal(tmp_path / "missing")
    assert "no folder" in refusal("")
    assert "no folder" in refusal("just a name")
    assert "no folder" in refusal("../missing/folder")
    assert "no folder" in refusal("~nobody-of-that-name/model")
    assert "at most 4,096 characters" in refusal("org/" + "x" * 10_000)
    assert "no folder" in refusal("a\0b")
    assert "no folder" in refusal("org/two--dashes")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    assert "is a transformer alone" in refusal(file)


def test_unknown_hub_id_without_a_connection(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "hub cannot be reached" in refusal("nobody/has-this-model")


def test_folder_that_is_no_pipeline(copy):
    (copy / "model_index.json").write_text("{oops")
    assert "not readable JSON" in refusal(copy)
    (copy / "model_index.json").unlink()
    assert "no model_index.json" in refusal(copy)


def rewrite_index(folder, **changes):
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_pipeline_without_a_transformer(copy):
    rewrite_index(copy, transformer=[None, None])
    assert "no transformer" in refusal(copy)
    rewrite_index(copy, unet=["diffusers", "UNet2DConditionModel"])
    assert "a UNet" in refusal(copy)


def test_own_code_is_refused(copy):
    rewrite_index(copy, transformer=["my_transformer", "MyTransformer"])
    assert "code of its own" in refusal(copy)
    rewrite_index(copy, _class_name=["pipeline", "MyPipeline"])
    assert "remote code is never run" in refusal(copy)


def test_pickled_weights_are_refused_and_not_opened(copy):
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    message = refusal(copy)
    assert "pickle" in message
    assert "transformer" in message
    assert "safe_serialization=True" in message


def test_hub_listing_is_judged_like_a_folder():
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    with pytest.raises(UserError, match="pickle"):
        check_index(index, ["transformer/diffusion_pytorch_model.bin"], name="org/name")
    check_index(index, ["transformer/model.bin", "transformer/model.safetensors"], name="org/name")


def test_missing_and_broken_weights(copy):
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"not weights")
    assert "could not be loaded" in refusal(copy)
    weights.unlink()
    assert "could not be loaded" in refusal(copy)


@pytest.mark.parametrize("content", ["[1]", "nonsense", '{"steps": 0}', '{"prompts": []}', '{"height": "wide"}'])
def test_broken_defaults_file(copy, content):
    (copy / "generation_defaults.json").write_text(content)
    assert "generation_defaults.json" in refusal(copy)


def test_unknown_device_and_precision(tiny_flux):
    with pytest.raises(UserError, match="Unknown device 'toaster'"):
        load_model(tiny_flux, device="toaster")
    with pytest.raises(UserError, match="not available"):
        load_model(tiny_flux, device="cuda:99")
    with pytest.raises(UserError, match="Unknown precision 'int3'"):
        load_model(tiny_flux, device="cpu", dtype="int3")


def arguments(pipeline: DiffusionPipeline, prompts=("a", "b"), guidance=3.0):
    return call_arguments(pipeline, prompts, steps=2, guidance_scale=guidance, height=64, width=32)


def test_guidance_of_flux_with_and_without_an_embedding():
    pipeline = build_flux()
    true = arguments(pipeline)
    assert (true["true_cfg_scale"], true["negative_prompt"]) == (3.0, ["", ""])
    assert "guidance_scale" not in true
    assert "true_cfg_scale" not in arguments(pipeline, guidance=1.0)
    pipeline.transformer.register_to_config(guidance_embeds=True)
    embedded = arguments(pipeline)
    assert embedded["guidance_scale"] == 3.0
    assert "true_cfg_scale" not in embedded


def test_pixart_draws_the_size_that_is_asked_for():
    call = arguments(build_pixart())
    assert (call["height"], call["width"], call["use_resolution_binning"]) == (64, 32, False)
    assert call["prompt"] == ["a", "b"]


def test_class_labels(tiny_dit):
    pipeline = load_model(tiny_dit, device="cpu").pipeline
    assert [class_label(pipeline, text) for text in ("7", " Golden Retriever ", "tench")] == [7, 207, 0]
    call = arguments(pipeline, prompts=("1", "tench"))
    assert call["class_labels"] == [1, 0]
    assert not {"prompt", "height"} & call.keys()
    for unknown in ("1000", "-1", "a cat on a mat"):
        with pytest.raises(UserError, match="class number from 0 to 999"):
            class_label(pipeline, unknown)
