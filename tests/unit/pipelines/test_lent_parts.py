"""A transformer alone, in a folder or a single file, and pipelines with missing parts: a base lends the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import build_flux, build_sd3

from dit_prune_viz.errors import UserError
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.pipelines.model import Model, load_model

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def opened(source, **options) -> Model:
    return load_model(source, device="cpu", dtype="float32", **options)


def refusal(source, **options) -> str:
    with pytest.raises(UserError) as caught:
        opened(source, **options)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 500
    return message


def drawn(model: Model) -> bytes:
    return generate(model, Request("a cat", seed=0, steps=1))[0].tobytes()


@pytest.fixture
def copy(tiny_flux, tmp_path):
    return shutil.copytree(tiny_flux, tmp_path / "pipeline")


@pytest.fixture
def finetune(tmp_path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A FLUX transformer saved alone, all of whose weights are others than those of the tiny pipeline."""
    transformer = build_flux().transformer
    for parameter in transformer.parameters():
        parameter.data.mul_(0.75)
    transformer.save_pretrained(tmp_path / "finetune")
    return tmp_path / "finetune", transformer.state_dict()


def holds(model: Model, tensors: dict[str, torch.Tensor]) -> bool:
    found = model.transformer.state_dict()
    return found.keys() == tensors.keys() and all(torch.equal(found[key], tensors[key]) for key in found)


def test_a_transformers_folder_needs_a_base(finetune, tiny_flux, flux):
    folder, tensors = finetune
    assert "is a transformer alone; name the pipeline" in refusal(folder)
    model = opened(folder, base=tiny_flux)
    assert holds(model, tensors)
    assert model.name == "finetune"
    assert model.defaults == flux.defaults
    assert model.pipeline.text_encoder_2.get_input_embeddings().weight.isfinite().all()
    assert drawn(model) != drawn(flux)


def test_a_base_changes_nothing_of_a_whole_pipeline(tiny_flux, flux, finetune):
    model = opened(tiny_flux, base=tiny_flux)
    assert model.identity == flux.identity
    inside = opened(tiny_flux / "transformer", base=tiny_flux)
    assert inside.fingerprint == flux.fingerprint


def test_a_base_of_another_family(finetune, tiny_sd3, tiny_flux):
    message = refusal(finetune[0], base=tiny_sd3)
    assert "is a FluxTransformer2DModel and the transformer of the base" in message
    assert "a SD3Transformer2DModel" in message
    assert "is no pipeline" in refusal(finetune[0], base=finetune[0])
    assert "is a AutoencoderTiny" in refusal(tiny_flux / "vae", base=tiny_flux)


def test_what_a_transformers_folder_lacks(finetune, tiny_flux):
    folder, tensors = finetune
    file = folder / "diffusion_pytorch_model.safetensors"
    left = {key: tensor for key, tensor in tensors.items() if key != "x_embedder.bias"}
    save_file(left, file)
    assert "x_embedder.bias are missing from finetune/diffusion_pytorch_model" in refusal(folder, base=tiny_flux)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "transformer."])
def test_a_single_file_with_the_keys_of_diffusers(finetune, tiny_flux, tmp_path, prefix):
    _, tensors = finetune
    others = {"first_stage_model.decoder.bias": torch.zeros(2)} if prefix.startswith("model.") else {}
    file = tmp_path / "model.safetensors"
    save_file({f"{prefix}{key}": tensor for key, tensor in tensors.items()} | others, file)
    assert "is a transformer alone; name the pipeline" in refusal(file)
    model = opened(file, base=tiny_flux)
    assert holds(model, tensors)
    assert model.name == "model.safetensors"
    assert model.layers


def original_sd3(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The keys of SD3's own publication, written by hand from its model code."""
    names = {
        "pos_embed.pos_embed": "pos_embed",
        "pos_embed.proj": "x_embedder.proj",
        "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
        "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
        "proj_out": "final_layer.linear",
    }
    streams = {
        "x_block": ("attn.to_{}", "attn.to_out.0", "norm1.linear", "ff"),
        "context_block": ("attn.add_{}_proj", "attn.to_add_out", "norm1_context.linear", "ff_context"),
    }
    old = dict(tensors)
    new: dict[str, torch.Tensor] = {}

    def swapped(tensor: torch.Tensor) -> torch.Tensor:
        scale, shift = tensor.chunk(2)
        return torch.cat([shift, scale])

    for end in ("weight", "bias"):
        for block in (0, 1):
            for stream, (qkv, out, norm, feed) in streams.items():
                start, to = f"transformer_blocks.{block}.", f"joint_blocks.{block}.{stream}."
                parts = [old.pop(f"{start}{qkv.format(letter)}.{end}") for letter in "qkv"]
                new[f"{to}attn.qkv.{end}"] = torch.cat(parts)
                pairs = [(out, "attn.proj"), (norm, "adaLN_modulation.1")]
                pairs += [(f"{feed}.net.0.proj", "mlp.fc1"), (f"{feed}.net.2", "mlp.fc2")]
                for mine, theirs in pairs:
                    tensor = old.pop(f"{start}{mine}.{end}", None)
                    last = mine == norm and stream == "context_block" and block == 1
                    if tensor is not None:
                        new[f"{to}{theirs}.{end}"] = swapped(tensor) if last else tensor
        new[f"final_layer.adaLN_modulation.1.{end}"] = swapped(old.pop(f"norm_out.linear.{end}"))
    for key, tensor in old.items():
        start = next((name for name in names if key.startswith(name)), "")
        new[key.replace(start, names[start], 1) if start else key] = tensor
    return new


@pytest.fixture
def sd3_file(tiny_sd3, tmp_path):
    tensors = build_sd3().transformer.state_dict()
    tensors = {key: tensor * 0.5 for key, tensor in tensors.items()}
    return tensors, original_sd3(tensors), tmp_path / "sd3.5_tiny.safetensors"


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_single_file_with_the_keys_of_its_publication(sd3_file, tiny_sd3, prefix):
    tensors, original, file = sd3_file
    save_file({f"{prefix}{key}": tensor.contiguous() for key, tensor in original.items()}, file)
    model = opened(file, base=tiny_sd3)
    assert holds(model, tensors)
    assert len(drawn(model)) == 64 * 64 * 3


def test_single_files_that_do_not_fit(sd3_file, tiny_sd3, tiny_flux, tmp_path, finetune):
    _, original, file = sd3_file
    whole = {key: tensor.contiguous() for key, tensor in original.items()}
    save_file({**whole, "extra_embedder.weight": torch.zeros(2)}, file)
    assert "it holds extra_embedder.weight" in refusal(file, base=tiny_sd3)
    save_file({key: tensor for key, tensor in whole.items() if key != "y_embedder.mlp.0.bias"}, file)
    assert "y_embedder.mlp.0.bias is missing" in refusal(file, base=tiny_sd3)
    save_file({**whole, "context_embedder.bias": torch.zeros(3)}, file)
    assert "context_embedder.bias is 3 where the base has 32" in refusal(file, base=tiny_sd3)
    save_file(whole, file)
    assert "does not fit the FluxTransformer2DModel of its base" in refusal(file, base=tiny_flux)
    tensors = dict(finetune[1])
    del tensors["x_embedder.bias"]
    save_file(tensors, file)
    assert "x_embedder.bias" in refusal(file, base=tiny_flux)
    broken = {**finetune[1], "x_embedder.bias": torch.full((64,), torch.nan)}
    save_file(broken, file)
    assert f"x_embedder.bias in {file.name} are NaN" in refusal(file, base=tiny_flux)
    save_file({"a.lora_A.weight": torch.zeros(2)}, file)
    assert "LoRA" in refusal(file, base=tiny_flux)
    save_file({}, file)
    assert "there are no weights in it" in refusal(file, base=tiny_flux)
    file.write_bytes(b"<html>not found</html>")
    assert "is damaged" in refusal(file, base=tiny_flux)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("model.ckpt", "is a pickle file"),
        ("model_index.json", "only describes a model; give the folder"),
        ("picture.png", "is no model; give a .safetensors file"),
    ],
)
def test_other_files(tmp_path, file, words):
    (tmp_path / file).write_bytes(b"x")
    assert words in refusal(tmp_path / file)


def test_a_folder_of_single_files_names_one(tmp_path, finetune):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    save_file(finetune[1], folder / "flux.safetensors")
    assert f"such as {folder / 'flux.safetensors'}" in refusal(folder)


@pytest.mark.parametrize("how", ["null", "no folder", "no entry"])
@pytest.mark.parametrize("part", ["vae", "tokenizer", "text_encoder_2"])
def test_a_pipeline_without_a_part_gets_it_from_the_base(copy, tiny_flux, flux, part, how):
    index = json.loads((copy / "model_index.json").read_text())
    entry = index.pop(part)
    if how != "no entry":
        index[part] = [None, None] if how == "null" else entry
    (copy / "model_index.json").write_text(json.dumps(index))
    shutil.rmtree(copy / part)
    message = refusal(copy)
    assert part in message
    assert "(--base)" in message
    model = opened(copy, base=tiny_flux)
    assert model.identity == flux.identity
    assert drawn(model) == drawn(flux)


def test_a_subfolder_of_a_folder(copy, flux):
    outer = copy.parent / "outer"
    outer.mkdir()
    copy.rename(outer / "small")
    assert opened(outer, subfolder="small").identity == flux.identity
    assert "no folder 'large' in" in refusal(outer, subfolder="large")


def modular(folder: Path, elsewhere: dict[str, str] | None = None) -> None:
    """Rewrite a saved pipeline as what `ModularPipeline.save_pretrained` leaves behind."""
    index = json.loads((folder / "model_index.json").read_text())
    content = {"_class_name": "FluxModularPipeline", "_blocks_class_name": "FluxAutoBlocks"}
    for key, entry in index.items():
        if not key.startswith("_") and all(entry):
            source = (elsewhere or {}).get(key, "")
            known = [None, None] if source else entry
            content[key] = [
                *known,
                {"type_hint": entry, "pretrained_model_name_or_path": source or str(folder), "subfolder": key},
            ]
            if source:
                shutil.rmtree(folder / key)
    (folder / "model_index.json").unlink()
    (folder / "modular_model_index.json").write_text(json.dumps(content))


@pytest.mark.parametrize("spread", [False, True])
def test_a_modular_pipelines_folder(copy, tiny_flux, flux, spread):
    modular(copy, {"text_encoder_2": str(tiny_flux), "vae": str(tiny_flux)} if spread else None)
    model = opened(copy)
    assert type(model.pipeline).__name__ == "FluxPipeline"
    assert model.identity == flux.identity
    assert drawn(model) == drawn(flux)


def test_a_modular_pipeline_without_a_plain_form(copy):
    modular(copy)
    path = copy / "modular_model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "_class_name": "MyModularPipeline", "_blocks_class_name": "MyBlocks"}))
    assert "is a modular pipeline (MyModularPipeline), for which diffusers" in refusal(copy)


def test_half_precision_of_a_single_file(finetune, tiny_flux, tmp_path):
    file = tmp_path / "half.safetensors"
    save_file({key: tensor.half() for key, tensor in finetune[1].items()}, file)
    model = load_model(file, base=tiny_flux, device="cpu", dtype="bfloat16")
    expected = {key: tensor.half().bfloat16() for key, tensor in finetune[1].items()}
    assert holds(model, expected)
    assert {buffer.dtype for buffer in model.transformer.buffers() if buffer.is_floating_point()} <= {torch.bfloat16}
    loaded = load_file(file)
    assert all(tensor.dtype == torch.float16 for tensor in loaded.values())
