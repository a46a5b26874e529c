"""Quantised weights are refused in one sentence, and made plain on request where the file holds all that this takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines import dequantizing
from dit_prune_viz.pipelines.model import Model, load_model

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
LAYER = "transformer_blocks.0.attn.to_q"
QUANTISED = r"is quantised \(.+\), so its weights cannot be ranked; load .+\.$"


@pytest.fixture
def copy(tiny_flux, tmp_path):
    return shutil.copytree(tiny_flux, tmp_path / "pipeline")


def opened(source: Path, **options) -> Model:
    return load_model(source, device="cpu", dtype="float32", **options)


def refusal(source: Path, **options) -> str:
    with pytest.raises(UserError, match=QUANTISED) as caught:
        opened(source, **options)
    return str(caught.value)


def matrices(tensors: dict[str, torch.Tensor]) -> list[str]:
    return [key for key, tensor in tensors.items() if key.endswith(".weight") and tensor.ndim == 2 and "blocks" in key]


def in_fp8(tensors: dict[str, torch.Tensor], form: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Tensors as a file holds them, and what they stand for."""
    stored, plain = dict(tensors), dict(tensors)
    for key in matrices(tensors):
        weight, layer = tensors[key], key.removesuffix("weight")
        rows, columns = weight.shape
        if form == "bare":
            scale, spread, name = None, torch.tensor(1.0), ""
        elif form == "whole":
            spread = scale = weight.abs().max() / 448
            name = "scale_weight"
        elif form == "rows":
            scale = weight.abs().amax(1) / 448
            spread, name = scale[:, None], "weight_scale"
        else:
            scale = torch.rand(rows // 32, columns // 32) + 0.5
            spread = scale.repeat_interleave(32, 0).repeat_interleave(32, 1)
            name = "weight_scale_inv"
        stored[key] = (weight / spread).to(torch.float8_e4m3fn)
        plain[key] = stored[key].float() * spread
        if scale is not None:
            stored[f"{layer}{name}"] = scale.contiguous()
            stored[f"{layer}scale_input"] = torch.ones(1)
    return stored, plain


@pytest.mark.parametrize("form", ["bare", "whole", "rows", "blocks"])
@pytest.mark.parametrize("single", [True, False])
def test_fp8_with_its_scales(copy, tiny_flux, tmp_path, form, single):
    stored, plain = in_fp8(load_file(tiny_flux / WEIGHTS), form)
    if single:
        source, options = tmp_path / "model_fp8.safetensors", {"base": tiny_flux}
        marker = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)} if form == "whole" else {}
        tensors = {**stored, **marker}
        save_file({f"model.diffusion_model.{key}": tensor for key, tensor in tensors.items()}, source)
    else:
        source, options = copy, {}
        save_file(stored, copy / WEIGHTS)
    assert "load it with --dequantize, or the model it was made from" in refusal(source, **options)
    model = opened(source, dequantize=True, **options)
    found = model.transformer.state_dict()
    assert found.keys() == plain.keys()
    for key, tensor in plain.items():
        assert torch.equal(found[key], tensor), key


def test_a_scale_for_each_block_of_128():
    spread = dequantizing._spread(torch.tensor([[2.0], [3.0]]), torch.Size((200, 64)))
    expected = torch.cat([torch.full((128, 64), 2.0), torch.full((72, 64), 3.0)])
    assert torch.equal(spread, expected)


def test_shards_of_fp8(copy, tiny_flux):
    stored, plain = in_fp8(load_file(copy / WEIGHTS), "whole")
    (copy / WEIGHTS).unlink()
    places = {key: f"part-{number % 2}.safetensors" for number, key in enumerate(sorted(stored))}
    for place in set(places.values()):
        save_file({key: stored[key] for key in stored if places[key] == place}, copy / "transformer" / place)
    index = copy / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    found = opened(copy, dequantize=True).transformer.state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in plain.items())


@pytest.mark.parametrize(
    ("key", "maker"),
    [
        ("qweight", "GPTQ, AWQ or the like"),
        ("wscales", "nunchaku, SVDQuant"),
        ("weight.absmax", "bitsandbytes"),
        ("SCB", "bitsandbytes"),
    ],
)
@pytest.mark.parametrize("dequantize", [True, False])
def test_codes_of_other_makers_are_named(copy, tiny_flux, tmp_path, key, maker, dequantize):
    tensors = load_file(copy / WEIGHTS)
    tensors[f"{LAYER}.{key}"] = torch.zeros(8, 8, dtype=torch.uint8)
    save_file(tensors, copy / WEIGHTS)
    save_file(tensors, tmp_path / "codes.safetensors")
    assert f"(by {maker})" in refusal(copy, dequantize=dequantize)
    assert f"(by {maker})" in refusal(tmp_path / "codes.safetensors", base=tiny_flux, dequantize=dequantize)


def test_integers_stay_refused(copy):
    tensors = load_file(copy / WEIGHTS)
    tensors[f"{LAYER}.weight"] = tensors[f"{LAYER}.weight"].to(torch.int8)
    save_file(tensors, copy / WEIGHTS)
    assert "--dequantize" not in refusal(copy, dequantize=True)


def write_gguf(path: Path, tensors: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """A GGUF file as ComfyUI's converter writes it; returns what it stands for."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, "flux")
    plain = {}
    for key, tensor in tensors.items():
        values = tensor.numpy()
        quantised = kind != "F32" and tensor.ndim == 2 and values.shape[1] % 32 == 0
        type_ = gguf.GGMLQuantizationType[kind if quantised else "F32"]
        data = gguf.quants.quantize(values, type_)
        writer.add_tensor(key, data, raw_dtype=type_)
        plain[key] = torch.from_numpy(gguf.quants.dequantize(data, type_).copy()).reshape(tensor.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return plain


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "F32"])
def test_a_gguf_file(tiny_flux, tmp_path, kind):
    file = tmp_path / f"flux-{kind}.gguf"
    plain = write_gguf(file, load_file(tiny_flux / WEIGHTS), kind)
    if kind != "F32":
        assert f"(GGUF, {kind}), so its weights cannot be ranked; load it with --dequantize" in refusal(
            file, base=tiny_flux
        )
    found = opened(file, base=tiny_flux, dequantize=kind != "F32").transformer.state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in plain.items())
    file.write_bytes(b"GGUF, cut off")
    with pytest.raises(UserError, match="is damaged"):
        opened(file, base=tiny_flux)


def test_a_gguf_file_without_the_package(tiny_flux, tmp_path, monkeypatch):
    monkeypatch.setattr("dit_prune_viz.pipelines.packages.installed", lambda package: package != "gguf")
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"needs the package gguf; install it with: pip install gguf\.$"):
        opened(tmp_path / "x.gguf", base=tiny_flux)
