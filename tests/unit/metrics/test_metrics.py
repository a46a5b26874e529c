"""CLIP score and picture distances against plain formulas."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPModel

from dit_prune_viz.errors import UserError
from dit_prune_viz.metrics.clip import load_clip
from dit_prune_viz.metrics.clip_mean import mean_clip
from dit_prune_viz.metrics.pictures import difference, psnr, ssim


def noise(seed: int, size=(24, 16)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.fixture(scope="module")
def clip(tiny_clip):
    return load_clip(tiny_clip)


def test_score_is_100_times_the_cosine(clip, tiny_clip):
    images, texts = [noise(index) for index in range(5)], ["a cat", "two dogs", "the moon", "", "tea " * 200]
    scores = clip.score(images, texts)
    assert scores.shape == (5,)
    first, second = clip.embed_images(images), clip.embed_texts(texts)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(second.norm(dim=1), torch.ones(5))
    cosine = np.array([float(a.double() @ b.double()) for a, b in zip(first, second, strict=True)])
    np.testing.assert_allclose(scores, 100 * cosine, atol=1e-4)


def test_a_score_below_zero_stays_below_zero(clip, monkeypatch):
    monkeypatch.setattr(clip, "embed_images", lambda images: torch.tensor([[0.6, 0.8], [1.0, 0.0]]))
    monkeypatch.setattr(clip, "embed_texts", lambda texts: torch.tensor([[-1.0, 0.0], [0.28, 0.96]]))
    np.testing.assert_allclose(clip.score([noise(0)] * 2, ["a", "b"]), [-60, 28], rtol=1e-6)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_a_mean_over_pictures_is_that_of_torchmetrics(scores):
    """`CLIPScore.update` adds up 100·cos, `CLIPScore.compute` is max(sum / n, 0)."""
    total = torch.zeros((), dtype=torch.float64)
    for score in scores:
        total += score
    assert mean_clip(scores) == pytest.approx(float(torch.max(total / len(scores), torch.zeros_like(total))))


@pytest.mark.parametrize(("scores", "mean"), [([30, -10], 10), ([10, -30], 0), ([-5], 0), ([5], 5), ([0, 0, 6], 2)])
def test_a_mean_over_pictures_by_hand(scores, mean):
    assert mean_clip(scores) == mean_clip(np.array(scores, dtype=float)) == mean


def test_embeddings_are_those_of_transformers(clip, tiny_clip):
    from transformers import CLIPImageProcessorPil, CLIPTokenizer

    model = CLIPModel.from_pretrained(tiny_clip).eval()
    tokens = CLIPTokenizer.from_pretrained(tiny_clip)(["a cat"], return_tensors="pt")
    picture = CLIPImageProcessorPil.from_pretrained(tiny_clip)(images=[noise(1)], return_tensors="pt")
    with torch.no_grad():
        output = model(**tokens, **picture)
    torch.testing.assert_close(clip.embed_images([noise(1)]), output.image_embeds, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(clip.embed_texts(["a cat"]), output.text_embeds, rtol=1e-5, atol=1e-5)


def test_batches_and_modes_do_not_matter(clip):
    images = [noise(index % 3) for index in range(40)]
    torch.testing.assert_close(clip.embed_images(images)[36:39], clip.embed_images(images[:3]))
    grey = noise(1).convert("L")
    torch.testing.assert_close(clip.embed_images([grey]), clip.embed_images([grey.convert("RGB")]))
    assert clip.embed_images([]).shape == (0, 32)


def test_the_checkpoint_is_named(clip, tiny_clip):
    assert clip.name == "tiny-clip"
    assert load_clip(tiny_clip, name="bundled emoji-CLIP").name == "bundled emoji-CLIP"


def test_unequal_numbers(clip):
    with pytest.raises(UserError, match="one text"):
        clip.score([noise(0)], [])


def test_folders_that_are_no_clip(tiny_clip, tiny_flux, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    copy = shutil.copytree(tiny_clip, tmp_path / "clip")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    broken = shutil.copytree(tiny_clip, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    for source, words in (
        (tmp_path / "missing", "no folder"),
        (tmp_path, "no config.json"),
        (copy, "no safetensors"),
        (tiny_flux, "no config.json"),
        (tiny_flux / "transformer", "not a CLIP model"),
        (tiny_flux / "text_encoder_2", "not a CLIP model"),
        (broken, "not a CLIP model"),
        ("nobody/has-this-clip", "cannot be reached"),
    ):
        with pytest.raises(UserError, match=words):
            load_clip(source)


def test_equal_pictures(clip):
    assert ssim(noise(0), noise(0)) == pytest.approx(1)
    assert psnr(noise(0), noise(0)) == math.inf
    assert not np.asarray(difference(noise(0), noise(0))).any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(7, 20), st.integers(7, 20))
def test_distances_against_plain_formulas(seed, width, height):
    a, b = noise(seed, (width, height)), noise(seed + 1, (width, height))
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / np.mean((first - second) ** 2)))
    assert np.array_equal(np.asarray(difference(a, b)), np.abs(first - second).astype(np.uint8))
    assert -1 <= ssim(a, b) < 1
    assert ssim(a, b) == pytest.approx(ssim(b, a))


def test_ssim_against_its_definition_on_one_window():
    a, b = noise(1, (7, 7)), noise(2, (7, 7))
    first, second = (np.asarray(image, dtype=np.float64).reshape(49, 3) for image in (a, b))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = first.mean(0), second.mean(0)
    cov = ((first - mean_a) * (second - mean_b)).sum(0) / 48
    variances = first.var(0, ddof=1) + second.var(0, ddof=1)
    expected = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    assert ssim(a, b) == pytest.approx(expected.mean())


def test_pictures_that_cannot_be_compared():
    for compare in (ssim, psnr, difference):
        with pytest.raises(UserError, match="different sizes"):
            compare(noise(0), noise(0, (8, 8)))
    with pytest.raises(UserError, match="at least 7 pixels"):
        ssim(noise(0, (6, 20)), noise(1, (6, 20)))
