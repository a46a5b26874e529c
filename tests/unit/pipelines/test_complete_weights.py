"""Weights that are missing, left over, of another shape or not finite are refused by name; harmless keys are not."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.model import load_model

PLACES = {
    ("flux", "transformer"): ("diffusion_pytorch_model", "transformer_blocks.1.attn.to_k.weight"),
    ("flux", "vae"): ("diffusion_pytorch_model", "decoder.layers.0.weight"),
    ("flux", "text_encoder"): ("model", "encoder.layers.1.mlp.fc1.weight"),
    ("flux", "text_encoder_2"): ("model", "encoder.block.0.layer.0.SelfAttention.k.weight"),
    ("sd3", "text_encoder_2"): ("model", "text_model.encoder.layers.0.self_attn.q_proj.weight"),
    ("sd3", "text_encoder_3"): ("model", "encoder.block.0.layer.1.DenseReluDense.wo.weight"),
    ("sd3", "vae"): ("diffusion_pytorch_model", "encoder.conv_in.weight"),
}
"""A weight of every kind of part: its file and its key."""


@pytest.fixture
def copies(request, tmp_path):
    """Gives a copy of a family's tiny folder."""
    return lambda family: shutil.copytree(request.getfixturevalue(f"tiny_{family}"), tmp_path / family)


@pytest.fixture(params=list(PLACES), ids=[" ".join(place) for place in PLACES])
def place(request, copies):
    """Folder of a pipeline, a part of it, its file, the end of a key in it."""
    family, part = request.param
    stem, key = PLACES[request.param]
    return copies(family), part, f"{stem}.safetensors", key


def change(file: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, {"format": "pt"})


def stored(tensors: dict, key: str) -> str:
    """The key in the file, which may have a prefix."""
    (found,) = (one for one in tensors if f".{one}".endswith(f".{key}"))
    return found


def refusal(folder: Path, dtype: str = "float32") -> str:
    with pytest.raises(UserError) as caught:
        load_model(folder, device="cpu", dtype=dtype)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_a_missing_weight_is_named(place):
    folder, part, file, key = place
    change(folder / part / file, lambda tensors: tensors.pop(stored(tensors, key)))
    message = refusal(folder)
    assert "could not be loaded" in message
    assert f"{key} are missing from {part}/{file};" in message


def test_a_weight_of_another_shape_is_named(place):
    folder, part, file, key = place
    change(folder / part / file, lambda tensors: tensors.update({stored(tensors, key): torch.zeros(3, 5)}))
    message = refusal(folder)
    assert f"{key} in {part}/{file} is 3×5 where config.json asks for " in message


def test_a_weight_too_many_is_named(place):
    folder, part, file, key = place
    more = key.replace(".0.", ".7.").replace(".1.", ".7.") if ".conv" not in key else "encoder.surplus.weight"
    change(folder / part / file, lambda tensors: tensors.update({more: torch.zeros(3, 5)}))
    message = refusal(folder)
    assert f"{part}/{file} holds " in message
    assert f"{more}, which its config.json has no layer for" in message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_named(place, value):
    folder, part, file, key = place

    def spoil(tensors: dict) -> None:
        tensors[stored(tensors, key)].view(-1)[-1] = value

    change(folder / part / file, spoil)
    message = refusal(folder)
    assert f"{key.removesuffix('.weight')} in {part}/{file} are NaN or infinite" in message
    assert message.startswith(f"{folder} could not be loaded: the weights of ")


def test_several_missing_weights_are_counted(copies):
    folder = copies("flux")
    file = folder / "transformer/diffusion_pytorch_model.safetensors"
    change(file, lambda tensors: [tensors.pop(key) for key in list(tensors) if ".attn.to_q" in key])
    assert "the weights single_transformer_blocks.0.attn.to_q.bias and 7 more are missing" in refusal(folder)


def test_a_weight_too_large_for_half_precision_is_not_the_files_fault(copies):
    folder = copies("flux")
    file = folder / "transformer/diffusion_pytorch_model.safetensors"
    change(file, lambda tensors: tensors["x_embedder.weight"].fill_(1e6))
    message = refusal(folder, dtype="float16")
    assert "x_embedder in the transformer" in message
    assert "too large for float16; load the model in float32" in message
    load_model(folder, device="cpu", dtype="bfloat16")


def test_old_buffers_and_tied_weights_are_no_fault(copies):
    """Keys of checkpoints on the hub: position_ids of CLIP, T5's embedding stored twice or under its other name."""
    folder = copies("sd3")
    positions = {"text_model.embeddings.position_ids": torch.arange(16)[None]}
    change(folder / "text_encoder/model.safetensors", lambda tensors: tensors.update(positions))
    change(folder / "text_encoder_2/model.safetensors", lambda tensors: tensors.update(positions))
    file = folder / "text_encoder_3/model.safetensors"
    decoder = {"decoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(2, 2), "lm_head.weight": torch.zeros(2, 2)}
    change(file, lambda tensors: tensors.update(decoder))
    assert load_model(folder, device="cpu").layers


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_that_is_stored_once_or_twice(copies, tied):
    folder = copies("flux")
    config = folder / "text_encoder_2/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tie_word_embeddings": tied}))
    file = folder / "text_encoder_2/model.safetensors"
    shared = load_file(file)["shared.weight"]
    change(file, lambda tensors: tensors.update({"encoder.embed_tokens.weight": shared.clone()}))
    assert torch.equal(load_model(folder, device="cpu").pipeline.text_encoder_2.shared.weight, shared)
    change(file, lambda tensors: tensors.pop("shared.weight"))
    assert torch.equal(load_model(folder, device="cpu").pipeline.text_encoder_2.encoder.embed_tokens.weight, shared)
    change(file, lambda tensors: tensors.pop("encoder.embed_tokens.weight"))
    assert "encoder.embed_tokens.weight and 1 more are missing from text_encoder_2/model.safe" in refusal(folder)


def test_a_text_encoder_cut_out_of_a_larger_model(copies):
    folder = copies("flux")
    tower = {
        "vision_model.embeddings.class_embedding": torch.zeros(4),
        "logit_scale": torch.zeros(()),
        "text_projection.weight": torch.zeros(4, 4),
    }
    change(folder / "text_encoder/model.safetensors", lambda tensors: tensors.update(tower))
    assert load_model(folder, device="cpu").layers
    more = {"lm_head.weight": torch.zeros(4)}
    change(folder / "transformer/diffusion_pytorch_model.safetensors", lambda tensors: tensors.update(more))
    assert "transformer/diffusion_pytorch_model.safetensors holds lm_head.weight" in refusal(folder)


def shards(flux, folder: Path) -> list[Path]:
    flux.pipeline.save_pretrained(folder, max_shard_size="100KB")
    return sorted((folder / "transformer").glob("*.safetensors"))


def test_shards_are_named(flux, tmp_path):
    folder = tmp_path / "sharded"
    first, *_, last = shards(flux, folder)
    assert load_model(folder, device="cpu").fingerprint == flux.fingerprint
    keys = sorted(load_file(last))
    change(last, lambda tensors: tensors[keys[0]].fill_(math.nan))
    assert f"transformer/{last.name} are NaN" in refusal(folder)
    change(last, lambda tensors: tensors.pop(keys[0]))
    assert f"the weights {keys[0]} are missing from the files of transformer;" in refusal(folder)
    last.unlink()
    assert f"transformer/{last.name} is missing" in refusal(folder)
    last.write_bytes(first.read_bytes()[:-1])
    assert f"transformer/{last.name} is damaged" in refusal(folder)
    index = folder / "transformer/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(index.read_text().replace(last.name, "shard.bin"))
    assert "names shard.bin, no safetensors" in refusal(folder)
    index.write_text("{}")
    assert f"transformer/{index.name} is damaged" in refusal(folder)


def test_a_list_of_shards_beside_a_whole_file(flux, copies, tmp_path):
    """diffusers follows the list, transformers the whole file; what is loaded is what is checked."""
    folder = copies("flux")
    whole = folder / "transformer/diffusion_pytorch_model.safetensors"
    change(whole, lambda tensors: tensors["x_embedder.weight"].fill_(math.nan))
    shards(flux, tmp_path / "sharded")
    for path in (tmp_path / "sharded/transformer").glob("*safetensors*"):
        shutil.copy(path, folder / "transformer")
    assert load_model(folder, device="cpu").fingerprint == flux.fingerprint
    for path in (tmp_path / "sharded/text_encoder").glob("*safetensors*"):
        shutil.copy(path, folder / "text_encoder")
    (folder / "text_encoder/model.safetensors.index.json").write_text("{}")
    assert load_model(folder, device="cpu").fingerprint == flux.fingerprint


def test_a_part_without_weights(copies):
    folder = copies("sd3")
    (folder / "text_encoder_2/model.safetensors").unlink()
    assert "could not be loaded: text_encoder_2/model.safetensors is missing" in refusal(folder)
    shutil.rmtree(folder / "vae")
    assert "it has no folder vae; download" in refusal(folder)


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
def test_a_tokenizer_without_its_vocabulary(copies, part):
    """transformers makes one of it that knows no word, and every prompt draws the same picture."""
    folder = copies("flux")
    (folder / part / "tokenizer.json").unlink()
    assert f"{part}/tokenizer.json is missing" in refusal(folder)
