"""LoRAs are fused at load: the weights are plain afterwards, and W + scale·(alpha/r)·B·A of a computation by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines import lora as lora_module
from dit_prune_viz.pipelines import packages
from dit_prune_viz.pipelines.load_settings import Lora
from dit_prune_viz.pipelines.model import Model, load_model

RANK = 2
LAYERS = {
    "transformer_blocks.0.attn.to_q": (64, 64),
    "transformer_blocks.1.ff.net.0.proj": (256, 64),
    "single_transformer_blocks.0.proj_out": (64, 320),
}


def factors(seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Layer → A (r, d_in) and B (d_out, r)."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    return {name: (draw(RANK, d_in), draw(d_out, RANK)) for name, (d_out, d_in) in LAYERS.items()}


def as_diffusers(prefix: str = "transformer.", seed: int = 0) -> dict[str, torch.Tensor]:
    pairs = factors(seed).items()
    down = {f"{prefix}{name}.lora_A.weight": a for name, (a, _) in pairs}
    return down | {f"{prefix}{name}.lora_B.weight": b for name, (_, b) in pairs}


def opened(source: Path, *loras: str | Lora) -> Model:
    return load_model(source, device="cpu", dtype="float32", loras=loras)


def refusal(source: Path, *loras: str) -> str:
    with pytest.raises(UserError) as caught:
        opened(source, *loras)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 400
    return message


def check(model: Model, dense: Model, scale: float, seed: int = 0) -> None:
    """Whether the layers with factors hold W + scale·B·A, and all others what they held."""
    pairs = factors(seed)
    for name, parameter in dense.transformer.named_parameters():
        found = model.transformer.get_parameter(name)
        layer = name.removesuffix(".weight")
        if layer not in pairs:
            assert torch.equal(found, parameter), name
            continue
        a, b = pairs[layer]
        expected = parameter.double() + scale * b.double() @ a.double()
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
        assert not torch.equal(found, parameter)
    assert not getattr(model.transformer, "peft_config", None)


@pytest.fixture
def file(tmp_path) -> Path:
    save_file(as_diffusers(), tmp_path / "style.safetensors")
    return tmp_path / "style.safetensors"


def test_a_file_and_its_scale(tiny_flux, flux, file):
    check(opened(tiny_flux, str(file)), flux, 1.0)
    model = opened(tiny_flux, f"{file}:0.5")
    check(model, flux, 0.5)
    assert model.fingerprint != flux.fingerprint
    assert [one.name for one in model.layers] == [one.name for one in flux.layers]
    assert opened(tiny_flux, Lora(str(file), 0.0)).fingerprint == flux.fingerprint


def test_several_loras_add_up(tiny_flux, flux, file, tmp_path):
    save_file(as_diffusers(seed=1), tmp_path / "other.safetensors")
    model = opened(tiny_flux, f"{file}:0.5", f"{tmp_path / 'other.safetensors'}:-2")
    (a, b), (c, d) = (factors(seed)["transformer_blocks.0.attn.to_q"] for seed in (0, 1))
    expected = flux.weight("transformer_blocks.0.attn.to_q") + 0.5 * b @ a - 2 * d @ c
    torch.testing.assert_close(model.weight("transformer_blocks.0.attn.to_q"), expected, rtol=1e-5, atol=1e-6)


def test_a_folder_of_peft_with_its_alpha(tiny_flux, flux, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(as_diffusers("base_model.model."), folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6, "target_modules": sorted(LAYERS), "from_later": 1}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    check(opened(tiny_flux, f"{folder}:0.5"), flux, 0.5 * 6 / RANK)


def test_keys_without_the_parts_name(tiny_flux, flux, tmp_path):
    save_file(as_diffusers(""), tmp_path / "bare.safetensors")
    check(opened(tiny_flux, str(tmp_path / "bare.safetensors")), flux, 1.0)


def test_the_keys_of_another_trainer(tiny_flux, flux, tmp_path):
    """Kohya's, with the names of FLUX's own publication and alpha beside the factors."""
    a, b = factors()["transformer_blocks.0.attn.to_q"]
    name = "lora_unet_double_blocks_0_img_attn_proj"
    tensors = {f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b, f"{name}.alpha": torch.tensor(1.0)}
    save_file(tensors, tmp_path / "kohya.safetensors")
    layer = "transformer_blocks.0.attn.to_out.0"
    model = opened(tiny_flux, f"{tmp_path / 'kohya.safetensors'}:3")
    torch.testing.assert_close(model.weight(layer), flux.weight(layer) + 3 * 1.0 / RANK * b @ a, rtol=1e-5, atol=1e-6)


def test_a_folder_names_its_file_where_there_are_several(tiny_flux, flux, file):
    check(opened(tiny_flux, str(file.parent)), flux, 1.0)
    save_file(as_diffusers(seed=1), file.with_name("a.safetensors"))
    assert f"such as {file.parent}/a.safetensors" in refusal(tiny_flux, str(file.parent))
    save_file(as_diffusers(), file.with_name("pytorch_lora_weights.safetensors"))
    check(opened(tiny_flux, str(file.parent)), flux, 1.0)


def test_a_text_encoders_factors(tiny_flux, flux, tmp_path):
    layer = "text_model.encoder.layers.0.self_attn.q_proj"
    a, b = torch.full((RANK, 32), 0.1), torch.full((32, RANK), 0.2)
    own = {f"text_encoder.{layer}.lora_A.weight": a, f"text_encoder.{layer}.lora_B.weight": b}
    save_file({**as_diffusers(), **own}, tmp_path / "both.safetensors")
    model = opened(tiny_flux, str(tmp_path / "both.safetensors"))
    check(model, flux, 1.0)
    names = [name for name, _ in flux.pipeline.text_encoder.named_parameters()]
    (name,) = (name for name in names if name.endswith("layers.0.self_attn.q_proj.weight"))
    before, after = (one.pipeline.text_encoder.get_parameter(name) for one in (flux, model))
    torch.testing.assert_close(after, before + b @ a)


def test_loras_that_do_not_fit(tiny_flux, tiny_sd3, tiny_dit, file, tmp_path):
    tensors = as_diffusers()
    other = tmp_path / "other/x.safetensors"
    other.parent.mkdir()

    def said(changed: dict[str, torch.Tensor], source: Path = tiny_flux) -> str:
        save_file(changed, other)
        return refusal(source, str(other))

    foreign = {"transformer.transformer_blocks.7.attn.to_q.lora_A.weight": torch.zeros(RANK, 64)}
    foreign["transformer.transformer_blocks.7.attn.to_q.lora_B.weight"] = torch.zeros(64, RANK)
    assert "has no layer for transformer.transformer_blocks.7.attn.to_q.lora_A.weight" in said({**tensors, **foreign})
    assert "for another model" in said(tensors, tiny_sd3)
    key = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight"
    assert f"{key} is 2×32 and the layer's weight 64×64" in said({**tensors, key: torch.zeros(RANK, 32)})
    assert f"infinite numbers in {key}" in said({**tensors, key: torch.full((RANK, 64), torch.nan)})
    assert "holds transformer.x_embedder.weight, which is no pair" in said(
        {**tensors, "transformer.x_embedder.weight": torch.zeros(64, 64)}
    )
    assert "takes no LoRA: diffusers has none for a DiTPipeline" in said(tensors, tiny_dit)
    other.write_bytes(b"<html>")
    assert "is damaged" in refusal(tiny_flux, str(other))
    assert "There is no LoRA 'nowhere'" in refusal(tiny_flux, "nowhere")
    (tmp_path / "x.ckpt").write_bytes(b"")
    assert "is no .safetensors file" in refusal(tiny_flux, str(tmp_path / "x.ckpt"))
    (tmp_path / "empty").mkdir()
    assert "has no .safetensors file" in refusal(tiny_flux, str(tmp_path / "empty"))
    assert "is no number" in refusal(tiny_flux, f"{file}:strong")


def test_a_lora_given_as_the_model(tiny_flux, file):
    with pytest.raises(UserError, match=r"is a LoRA.+--lora"):
        load_model(file, base=tiny_flux, device="cpu")


def test_without_peft_a_sentence_says_how_to_get_it(tiny_flux, file, monkeypatch):
    monkeypatch.setattr(packages, "installed", lambda package: package != "peft")
    monkeypatch.setattr(lora_module, "fuse_loras", None)
    assert "A LoRA needs the package peft; install it with: pip install peft." in refusal(tiny_flux, str(file))
