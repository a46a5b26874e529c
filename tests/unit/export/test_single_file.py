"""One file of the transformer: read back by diffusers to the same bits, in its own layout or the original one."""

from __future__ import annotations

import json

import diffusers
import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.loaders import single_file_utils
from quick_prune import UPDATED, quickly_pruned
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_families.drive import save
from tiny_families.edits import EDITS
from tiny_families.images import IMAGES
from tiny_families.videos import VIDEOS

from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.export.layouts import blank_original, make_original, original_layout
from dit_prune_viz.export.pruned_state import PrunedState
from dit_prune_viz.export.single_file import single_file_bytes, write_single_file
from dit_prune_viz.export.weight_file import write_weights
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.recipe import Recipe


@pytest.fixture(scope="module")
def sd3(tiny_sd3):
    return quickly_pruned(load_model(tiny_sd3, device="cpu", dtype="float32"))


@pytest.fixture(scope="module")
def updated(flux):
    return quickly_pruned(flux, UPDATED)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def random_state(blank, columns=None):
    """Random tensors of these shapes, or of their first columns, as diffusers' readers take rows apart only."""
    generator = torch.Generator().manual_seed(0)

    def shape(tensor):
        return tensor.shape if columns is None or tensor.ndim < 2 else (tensor.shape[0], columns, *tensor.shape[2:])

    return {name: torch.randn(shape(tensor), generator=generator) for name, tensor in blank.items()}


def original(kind, state):
    return {one.name: make_original(one, state.__getitem__) for one in original_layout(kind, state)}


def blank_transformer(kind, **config):
    with torch.device("meta"):
        return getattr(diffusers, kind)(**config).state_dict()


FLUX = {"in_channels": 64, "num_attention_heads": 24, "attention_head_dim": 128}
READERS = {
    "flux-dev": (
        "FluxTransformer2DModel",
        "flux",
        FLUX | {"num_layers": 3, "num_single_layers": 2, "guidance_embeds": True},
    ),
    "flux-schnell": ("FluxTransformer2DModel", "flux", FLUX | {"num_layers": 1, "num_single_layers": 12}),
    "flux-fill": (
        "FluxTransformer2DModel",
        "flux",
        FLUX
        | {"in_channels": 384, "out_channels": 64, "num_layers": 1, "num_single_layers": 1, "guidance_embeds": True},
    ),
    "chroma": ("ChromaTransformer2DModel", "chroma", FLUX | {"num_layers": 2, "num_single_layers": 3}),
}


@pytest.mark.parametrize("name", READERS)
def test_diffusers_readers_of_one_width_give_the_tensors_back(name):
    """These know the published width only, so rows are as many as there, and columns two."""
    kind, reader, config = READERS[name]
    state = random_state(blank_transformer(kind, **config), columns=2)
    read = getattr(single_file_utils, f"convert_{reader}_transformer_checkpoint_to_diffusers")
    assert_same(read(original(kind, state)), state)
    prefixed = {f"model.diffusion_model.{key}": tensor for key, tensor in original(kind, state).items()}
    assert_same(read(prefixed), state)


def test_lumina2_in_the_layout_of_comfy_ui():
    blank = blank_transformer("Lumina2Transformer2DModel", num_layers=3, num_refiner_layers=2, cap_feat_dim=16)
    state = random_state(blank, columns=2)
    found = original("Lumina2Transformer2DModel", state)
    assert {"layers.2.attention.qkv.weight", "cap_embedder.1.bias", "final_layer.linear.weight"} <= found.keys()
    assert_same(single_file_utils.convert_lumina2_to_diffusers(found), state)


RENAMED = {
    "flux2-klein": (IMAGES, "double_blocks.0.img_attn.qkv.weight"),
    "wan2.1": (VIDEOS, "blocks.0.self_attn.o.weight"),
    "wan2.2": (EDITS, "blocks.0.modulation"),
    "ltx": (VIDEOS, "adaln_single.linear.bias"),
    "sd3": (IMAGES, "joint_blocks.0.x_block.attn.qkv.weight"),
}


@pytest.mark.parametrize("family", RENAMED)
def test_families_whose_layout_diffusers_reads_at_any_width(family, tmp_path):
    known, name = RENAMED[family]
    folder = save(family, known[family], tmp_path / "model")
    pruned = quickly_pruned(load_model(folder, device="cpu", dtype="float32"))
    path = write_single_file(pruned, tmp_path / "it.safetensors", part="transformer")
    assert metadata(path)["layout"] == "original"
    assert name in load_file(path)
    read = read_back(type(pruned.model.pipeline.transformer), path, folder)
    assert_same(read.state_dict(), dict(PrunedState(pruned, "transformer")))


def test_wan_that_starts_from_a_picture_and_looks_at_it():
    blank = blank_transformer("WanTransformer3DModel", num_layers=1, image_dim=8, added_kv_proj_dim=16)
    state = random_state(blank, columns=2)
    found = original("WanTransformer3DModel", state)
    assert {"img_emb.proj.4.weight", "blocks.0.cross_attn.k_img.weight"} <= found.keys()
    assert_same(single_file_utils.convert_wan_transformer_to_diffusers(found), state)


SD3 = [
    {},
    {"qk_norm": "rms_norm"},
    {"qk_norm": "rms_norm", "dual_attention_layers": (0, 1), "num_layers": 4},
    {"num_layers": 1, "attention_head_dim": 8, "pos_embed_max_size": 12},
    {"num_layers": 12, "dual_attention_layers": (0,), "joint_attention_dim": 24},
]


@pytest.mark.parametrize("more", SD3)
def test_sd3_of_any_size_is_read_back_from_one_file(more, tmp_path):
    config = {"sample_size": 8, "num_layers": 3, "attention_head_dim": 16, "num_attention_heads": 2} | more
    width = config["attention_head_dim"] * 2
    sizes = {"joint_attention_dim": 64, "pooled_projection_dim": 40, "pos_embed_max_size": 16}
    config = sizes | {"caption_projection_dim": width} | config
    torch.manual_seed(len(more))
    transformer = SD3Transformer2DModel(**config)
    transformer.save_config(tmp_path / "transformer")
    state = random_state(transformer.state_dict())
    layout = {one.name: one for one in original_layout("SD3Transformer2DModel", state)}
    assert f"joint_blocks.{config['num_layers'] - 1}.x_block.attn.qkv.weight" in layout
    blank = {name: blank_original(one, state) for name, one in layout.items()}
    write_weights(tmp_path / "it.safetensors", blank, lambda name: make_original(layout[name], state.__getitem__), {})
    read = SD3Transformer2DModel.from_single_file(
        str(tmp_path / "it.safetensors"), config=str(tmp_path), subfolder="transformer", local_files_only=True
    )
    assert_same(read.state_dict(), state)


def test_names_that_have_no_place_in_the_layout():
    state = blank_transformer("FluxTransformer2DModel", num_layers=1, num_single_layers=1)
    assert original_layout("FluxTransformer2DModel", [*state, "transformer_blocks.0.extra.weight"]) is None
    assert original_layout("FluxTransformer2DModel", [name for name in state if ".to_k." not in name]) is None
    assert original_layout("DiTTransformer2DModel", state) is None


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def read_back(kind, path, folder):
    return kind.from_single_file(str(path), config=str(folder), subfolder="transformer", local_files_only=True)


def test_a_pruned_sd3_goes_into_the_original_layout(sd3, tiny_sd3, tmp_path):
    path = write_single_file(sd3, tmp_path / "sd3.safetensors")
    assert "joint_blocks.0.x_block.attn.qkv.weight" in load_file(path)
    expected = dict(PrunedState(sd3, "transformer"))
    assert_same(read_back(SD3Transformer2DModel, path, tiny_sd3).state_dict(), expected)
    removed = sum(int((expected[f"{name}.weight"] == 0).sum()) for name in sd3.layers)
    assert removed == sd3.report.removed
    assert path.stat().st_size == single_file_bytes(sd3)
    said = metadata(path)
    assert (said["layout"], said["class"], said["format"]) == ("original", "SD3Transformer2DModel", "pt")
    assert said["fingerprint"] == sd3.model.fingerprint
    assert Recipe.from_json(said["recipe"]) == sd3.recipe
    assert json.loads(said["pruned"])["removed"] == sd3.report.removed
    assert str(tiny_sd3.parent) not in json.dumps(said)


def test_this_app_opens_the_file_again(sd3, tiny_sd3, tmp_path):
    path = write_single_file(sd3, tmp_path / "sd3.safetensors")
    again = load_model(path, base=tiny_sd3, device="cpu", dtype="float32")
    assert_same(again.transformer.state_dict(), dict(PrunedState(sd3, "transformer")))


def test_a_flux_of_another_width_is_written_so_that_diffusers_reads_it(updated, tiny_flux, tmp_path):
    """diffusers' reader of the original layout knows the width of FLUX.1 alone."""
    path = write_single_file(updated, tmp_path / "flux.safetensors")
    expected = dict(PrunedState(updated, "transformer"))
    assert_same(read_back(FluxTransformer2DModel, path, tiny_flux).state_dict(), expected)
    assert metadata(path)["layout"] == "diffusers"
    first = write_single_file(updated, tmp_path / "bfl.safetensors", layout="original")
    assert metadata(first)["layout"] == "original"
    fused = load_file(first)["single_blocks.1.linear1.weight"]
    block = "single_transformer_blocks.1"
    parts = [f"{block}.attn.to_q", f"{block}.attn.to_k", f"{block}.attn.to_v", f"{block}.proj_mlp"]
    assert torch.equal(fused, torch.cat([expected[f"{part}.weight"] for part in parts]))
    shift, scale = load_file(first)["final_layer.adaLN_modulation.1.bias"].chunk(2)
    assert torch.equal(torch.cat([scale, shift]), expected["norm_out.linear.bias"])


def test_pixart_is_written_as_comfy_ui_reads_it(tiny_pixart, tmp_path):
    pruned = quickly_pruned(load_model(tiny_pixart, device="cpu", dtype="float32"))
    path = write_single_file(pruned, tmp_path / "pixart.safetensors")
    assert_same(load_file(path), dict(PrunedState(pruned, "transformer")))
    assert metadata(path)["layout"] == "diffusers"


def test_a_family_that_nothing_reads_from_one_file_says_so(tiny_dit, tmp_path):
    pruned = quickly_pruned(load_model(tiny_dit, device="cpu", dtype="float32"))
    with pytest.raises(UserError, match="No program is known to read a DiTTransformer2DModel from a single file"):
        write_single_file(pruned, tmp_path / "dit.safetensors")
    with pytest.raises(UserError, match="No other layout of a DiTTransformer2DModel than diffusers' is known here"):
        write_single_file(pruned, tmp_path / "dit.safetensors", layout="original")
    assert list(tmp_path.iterdir()) == []


def test_of_two_transformers_one_is_chosen(tmp_path):
    folder = save("wan2.2", EDITS["wan2.2"], tmp_path / "wan")
    pruned = quickly_pruned(load_model(folder, device="cpu", dtype="float32"))
    with pytest.raises(UserError, match="has several transformers; choose transformer or transformer_2"):
        write_single_file(pruned, tmp_path / "wan.safetensors")
    path = write_single_file(pruned, tmp_path / "wan.safetensors", part="transformer_2")
    read = diffusers.WanTransformer3DModel.from_single_file(
        str(path), config=str(folder), subfolder="transformer_2", local_files_only=True
    )
    assert_same(read.state_dict(), dict(PrunedState(pruned, "transformer_2")))
    zeros = sum(
        int((read.get_submodule(name.partition(".")[2]).weight == 0).sum())
        for name in pruned.layers
        if name.startswith("transformer_2.")
    )
    assert zeros == sum(one.mask.removed for name, one in pruned.layers.items() if name.startswith("transformer_2."))


def test_convolutions_are_masked_too(sana, tmp_path):
    pruned = quickly_pruned(sana)
    assert any(layer.convolution for layer in sana.layers)
    path = write_single_file(pruned, tmp_path / "sana.safetensors")
    found = load_file(path)
    for name, layer in pruned.layers.items():
        weight = sana.transformer.get_submodule(name).weight
        keep = layer.mask.unpack().view(weight.shape)
        assert torch.equal(found[f"{name}.weight"], torch.where(keep, weight, 0))


def test_what_is_refused_leaves_nothing(updated, tmp_path):
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        write_single_file(updated, tmp_path / "flux.ckpt")
    with pytest.raises(UserError, match="There is no layout 'bfl'; use original, diffusers, or none"):
        write_single_file(updated, tmp_path / "flux.safetensors", layout="bfl")
    with pytest.raises(UserError, match="has no transformer 'unet'; choose transformer"):
        write_single_file(updated, tmp_path / "flux.safetensors", part="unet")

    def stop(done, total, what):
        if done == 7:
            raise Cancelled

    with pytest.raises(Cancelled):
        write_single_file(updated, tmp_path / "flux.safetensors", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_zimage_keys_are_those_of_diffusers(tmp_path):
    folder = save("z-image", IMAGES["z-image"], tmp_path / "z")
    pruned = quickly_pruned(load_model(folder, device="cpu", dtype="float32"))
    path = write_single_file(pruned, tmp_path / "z.safetensors")
    read = read_back(diffusers.ZImageTransformer2DModel, path, folder)
    assert_same(read.state_dict(), dict(PrunedState(pruned, "transformer")))
