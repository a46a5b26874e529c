"""Every family, from a saved tiny pipeline to a pruned picture, along one generic path."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import diffusers
import pytest
import torch
from PIL import Image
from tiny_families.drive import drive, experiment_rows, save
from tiny_families.edits import EDITS
from tiny_families.extras import WITH_FTFY, WITH_TORCHVISION
from tiny_families.images import IMAGES
from tiny_families.videos import VIDEOS

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.second_moments import collect_hessians
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.requests import default_batch
from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.pipelines.families import described, has_words
from dit_prune_viz.pipelines.input_picture import draws_one
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.source import check_index
from dit_prune_viz.pruning.named_recipes import find_recipe
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.recipe import Recipe

FAMILIES = {**IMAGES, **EDITS, **VIDEOS, **WITH_TORCHVISION, **WITH_FTFY}
NO_PREVIEW = {"ideogram4", "ltx", "bria-fibo2"}


@pytest.mark.parametrize("name", FAMILIES)
def test_from_a_saved_pipeline_to_a_pruned_picture(name, tmp_path):
    if name in WITH_TORCHVISION:
        pytest.importorskip("torchvision")
    if name in WITH_FTFY:
        pytest.importorskip("ftfy")
    found = drive(name, FAMILIES[name], tmp_path / name)
    assert found.model.layers
    assert all(int(tokens.sum()) > 0 for tokens in found.calibration.tokens.values())
    assert found.removed == found.wanted_removed > 0
    finished, changed = found.dense_steps[-1], found.pruned_steps[-1]
    defaults = found.model.defaults
    assert finished.image.size == (defaults.width, defaults.height)
    assert not torch.equal(finished.latents, changed.latents)
    if name in NO_PREVIEW:
        assert found.preview_error is None
    else:
        assert all(step.image is not None for step in found.dense_steps)
        assert found.preview_error <= 1
    assert found.after == found.before


@pytest.mark.parametrize("name", ["dit", "flux-kontext", "wan2.2"])
def test_an_experiment_row(name, tmp_path):
    found = drive(name, FAMILIES[name], tmp_path / name)
    rows = experiment_rows(found, tmp_path / "experiment")
    assert [(row.recipe, row.level) for row in rows] == [("dense", "0 %"), ("magnitude", "37 %")]
    assert rows[1].scores["ssim"][0] < 1


@pytest.mark.parametrize("name", ["wan2.2", "ideogram4"])
def test_two_transformers_are_two_models_on_one_map(name, tmp_path):
    model = load_model(save(name, EDITS[name], tmp_path), device="cpu", dtype="float32")
    second = {"wan2.2": "transformer_2", "ideogram4": "unconditional_transformer"}[name]
    stacks = {layer.stack.partition(".")[0] for layer in model.layers}
    assert stacks == {"transformer", second}
    assert model.parameters == sum(p.numel() for part in stacks for p in getattr(model.pipeline, part).parameters())
    assert torch.equal(
        model.weight(model.layers[-1].name),
        getattr(model.pipeline, second).get_submodule(model.layers[-1].name.removeprefix(f"{second}.")).weight,
    )
    calibration = calibrate(model, samples=6)
    names = [model.layers[1].name, model.layers[-1].name]
    for layer, hessian in collect_hessians(model, names, like=calibration).items():
        torch.testing.assert_close(
            hessian.diagonal().double(), calibration.sum_squares[layer].sum(0), rtol=1e-4, atol=0
        )


@pytest.mark.parametrize("name", ["cogview4-control"])
def test_what_a_pipeline_draws_without_its_generator_comes_from_the_seed(name, tmp_path):
    model = load_model(save(name, EDITS[name], tmp_path), device="cpu", dtype="float32")
    state = torch.get_rng_state()
    one, same = (generate(model, Request("a cat", 3, 2))[1] for _ in range(2))
    assert torch.equal(one, same)
    first, second = (calibrate(model, samples=6) for _ in range(2))
    for layer in model.layers:
        assert torch.equal(first.sum_squares[layer.name], second.sum_squares[layer.name])
    assert torch.equal(torch.get_rng_state(), state)


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (50, 30), colour).save(file, "png")
    return file.getvalue()


def test_a_picture_of_ones_own_changes_what_is_drawn(tmp_path, flux):
    model = load_model(save("flux-control", EDITS["flux-control"], tmp_path), device="cpu", dtype="float32")
    bundled, red, blue = (
        generate(model, Request("a cat", 0, 2, picture=data))[1] for data in (None, picture("red"), picture("blue"))
    )
    assert not torch.equal(red, blue)
    assert not torch.equal(bundled, red)
    with pytest.raises(UserError, match="cannot be read"):
        check_request(model, Request("a cat", 0, 2, picture=b"no picture"))
    with pytest.raises(UserError, match="prompt alone"):
        check_request(flux, Request("a cat", 0, 2, picture=picture("red")))


def test_a_clip_is_a_strip_of_its_frames(tmp_path, flux):
    model = load_model(save("wan2.1", VIDEOS["wan2.1"], tmp_path), device="cpu", dtype="float32")
    image, latents = generate(model, Request("a cat", 0, 2, frames=5))
    assert image.size == (5 * 64, 64)
    assert latents.shape[2:] == (1, 2, 8, 8)[1:]  # four frames to a cell after the first
    with pytest.raises(UserError, match="single pictures"):
        check_request(flux, Request("a cat", 0, 2, frames=5))


@pytest.mark.parametrize(("name", "most"), [("lumina2", 256), ("sd3", 256), ("wan2.1", 512)])
def test_a_picture_must_fit_the_models_positions(name, most, tmp_path):
    model = load_model(save(name, FAMILIES[name], tmp_path), device="cpu", dtype="float32")
    generate(model, Request("a cat", 0, 1, height=most, width=64))
    with pytest.raises(UserError, match=f"at most {most} pixels of height"):
        check_request(model, Request("a cat", 0, 1, height=2 * most, width=64))


def test_a_pipeline_that_draws_one_area_says_so(tmp_path):
    model = load_model(save("hidream", IMAGES["hidream"], tmp_path), device="cpu", dtype="float32")
    with pytest.raises(UserError, match=r"16,384 pixels only \(such as 128 × 128\)"):
        check_request(model, Request("a cat", 0, 1, height=64, width=64))


@pytest.mark.parametrize("kind", ["StableAudioPipeline", "AceStepPipeline", "StableAudio3Pipeline"])
def test_sound_is_refused_in_a_sentence(kind):
    index = {"_class_name": kind, "transformer": ["diffusers", "StableAudioDiTModel"]}
    with pytest.raises(UserError, match=f"sounds is a {kind}, which makes no pictures"):
        check_index(index, [], name="sounds")


def test_layers_by_request_of_two_transformers(tmp_path):
    usual = load_model(save("wan2.2", EDITS["wan2.2"], tmp_path), device="cpu", dtype="float32")
    model = usual.also_pruning("condition_embedder.time_proj")
    added = [layer for layer in model.layers if layer.by_request]
    both = [f"{part}.condition_embedder.time_proj" for part in ("transformer", "transformer_2")]
    assert [(layer.name, layer.block, layer.kind) for layer in added] == [
        (both[0], -2, "adaLN"),
        (both[1], -1, "adaLN"),
    ]
    assert {layer.name for layer in usual.also_pruning(both[1]).layers} - {layer.name for layer in usual.layers} == {
        both[1]
    }
    offers = {offer.pattern: offer for offer in usual.offers}
    assert offers["condition_embedder.time_proj"].weights == 2 * 6 * 24 * 24
    calibration = calibrate(model, samples=6)
    pruned = prune(model, find_recipe("dit-pruning"), sparsity=0.5, statistics=Statistics(model, calibration))
    assert [int((~pruned.masks[name]).sum()) for name in both] == [6 * 24 * 24 // 2] * 2
    assert all(int(calibration.tokens[name].sum()) > 0 for name in both)


@pytest.mark.parametrize("name", ["chroma", "hidream", "hunyuan-dit", "krea2", "sana-sprint"])
def test_whatever_can_be_asked_for_is_called_and_takes_masks(name, tmp_path):
    usual = load_model(save(name, FAMILIES[name], tmp_path), device="cpu", dtype="float32")
    model, steps = usual.also_pruning("*"), usual.defaults.steps
    calibration, known = calibrate(model, samples=4, steps=steps), calibrate(usual, samples=4, steps=steps)
    assert len(model.layers) > len(usual.layers)
    assert all(int(calibration.tokens[layer.name].sum()) > 0 for layer in model.layers)
    assert all(torch.equal(calibration.sum_squares[one.name], known.sum_squares[one.name]) for one in usual.layers)
    statistics = Statistics(model, calibration)
    pruned = prune(model, Recipe(granularity="layer", sparsity=0.5), statistics=statistics)
    assert pruned.report.removed == sum(layer.weights // 2 for layer in model.layers)
    request = Request(model.defaults.prompts[0], 0, 2)
    found = generate(model, request, pruned=pruned)[1]
    for layer, mask in pruned.masks.items():  # this model is thrown away
        module = model.transformer.get_submodule(layer)
        module.weight.data = module.weight.data * mask.reshape(module.weight.shape)
    assert torch.equal(found, generate(model, request)[1])


class Named:
    """As `DiTPipeline`, with names of classes."""

    def __init__(self):
        self.labels = {"cock": 7, "tench": 0}
        self.transformer = SimpleNamespace(config=SimpleNamespace(num_embeds_ada_norm=1000))

    def __call__(self, class_labels):
        pass


def test_a_class_is_described_by_its_name_where_there_is_one():
    assert [described(Named(), prompt) for prompt in ("7", "Cock", " 0 ", "8")] == ["cock", "cock", "tench", "8"]


def test_there_are_no_words_for_a_class_without_a_name():
    assert [has_words(Named(), prompt) for prompt in ("7", "Cock", "8")] == [True, True, False]
    assert has_words(SimpleNamespace(), "a cat")  # which draws texts


def test_a_pipeline_that_draws_some_sizes_names_them(tmp_path):
    model = load_model(save("sd3", IMAGES["sd3"], tmp_path), device="cpu", dtype="float32")
    model.pipeline.resolutions = [(64, 64), (32, 128)]
    check_request(model, Request("a cat", 0, 1, height=128, width=32))  # 32 wide, 128 high
    with pytest.raises(UserError, match="draws 64 × 64, 32 × 128 only, not 64 × 128"):
        check_request(model, Request("a cat", 0, 1, height=128, width=64))


@pytest.mark.parametrize(
    ("kind", "alone"),
    [
        ("QwenImageEditPipeline", True),
        ("QwenImageEditPlusPipeline", True),
        ("QwenImageLayeredPipeline", True),
        ("QwenImagePipeline", False),
        ("FluxKontextPipeline", False),
    ],
)
def test_what_draws_one_picture_at_a_time(kind, alone, flux):
    pipeline = object.__new__(getattr(diffusers, kind))
    assert draws_one(pipeline) is alone
    model = replace(flux, pipeline=pipeline) if alone else flux
    assert default_batch(model) == (1 if alone else 16)
