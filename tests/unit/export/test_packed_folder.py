"""A packed folder: same weights and pictures in another process, whole or not at all, and no damage goes unseen."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from readme import python_block

import dit_prune_viz
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.export import folders, packed_files, shards
from dit_prune_viz.export.load_packed import load_packed
from dit_prune_viz.export.pack import pack, packed_bytes_at_most
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.pipelines.families import call_arguments
from dit_prune_viz.pruning.prune import prune

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pruned(flux):
    """Masks and moved weights and biases."""
    return prune(flux, "swap-update", sparsity=0.6)


@pytest.fixture(scope="module")
def folder(pruned, tmp_path_factory):
    return pack(pruned, tmp_path_factory.mktemp("packed") / "model")


def digest(module: torch.nn.Module) -> str:
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode() + value.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


FRESH = """
import hashlib, json, sys, torch
from dit_prune_viz import load_packed

pipeline = load_packed(sys.argv[1])
for name, value in sorted(pipeline.transformer.state_dict().items()):
    print(name, hashlib.sha256(value.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest())
picture = pipeline(**json.loads(sys.argv[2]), generator=[torch.Generator().manual_seed(5)]).images[0]
print(type(pipeline).__module__)
print(hashlib.sha256(picture.tobytes()).hexdigest())
print(json.dumps(sorted(sys.modules)))
"""
APP = {"gradio", "plotly", "sklearn", "umap", "numba"}
ROOMS = {"app", "experiments", "figures", "generation", "pruning", "sensitivity", "methods", "calibration", "metrics"}


def test_another_process_reads_the_weights_and_draws_the_picture(flux, pruned, folder):
    """With stock diffusers, and nothing of the app loaded but what reads the folder."""
    arguments = json.dumps(_arguments(flux, flux.pipeline))
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(folder), arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *lines, module, picture, modules = done.stdout.splitlines()
    assert module.startswith("diffusers.")
    loaded = set(json.loads(modules))
    assert not APP & loaded
    assert not {f"dit_prune_viz.{room}" for room in ROOMS} & loaded
    assert "dit_prune_viz.export.load_packed" in loaded
    seen, _ = generate(flux, Request("a red bus", seed=5, steps=3), pruned=pruned)
    assert picture == hashlib.sha256(seen.tobytes()).hexdigest()
    found = dict(line.split() for line in lines)
    state = flux.transformer.state_dict()
    assert found.keys() == state.keys()
    moved = 0
    for name, dense in state.items():
        owner, _, last = name.rpartition(".")
        layer = pruned.layers.get(owner)
        expected = dense.clone()
        if layer is not None and last == "weight":
            expected = torch.zeros_like(dense)
            keep = layer.mask.unpack()
            expected[keep] = dense[keep] if layer.values is None else layer.values.to(dense.dtype)
            moved += layer.values is not None
        elif layer is not None and last == "bias" and layer.bias is not None:
            expected = layer.bias.to(dense.dtype)
        assert found[name] == hashlib.sha256(expected.view(torch.uint8).numpy().tobytes()).hexdigest(), name
    assert moved


def test_the_picture_is_that_of_the_pruned_side(flux, pruned, folder):
    picture, _ = generate(flux, Request("a red bus", seed=5, steps=3), pruned=pruned)
    assert _draw(flux, load_packed(folder)).tobytes() == picture.tobytes()


def _arguments(model, pipeline) -> dict:
    """What a stock pipeline is called with to draw one prompt at the model's settings."""
    defaults = model.defaults
    return call_arguments(
        pipeline,
        ["a red bus"],
        steps=3,
        guidance_scale=defaults.guidance_scale,
        height=defaults.height,
        width=defaults.width,
        max_sequence_length=defaults.max_sequence_length,
    )


def _draw(model, pipeline):
    arguments = _arguments(model, pipeline)
    return pipeline(**arguments, generator=[torch.Generator().manual_seed(5)]).images[0]


def test_resident_layers_draw_the_same_and_hold_masks_and_values(flux, pruned, folder):
    plain, resident = load_packed(folder), load_packed(folder, resident=True)
    for name, layer in pruned.layers.items():
        module = resident.transformer.get_submodule(name)
        assert "weight" not in dict(module.named_parameters())
        assert sum(value.nbytes for value in module.buffers()) == layer.mask.kept * 4 + layer.mask.bits.nbytes
        assert torch.equal(module.weight, plain.transformer.get_submodule(name).weight)
    pictures = [_draw(flux, pipeline) for pipeline in (plain, resident)]
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_packing_reads_the_dense_model_only(flux, pruned, tmp_path):
    before = digest(flux.transformer)
    pack(pruned, tmp_path / "model")
    assert digest(flux.transformer) == before


def test_several_files_hold_the_same(folder, pruned, tmp_path, monkeypatch):
    monkeypatch.setattr(packed_files.write_packed, "__kwdefaults__", {"progress": None, "shard_bytes": 20_000})
    many = pack(pruned, tmp_path / "many")
    assert len(list((many / "transformer").glob("packed-*.safetensors"))) > 3
    assert digest(load_packed(many).transformer) == digest(load_packed(folder).transformer)


def test_it_is_never_larger_than_said(pruned, folder):
    files = sum(file.stat().st_size for file in (folder / "transformer").glob("*.safetensors"))
    assert files < packed_bytes_at_most(pruned)


def test_a_folder_that_is_there_stays_unless_it_may_be_replaced(pruned, tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "mine.txt").write_text("keep me")
    with pytest.raises(UserError, match="exists already; choose another name, or ask for it to be overwritten"):
        pack(pruned, target)
    assert (target / "mine.txt").read_text() == "keep me"
    pack(pruned, target, overwrite=True)
    assert not (target / "mine.txt").exists()
    load_packed(target)


def test_cancelled_packing_leaves_nothing(pruned, tmp_path):
    def stop(done, total, what):
        if done == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        pack(pruned, tmp_path / "model", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(pruned, tmp_path, monkeypatch):
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(UserError, match=r"needs .* MB, but the disk has 1 kB left; free some space first"):
        pack(pruned, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(pruned, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "shard_head", full)
    with pytest.raises(UserError, match=r"could not be written \(No space left on device\)"):
        pack(pruned, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_readmes_example_packs_and_loads(flux, pruned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"dpv": dit_prune_viz, "pruned": pruned}
    exec(python_block("load_packed"), names)
    assert digest(names["pipeline"].transformer) == digest(load_packed(tmp_path / "emoji-70").transformer)
    assert _draw(flux, names["pipeline"])


def test_values_in_int8_come_back_as_they_were_rounded(pruned, tmp_path):
    """Of layers whose weights have moved and of others; nothing else is rounded, and resident layers are the same."""
    folder = pack(pruned, tmp_path / "int8", values="int8")
    plain, resident = load_packed(folder), load_packed(folder, resident=True)
    exact = load_packed(pack(pruned, tmp_path / "exact")).transformer.state_dict()
    for key, found in plain.transformer.state_dict().items():
        layer = pruned.layers.get(key.removesuffix(".weight"))
        if layer is None or not key.endswith(".weight"):
            assert torch.equal(found, exact[key])
            continue
        scales = exact[key].abs().amax(1, keepdim=True) / 127
        half = scales.half().float()
        if ((half - scales).abs() <= scales / 256).all():
            scales = half
        codes = (exact[key] / scales.where(scales != 0, torch.ones(()))).round().clamp(-127, 127)
        assert torch.equal(found, (codes * scales) * layer.mask.unpack())
        assert torch.equal(resident.transformer.get_submodule(key.removesuffix(".weight")).weight, found)
