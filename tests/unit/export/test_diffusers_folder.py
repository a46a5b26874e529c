"""A folder for plain diffusers: same pictures in another process, shards as before, one layer at a time."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import ModelCard
from quick_prune import UPDATED, quickly_pruned
from readme import blocks
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_families.drive import save
from tiny_families.edits import EDITS
from torch import nn

from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.export.diffusers_folder import diffusers_bytes, write_diffusers
from dit_prune_viz.export.pruned_state import PrunedState
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.pipelines.families import call_arguments
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

ROOT = Path(__file__).parents[3]
MOVED = Recipe("magnitude", sparsity=0.6, update="mean")
SHARDS = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture(scope="module")
def updated(flux):
    """Masks and moved weights and biases."""
    return quickly_pruned(flux, UPDATED)


@pytest.fixture(scope="module")
def folder(updated, tmp_path_factory):
    return write_diffusers(updated, tmp_path_factory.mktemp("folder") / "model", scores={"SSIM": 0.51234, "note": "x"})


def bits(module: nn.Module) -> dict[str, str]:
    return {
        name: hashlib.sha256(value.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, value in module.state_dict().items()
    }


def all_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


DRAW = """
import hashlib, json, sys, torch
from diffusers import DiffusionPipeline
for folder, arguments in json.load(sys.stdin):
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    picture = pipeline(**arguments, generator=[torch.Generator().manual_seed(5)]).images[0]
    print("picture", hashlib.sha256(picture.tobytes()).hexdigest())
print("own", sorted(name for name in sys.modules if name.startswith("dit_prune_viz")))
"""


def test_plain_diffusers_draws_the_same_in_another_process(bundled, tiny_sd3, tmp_path):
    expected, asked = [], []
    for model, recipe in ((bundled, Recipe("magnitude", sparsity=0.5)), (load_model(tiny_sd3, device="cpu"), MOVED)):
        pruned, prompt, defaults = quickly_pruned(model, recipe), "red apple", model.defaults
        picture, _ = generate(model, Request(prompt, seed=5, steps=3), pruned=pruned)
        expected.append(f"picture {hashlib.sha256(picture.tobytes()).hexdigest()}")
        arguments = call_arguments(
            model.pipeline,
            [prompt],
            steps=3,
            guidance_scale=defaults.guidance_scale,
            height=defaults.height,
            width=defaults.width,
            max_sequence_length=defaults.max_sequence_length,
        )
        asked.append((str(write_diffusers(pruned, tmp_path / model.name)), arguments))
    done = subprocess.run(
        [sys.executable, "-c", DRAW],
        input=json.dumps(asked),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [*expected, "own []"]


def test_weights_and_biases_are_those_it_runs_with(flux, updated, folder):
    found = weights(folder / "transformer")
    dense = flux.transformer.state_dict()
    assert found.keys() == dense.keys()
    for name, tensor in dense.items():
        owner, _, last = name.rpartition(".")
        layer = updated.layers.get(owner)
        expected = tensor.clone()
        if layer is not None and last == "weight":
            keep = layer.mask.unpack()
            expected = torch.zeros_like(tensor)
            expected[keep] = tensor[keep] if layer.values is None else layer.values
        elif layer is not None and last == "bias" and layer.bias is not None:
            expected = layer.bias
        assert torch.equal(found[name].view(torch.int32), expected.view(torch.int32)), name


def test_writing_reads_the_dense_model_only(flux, updated, tmp_path):
    before = bits(flux.transformer)
    write_diffusers(updated, tmp_path / "model")
    assert bits(flux.transformer) == before


def test_what_came_in_half_the_bytes_takes_half(bundled, updated, folder, tmp_path):
    pruned = quickly_pruned(bundled)
    own = write_diffusers(pruned, tmp_path / "model")
    with safe_open(own / "transformer/diffusion_pytorch_model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    dense = ROOT / "assets/emoji-flux/transformer/diffusion_pytorch_model.safetensors"
    written = own / "transformer/diffusion_pytorch_model.safetensors"
    assert abs(written.stat().st_size - dense.stat().st_size) < 2000
    assert {tensor.dtype for tensor in weights(folder / "transformer").values()} == {torch.float32}


def test_its_size_is_known_before(updated, folder, bundled, tmp_path):
    for pruned, place in ((updated, folder), (quickly_pruned(bundled), None)):
        place = place or write_diffusers(pruned, tmp_path / "model")
        size = sum(len(data) for data in all_files(place).values())
        card = (place / "README.md").stat().st_size
        assert abs(diffusers_bytes(pruned) - size + card) < 3000


def test_shards_are_those_of_the_source(tiny_flux, tmp_path):
    source = tmp_path / "source"
    pipeline = DiffusionPipeline.from_pretrained(tiny_flux)
    pipeline.save_pretrained(source)
    pipeline.transformer.save_pretrained(source / "transformer", max_shard_size="400KB")
    (source / "transformer/diffusion_pytorch_model.safetensors").unlink()
    expected = json.loads((source / "transformer" / SHARDS).read_text())
    assert len(set(expected["weight_map"].values())) > 3
    pruned = quickly_pruned(load_model(source, device="cpu"))
    own = write_diffusers(pruned, tmp_path / "model")
    assert json.loads((own / "transformer" / SHARDS).read_text()) == expected
    loaded = DiffusionPipeline.from_pretrained(own)
    assert bits(loaded.transformer) == {
        name: hashlib.sha256(tensor.view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, tensor in PrunedState(pruned, "transformer").items()
    }


def test_one_tensor_at_a_time_is_in_memory(updated, tmp_path, monkeypatch):
    made, most = [], []
    get = PrunedState.__getitem__

    def spy(self, name):
        tensor = get(self, name)
        if name.removesuffix(".weight") in updated.layers:
            made.append(weakref.ref(tensor))
        most.append(sum(ref() is not None for ref in made))
        return tensor

    monkeypatch.setattr(PrunedState, "__getitem__", spy)
    write_diffusers(updated, tmp_path / "model")
    assert len(made) == len(updated.layers)
    assert max(most) <= 2  # the one that is written until the next one is there


@pytest.mark.parametrize("family", ["flux", "sana", "wan2.2"])
def test_a_model_whose_blocks_stream_is_written_all_the_same(family, tiny_flux, tiny_sana, tmp_path):
    place = {"flux": tiny_flux, "sana": tiny_sana}.get(family) or save(family, EDITS[family], tmp_path / "source")
    for placement in ("cpu", "stream"):
        model = load_model(place, device="cpu", placement=placement)
        if placement == "cpu":  # memory of their own: at other addresses the CPU adds up in another order
            for part in model.pipeline.components.values():
                for parameter in part.parameters() if isinstance(part, nn.Module) else ():
                    parameter.data = parameter.data.clone()
        write_diffusers(quickly_pruned(model, MOVED), tmp_path / placement)
    plain, streamed = (all_files(tmp_path / placement) for placement in ("cpu", "stream"))
    assert plain.keys() == streamed.keys()
    # Of weights that two modules of a text encoder share, one that streams has two.
    assert [name for name in plain if plain[name] != streamed[name] and "encoder" not in name] == []
    one, other = (DiffusionPipeline.from_pretrained(tmp_path / placement) for placement in ("cpu", "stream"))
    for name, part in one.components.items():
        if isinstance(part, nn.Module):
            assert bits(part) == bits(other.components[name]), name


def test_a_folder_of_a_folder_is_the_same(updated, folder, tmp_path):
    """What is written can be opened, pruned by nothing and written again: nothing is lost on the way."""
    again = load_model(folder, device="cpu", dtype="float32")
    assert again.defaults == updated.model.defaults
    second = write_diffusers(quickly_pruned(again, Recipe("magnitude", sparsity=0.0)), tmp_path / "again")
    plain, other = all_files(folder), all_files(second)
    own = [name for name in plain if not name.startswith(("README", "tokenizer"))]  # transformers rewrites the latter
    assert [name for name in own if plain[name] != other.get(name)] == []


def test_the_model_card(updated, folder):
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.base_model is None  # it came from this machine
    assert {"pruning", "flux"} <= set(card.data.tags)
    report = updated.report
    assert f"{report.removed:,} of the {report.weights:,} prunable weights" in card.text
    assert f"{report.remaining:,} of its {report.parameters:,} parameters are left" in card.text
    (recipe,) = blocks(folder / "README.md", "json")
    assert Recipe.from_json(recipe) == updated.recipe
    rows = [line for line in card.text.splitlines() if line.startswith("| transformer_blocks")]
    rows += [line for line in card.text.splitlines() if line.startswith("| single_transformer_blocks")]
    assert len(rows) == len(report.layers)
    assert "| SSIM | 0.5123 |" in card.text
    assert "The licence of the base model applies" in card.text


def test_the_model_cards_example_runs(updated, folder):
    (code,) = blocks(folder / "README.md", "python")
    names = {}
    exec(code.replace("path/to/this/folder", str(folder)), names)
    defaults = updated.model.defaults
    assert names["image"].size == (defaults.width, defaults.height)


def test_of_a_hub_model_the_card_names_the_base_and_its_licence(updated, tmp_path, monkeypatch):
    from dataclasses import replace

    from dit_prune_viz.export.model_card import model_card
    from dit_prune_viz.pipelines.load_settings import LoadSettings, Lora

    source = "black-forest-labs/FLUX.1-dev@main"
    settings = LoadSettings(source, loras=(Lora("/home/me/styles/ink.safetensors", 0.8),), dequantize=True)
    card = model_card(replace(updated, model=replace(updated.model, source=source, settings=settings)))
    assert ModelCard(card).data.base_model == "black-forest-labs/FLUX.1-dev"
    assert "FLUX.1 [dev] non-commercial" in card
    assert (
        "LoRAs were fused into the weights before pruning: ink.safetensors × 0.8. Quantised weights were made" in card
    )
    assert "/home/me" not in card


def test_no_path_of_this_machine_is_in_the_folder(folder, tiny_flux):
    for name, data in all_files(folder).items():
        assert str(tiny_flux.parent).encode() not in data, name
        assert b"_name_or_path" not in data, name


def test_class_names_are_kept(tiny_dit, tmp_path):
    model = load_model(tiny_dit, device="cpu")
    own = write_diffusers(quickly_pruned(model), tmp_path / "model")
    assert DiffusionPipeline.from_pretrained(own).labels == model.pipeline.labels


def test_two_layers_that_share_a_weight_and_are_pruned_differently(tiny_flux, tmp_path):
    model = load_model(tiny_flux, device="cpu")
    first, second = (model.transformer.transformer_blocks[place].attn.to_k for place in (0, 1))
    second.weight = first.weight
    pruned = quickly_pruned(model)
    write_diffusers(pruned, tmp_path / "same")
    name = "transformer_blocks.1.attn.to_k"
    other = PrunedModel(
        model, pruned.plan, {**pruned.layers, name: pruned.layers[name.replace("to_k", "to_v")]}, pruned.report
    )
    with pytest.raises(UserError, match=r"0\.attn\.to_k and .*1\.attn\.to_k share their weights but are pruned diff"):
        write_diffusers(other, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_source_is_never_replaced(tiny_flux, tmp_path):
    source = Path(shutil.copytree(tiny_flux, tmp_path / "source"))
    before = all_files(source)
    pruned = quickly_pruned(load_model(source, device="cpu"))
    (tmp_path / "link").symlink_to(source)
    for target in (source, source / "transformer", tmp_path / "link", tmp_path, source / ".." / "source"):
        with pytest.raises(UserError, match="holds files of the model that was loaded; choose another place"):
            write_diffusers(pruned, target, overwrite=True)
    assert all_files(source) == before


@pytest.mark.parametrize("step", [1, 5, 40])
def test_cancelled_writing_leaves_nothing(updated, tmp_path, step):
    calls = []

    def stop(done, total, what):
        calls.append((done, total, what))
        if len(calls) == step:
            raise Cancelled

    with pytest.raises(Cancelled):
        write_diffusers(updated, tmp_path / "model", progress=stop)
    assert list(tmp_path.iterdir()) == []
    assert all(0 <= done < total and what.startswith("Writing ") for done, total, what in calls)
