"""Models whose parts rest elsewhere give the same bits as models that lie where they run; all of it on the CPU."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from diffusers.hooks import apply_group_offloading
from safetensors.torch import save_file
from tiny_families.drive import save
from tiny_families.edits import EDITS
from tiny_families.images import IMAGES
from torch import nn

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.step_time import step_time
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.masks.running import running_pruned
from dit_prune_viz.pipelines.model import Model, load_model
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

CPU = torch.device("cpu")
UPDATED = Recipe("wanda", search=("swap",), update="obs")
TUNED = Recipe(search=("distil:2",), update="tuned")
RECIPES = {"flux": (UPDATED,), "sana": (replace(UPDATED, update="mean"),), "dit": (TUNED,)}
QUICK = (Recipe("magnitude"),)


def modules(model: Model) -> Iterator[nn.Module]:
    return (part for part in model.pipeline.components.values() if isinstance(part, nn.Module))


def loaded(folder: Path, placement: str) -> Model:
    """A model whose weights have memory of their own: the CPU adds up in another order at other addresses."""
    model = load_model(folder, device="cpu", placement=placement)
    if placement == "cpu":
        for part in modules(model):
            for parameter in part.parameters():
                parameter.data = parameter.data.clone()
    return model


def quick_statistics(model: Model) -> Statistics:
    return Statistics(model, calibrate(model, samples=4, steps=2, prompts=model.defaults.prompts[:1]))


def everything(model: Model, recipes: tuple[Recipe, ...]) -> list:
    """All that a person gets of a model: identities, weights, calibration, masks, moved weights, latents."""
    request = Request(model.defaults.prompts[0], seed=1, steps=2)
    found = [model.fingerprint, model.identity, *(model.weight(layer.name) for layer in model.layers)]
    found += [model.bias(layer.name) for layer in model.layers]
    statistics = quick_statistics(model)
    found += [statistics.mean_square(layer.name) for layer in model.layers]
    found.append(generate(model, request)[1])
    for recipe in recipes:
        pruned = prune(model, recipe, statistics=statistics)
        found += [part for one in pruned.layers.values() for part in (one.mask.bits, one.values, one.bias)]
        found.append(generate(model, request, pruned=pruned)[1])
    found.append(generate(model, request)[1])
    return found


def assert_same(found: list, expected: list) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, torch.Tensor):
            assert torch.equal(one, other)
        else:
            assert one == other


@pytest.fixture(scope="module")
def plain(request) -> Callable[[str, tuple[Recipe, ...]], list]:
    """What each family gives where it lies plainly."""
    known = {}

    def get(family: str, recipes: tuple[Recipe, ...]) -> list:
        key = family, recipes
        if key not in known:
            known[key] = everything(loaded(request.getfixturevalue(f"tiny_{family}"), "cpu"), recipes)
        return known[key]

    return get


@pytest.mark.parametrize(
    ("family", "placement"),
    [("flux", "offload"), ("pixart", "offload"), *((name, "stream") for name in ("flux", "sd3", "dit", "sana"))],
)
def test_placements_give_the_same_bits(request, plain, family, placement):
    model = loaded(request.getfixturevalue(f"tiny_{family}"), placement)
    assert model.placement.kind == placement
    if placement == "stream":
        assert model.placement.disk
        assert all(parameter.is_meta for parameter in model.transformer.parameters())
    recipes = RECIPES.get(family, QUICK)
    assert_same(everything(model, recipes), plain(family, recipes))


@pytest.mark.parametrize("placement", ["offload", "stream"])
@pytest.mark.parametrize("family", ["wan2.2", "ideogram4"])
def test_two_transformers_are_both_placed(tmp_path, family, placement):
    folder = save(family, EDITS[family], tmp_path)
    model = loaded(folder, placement)
    assert {name.partition(".")[0] for name, _ in model.transformer.named_parameters()} == set(model.transformer)
    for denoiser in model.transformer.values():
        assert all(parameter.is_meta for parameter in denoiser.parameters()) == (placement == "stream")
        assert hasattr(denoiser, "_hf_hook") or placement == "stream"
    assert_same(everything(model, QUICK), everything(loaded(folder, "cpu"), QUICK))


def test_weights_that_a_module_takes_from_its_parts_come_with_it(tmp_path):
    folder = save("hunyuan-dit", IMAGES["hunyuan-dit"], tmp_path)
    latents = [
        generate(loaded(folder, placement), Request("a cat", seed=1, steps=2))[1] for placement in ("cpu", "stream")
    ]
    assert torch.equal(*latents)


def test_a_lora_is_fused_before_the_weights_go_away(tiny_flux, tmp_path):
    layer = "transformer_blocks.0.attn.to_q"
    down, up = torch.randn(2, 64, generator=torch.Generator().manual_seed(1)), torch.full((64, 2), 0.1)
    file = tmp_path / "lora.safetensors"
    save_file({f"transformer.{layer}.lora_A.weight": down, f"transformer.{layer}.lora_B.weight": up}, file)
    plain, placed = (
        load_model(tiny_flux, device="cpu", placement=placement, loras=[str(file)]) for placement in ("cpu", "stream")
    )
    dense = load_model(tiny_flux, device="cpu", placement="stream")
    assert placed.fingerprint == plain.fingerprint != dense.fingerprint
    assert placed.identity == plain.identity
    torch.testing.assert_close(placed.weight(layer), dense.weight(layer) + up @ down)
    assert all(torch.equal(placed.weight(one.name), plain.weight(one.name)) for one in plain.layers)


def test_more_layers_by_request_are_of_the_same_placed_model(tiny_pixart):
    model = load_model(tiny_pixart, device="cpu", placement="stream")
    plain = load_model(tiny_pixart, device="cpu").also_pruning("adaln_single")
    more = model.also_pruning("adaln_single")
    assert (more.placement, more.signature) == (model.placement, plain.signature)
    assert all(torch.equal(more.weight(one.name), plain.weight(one.name)) for one in plain.layers)


def blocks(model: Model) -> None:
    apply_group_offloading(model.transformer, CPU, offload_type="block_level", num_blocks_per_group=1)


def leaves(model: Model) -> None:
    apply_group_offloading(model.transformer, CPU, offload_type="leaf_level")


def sequential(model: Model) -> None:
    cpu_offload(model.transformer, execution_device=CPU)


@pytest.mark.parametrize("hang_in", [blocks, leaves, sequential])
def test_hooks_that_a_person_hangs_in_give_the_same_bits(tiny_pixart, plain, hang_in):
    model = loaded(tiny_pixart, "cpu")
    hang_in(model)
    assert_same(everything(model, QUICK), plain("pixart", QUICK))


@pytest.fixture(scope="module")
def magnitude(flux) -> PrunedModel:
    return prune(flux, Recipe("magnitude"), statistics=quick_statistics(flux))


@pytest.mark.parametrize("level", ["block_level", "leaf_level"])
def test_groups_on_disk_give_the_same_weights_and_masks(tiny_flux, flux, magnitude, tmp_path, level):
    model = load_model(tiny_flux, device="cpu")
    apply_group_offloading(
        model.transformer, CPU, offload_type=level, num_blocks_per_group=1, offload_to_disk_path=str(tmp_path)
    )
    request = Request("a cat", seed=1, steps=1)
    assert [layer for layer, _ in model.weights()] == list(flux.layers)
    for layer, weight in model.weights():
        assert torch.equal(weight, flux.weight(layer.name))
        assert torch.equal(model.weight(layer.name), weight)
    pruned = prune(model, Recipe("magnitude"), statistics=quick_statistics(model))
    for name, layer in magnitude.layers.items():
        assert torch.equal(pruned.layers[name].mask.bits, layer.mask.bits)
    for one, other in ((None, None), (pruned, magnitude), (None, None)):
        latents = generate(model, request, pruned=one)[1]
        torch.testing.assert_close(latents, generate(flux, request, pruned=other)[1], rtol=1e-4, atol=1e-5)
    assert not torch.equal(latents, generate(flux, request, pruned=magnitude)[1])


def test_weights_on_disk_stay_as_they_are(tiny_flux, flux, tmp_path):
    model = load_model(tiny_flux, device="cpu")
    disk_offload(model.transformer, str(tmp_path), execution_device=CPU)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    pruned = prune(model, UPDATED, statistics=quick_statistics(model))
    generate(model, Request("a cat", seed=1, steps=2), pruned=pruned)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert all(torch.equal(model.weight(layer.name), flux.weight(layer.name)) for layer in flux.layers)


def forwards(model: Model) -> list[tuple]:
    return [(vars(one).get("forward"), vars(one).get("_old_forward")) for one in model.transformer.modules()]


def test_a_cancelled_run_leaves_hooks_and_weights_as_they_were(tiny_flux, flux, magnitude):
    model = load_model(tiny_flux, device="cpu", placement="stream")
    before = forwards(model)
    with running_pruned(model, magnitude.layers):
        assert forwards(model) != before
        with pytest.raises(UserError, match="running pruned already"):
            running_pruned(model, magnitude.layers).__enter__()

    def stop(*_: object) -> None:
        raise Cancelled("stopped")

    handle = model.transformer.register_forward_hook(stop)
    with pytest.raises(Cancelled):
        generate(model, Request("a cat", seed=1, steps=2), pruned=magnitude)
    handle.remove()
    assert forwards(model) == before
    assert all(torch.equal(model.weight(layer.name), flux.weight(layer.name)) for layer in flux.layers)


def test_prompts_are_encoded_once(tiny_flux, magnitude):
    model = load_model(tiny_flux, device="cpu")
    calls = []
    model.pipeline.text_encoder_2.register_forward_hook(lambda *_: calls.append(1))
    first, again = (generate(model, Request("a dog", seed=1, steps=2))[1] for _ in range(2))
    once = len(calls)
    generate(model, Request("a dog", seed=2, steps=2), pruned=magnitude)
    assert len(calls) == once
    generate(model, Request("a red dog", seed=1, steps=2))
    assert len(calls) == once + 1
    assert torch.equal(first, again)
    assert "encode_prompt" not in vars(model.pipeline)


def test_the_folder_on_disk_goes_with_the_model(tiny_flux, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = load_model(tiny_flux, device="cpu", placement="stream")
    assert len(list(tmp_path.iterdir())) == 1
    pipeline = model.pipeline
    del model
    assert len(list(tmp_path.iterdir())) == 1
    del pipeline
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_an_autoencoder_stays_where_previews_need_it(tiny_flux):
    model = load_model(tiny_flux, device="cpu", placement="offload")
    assert not hasattr(model.pipeline.vae, "_hf_hook")
    assert hasattr(model.pipeline.text_encoder_2, "_hf_hook")
    assert hasattr(model.transformer, "_hf_hook")


def test_kernels_are_not_timed_where_weights_move(tiny_flux):
    model = load_model(tiny_flux, device="cpu", placement="stream")
    with pytest.raises(UserError, match="--placement device"):
        step_time(model, {})
