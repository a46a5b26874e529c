"""What other families and other people's files bring along: names, refusals, tokenizers, layers without a bias."""

from __future__ import annotations

import copy
import io
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import sentencepiece
import torch
from PIL import Image

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.dense_pictures import DenseStore
from dit_prune_viz.experiments.prompts import read_prompts
from dit_prune_viz.experiments.results import Results, Row
from dit_prune_viz.experiments.table import difference, tabulate
from dit_prune_viz.generation.batch import Picture
from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.pipelines.defaults import vae_factor
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.steps import watch_steps


@pytest.mark.parametrize(
    ("own", "config", "factor"),
    [
        ({"vae_scale_factor": 16}, {"block_out_channels": [1, 1]}, 16),
        ({"vae_scale_factor_spatial": 8}, {}, 8),
        ({"vae_spatial_compression_ratio": 32}, {}, 32),
        ({}, {"block_out_channels": [1, 1, 1]}, 4),
        ({}, {}, 8),
    ],
)
def test_pixels_per_latent_cell_under_every_name(own, config, factor):
    assert vae_factor(SimpleNamespace(**own, vae=SimpleNamespace(config=config))) == factor


def test_a_tokenizer_that_is_only_a_sentencepiece_model_loads(tiny_pixart, tmp_path):
    folder = shutil.copytree(tiny_pixart, tmp_path / "pixart")
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    written = io.BytesIO()
    lines = [f"a {noun} in the {place}" for noun in ("cat", "dog", "tree") for place in ("sun", "rain", "sea")]
    settings = {"vocab_size": 20, "hard_vocab_limit": False, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 20), model_writer=written, minloglevel=2, **settings
    )
    (folder / "tokenizer/spiece.model").write_bytes(written.getvalue())
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "model_max_length": 16}
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps(config))
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "T5Tokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    loaded = load_model(folder, device="cpu", dtype="float32")
    assert len(loaded.pipeline.tokenizer("a cat in the rain").input_ids) > 2


def test_a_layer_without_a_bias_keeps_the_mean_in_its_statistics(flux, monkeypatch):
    calibration = calibrate(flux, samples=8)
    first, second = flux.layers[0].name, flux.layers[1].name
    monkeypatch.setitem(flux.transformer.get_submodule(first)._parameters, "bias", None)
    statistics = Statistics(flux, calibration)
    for statistic, kept in (
        (statistics.norm, calibration.norm),
        (statistics.mean_square, calibration.mean_square),
    ):
        assert torch.equal(statistic(first, centred=True), kept(first))
        assert torch.equal(statistic(second, centred=True), kept(second, centred=True))


def test_what_a_pipeline_refuses_is_one_sentence(tiny_sd3):
    sd3 = load_model(tiny_sd3, device="cpu", dtype="float32")
    longer = replace(sd3, defaults=replace(sd3.defaults, max_sequence_length=1024))
    with pytest.raises(UserError, match=r"refuses these settings: .*max_sequence_length"):
        calibrate(longer, samples=2)
    with pytest.raises(UserError, match=r"refuses these settings: .*max_sequence_length"):
        generate(longer, Request("a cat", 0, 2))


def test_half_characters_and_bottomless_json_are_one_sentence(flux, tmp_path):
    with pytest.raises(UserError, match="at place 3"):
        check_request(flux, Request("a \ud83d cat", 0, 2))
    with pytest.raises(UserError, match="prompt for calibration"):
        calibrate(flux, samples=2, prompts=["\ud83d"])
    broken = tmp_path / "broken.json"
    broken.write_text('["fine", "a \\ud83d cat"]')
    with pytest.raises(UserError, match=r"Prompt 2 of broken\.json"):
        read_prompts(broken)
    broken.write_text("[" * 100_000)
    with pytest.raises(UserError, match="not readable JSON"):
        read_prompts(broken)


def test_a_copied_scheduler_steps_by_itself(flux):
    scheduler = flux.pipeline.scheduler
    seen = []
    with watch_steps(flux.pipeline, seen.append):
        twin = copy.deepcopy(scheduler)
        for one in (scheduler, twin):
            one.set_timesteps(4, mu=1.0) if one.config.use_dynamic_shifting else one.set_timesteps(4)
        sample = torch.zeros(1, 4, 4)
        for timestep in scheduler.timesteps:
            twin.step(sample, timestep, sample)
            scheduler.step(sample, timestep, sample)
    assert len(seen) == 4
    assert twin.step_index == 4


def row(settings: str, seed: int, ssim: float) -> Row:
    return Row("x", "wanda", settings, "50 %", 0.5, seed, 0.1, 1.0, 1.0, {"ssim": [ssim]})


def test_rows_of_earlier_settings_do_not_count_as_seeds():
    rows = [row("old", 0, 0.1), row("old", 1, 0.1), row("new", 0, 0.9), row("new", 1, 0.7)]
    (line,) = tabulate(rows)
    assert (line.seeds, line.figures["ssim"].mean) == (2, pytest.approx(0.8))
    assert difference(rows, "ssim", ("wanda", "50 %"), ("wanda", "50 %")).seeds == 2


def test_a_disk_that_cannot_be_written_to(flux, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    picture = Picture(Image.fromarray(np.zeros((4, 4, 3), np.uint8)), torch.zeros(1))
    DenseStore(file / "dense", flux)._write(check_request(flux, Request("a cat", 0, 2)), picture)  # only a cache
    results = Results(tmp_path / "folder/results.jsonl")
    (tmp_path / "folder").write_text("")
    with pytest.raises(UserError, match="cannot be written to"):
        results.append(row("a", 0, 0.5))
    assert results.rows == []


def test_another_scheduler_is_another_identity_around_the_same_weights(tiny_flux, flux):
    again, other = (load_model(tiny_flux, device="cpu", dtype="float32") for _ in range(2))
    other.pipeline.scheduler = type(other.pipeline.scheduler).from_config(other.pipeline.scheduler.config, shift=1.7)
    third = load_model(tiny_flux, device="cpu", dtype="float32")
    with torch.no_grad():
        next(third.pipeline.text_encoder.parameters()).add_(1)
    assert again.identity == flux.identity
    assert len({flux.identity, other.identity, third.identity}) == 3
    assert {flux.fingerprint} == {one.fingerprint for one in (again, other, third)}
