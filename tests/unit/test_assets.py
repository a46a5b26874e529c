"""The bundled models hold what their cards say, on a sample small enough for every run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from PIL import Image
from scipy.stats import spearmanr

from dit_prune_viz.metrics.clip import load_clip

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "assets"
sys.path.insert(0, str(ASSETS / "recipe"))
from corrupt import CORRUPTIONS  # noqa: E402


@pytest.fixture(scope="module")
def pipeline() -> FluxPipeline:
    pipeline = FluxPipeline.from_pretrained(ASSETS / "emoji-flux", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def names(bundled) -> tuple[str, ...]:
    return bundled.defaults.prompts


@pytest.fixture(scope="module")
def clip():
    return load_clip(ASSETS / "emoji-clip", name="bundled emoji-CLIP")


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """uint8 (64, 3, 128, 128): every ninth or so of the training pictures."""
    sheet = torch.from_numpy(np.array(Image.open(ROOT / "tests/data/emoji.png")))
    return sheet.reshape(8, 128, 8, 128, 3).permute(0, 2, 4, 1, 3).flatten(0, 1)


@pytest.fixture(scope="module")
def rows(names) -> list[int]:
    """Which captions the pictures belong to."""
    return np.linspace(0, len(names) - 1, 64).round().astype(int).tolist()


def images(pictures: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]


def ranks(scores: torch.Tensor, own: list[int]) -> torch.Tensor:
    """How many captions score higher than a picture's own, (n,)."""
    return (scores > scores.gather(1, torch.tensor(own)[:, None])).sum(1)


def test_the_full_evaluation_holds_its_bars():
    found = json.loads((ASSETS / "evaluation.json").read_text())
    assert found["pictures"] >= 500
    assert found["autoencoder"]["mean_psnr_db"] >= 27
    assert found["clip_real_pictures"]["top1"] >= 0.9
    assert found["clip_generations"]["captions"] >= 200
    assert found["clip_generations"]["top1"] >= 0.65
    assert found["clip_generations"]["top5"] >= 0.85
    assert all(found["corruptions"][kind]["spearman"] <= -0.9 for kind in ("blur", "noise", "shuffle"))


@pytest.mark.parametrize("folder", ["emoji-flux", "emoji-clip"])
def test_cards_show_the_numbers_of_the_evaluation(folder):
    found = json.loads((ASSETS / "evaluation.json").read_text())
    card = (ASSETS / folder / "README.md").read_text(encoding="utf-8")
    assert f"{100 * found['clip_real_pictures']['top1']:.1f} %" in card
    assert not re.search(r"[{}]|@[A-Z]", card.replace("{}", ""))


def test_folder_is_small_and_holds_no_pickle():
    files = [path for path in ASSETS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 90e6
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}]


def test_a_stock_pipeline_of_twenty_million(pipeline):
    assert [type(part).__name__ for part in (pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2)] == [
        "FluxTransformer2DModel",
        "CLIPTextModel",
        "T5EncoderModel",
    ]
    assert pipeline.transformer.num_parameters() == pytest.approx(21e6, rel=0.1)
    assert pipeline.vae.config.latent_channels == 16
    assert pipeline.vae_scale_factor == 8


def test_it_draws_when_it_is_loaded_without_a_word_about_precision():
    plain = FluxPipeline.from_pretrained(ASSETS / "emoji-flux")
    parts = (plain.transformer, plain.text_encoder, plain.text_encoder_2, plain.vae)
    assert {parameter.dtype for part in parts for parameter in part.parameters()} == {torch.float32}
    size = {"height": 64, "width": 64, "max_sequence_length": 16}
    drawn = plain("red apple", num_inference_steps=1, **size).images[0]
    assert drawn.size == (64, 64)
    assert np.array(drawn).std() > 0


@torch.inference_mode()
def test_autoencoder_reconstructs(pipeline, pictures):
    x = pictures / 127.5 - 1
    error = (pipeline.vae.decode(pipeline.vae.encode(x).latents).sample.clamp(-1, 1) - x).square().flatten(1).mean(1)
    assert (10 * torch.log10(4 / error)).mean() >= 27


def test_clip_knows_the_real_pictures(clip, pictures, names, rows):
    rank = ranks(clip.embed_images(images(pictures)) @ clip.embed_texts(names).T, rows)
    assert (rank == 0).float().mean() >= 0.9


@pytest.mark.parametrize("kind", ["blur", "noise", "shuffle"])
def test_clip_score_falls_as_pictures_degrade(clip, pictures, names, rows, kind):
    generator = torch.Generator().manual_seed(0)
    strengths = np.linspace(0, 1, 9)
    scores = []
    for strength in strengths:
        worse = torch.stack([CORRUPTIONS[kind](picture / 255, float(strength), generator) for picture in pictures])
        scores.append(clip.score(images((worse * 255).round().byte()), [names[row] for row in rows]).mean())
    assert spearmanr(strengths, scores).statistic <= -0.9


def test_generations_are_what_was_asked_for(pipeline, bundled, clip, names):
    """The bars are 65 % and 85 % over 200 captions (`assets/evaluation.json`); of 24, a few less are no surprise."""
    own = torch.randperm(len(names), generator=torch.Generator().manual_seed(7))[:24].tolist()
    defaults = bundled.defaults
    drawn = pipeline(
        [names[row] for row in own],
        negative_prompt=[""] * len(own),
        true_cfg_scale=defaults.guidance_scale,
        height=defaults.height,
        width=defaults.width,
        num_inference_steps=defaults.steps,
        max_sequence_length=defaults.max_sequence_length,
        generator=[torch.Generator().manual_seed(row) for row in own],
    ).images
    rank = ranks(clip.embed_images(drawn) @ clip.embed_texts(names).T, own)
    assert (rank == 0).float().mean() >= 0.55
    assert (rank < 5).float().mean() >= 0.75
