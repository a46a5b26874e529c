"""Words that a model does not read: against counting tokens by hand, and against what the real text encoders give."""

from __future__ import annotations

import logging

import pytest
import torch
from tiny_families.drive import save
from tiny_families.images import IMAGES
from tiny_families.videos import VIDEOS

from dit_prune_viz.generation.unread import Unread, find_unread
from dit_prune_viz.metrics.clip import load_clip
from dit_prune_viz.pipelines.families import call_arguments
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.unread_words import unread_words, words_not_drawn

LETTERS = "a b c d e f g h i j k l m n o p q r s t"
LONG = " ".join(["a", "bb", "ccc", "dd", "e"] * 140)
_IMAGES = ("flux-dev", "sd3", "pixart-sigma", "sana", "lumina2", "hunyuan-dit", "qwen-image", "z-image", "hidream")
FAMILIES = (*_IMAGES, "ltx")


def test_the_longest_reader_decides(flux):
    """CLIP reads 16 tokens: 14 letters between its two marks. T5 reads 16 as well, but each letter is two of them and
    one is its end."""
    tokens = [len(getattr(flux.pipeline, name)("a b c").input_ids) for name in ("tokenizer", "tokenizer_2")]
    assert tokens == [3 + 2, 6 + 1]
    assert words_not_drawn(flux, LETTERS) == "o p q r s t"
    assert words_not_drawn(flux, LETTERS[:27]) == ""  # 14 letters
    assert words_not_drawn(flux, LETTERS[:29]) == "o"
    assert words_not_drawn(flux, "a cat") == ""


def test_a_word_that_is_read_in_part_is_not_drawn(flux):
    """By hand: CLIP reads 14 letters, T5 the 15 pieces ▁abcdefg ▁hijklm."""
    assert words_not_drawn(flux, "abcdefg hijklmnopqr stu") == "hijklmnopqr stu"
    assert words_not_drawn(flux, "abcdefg\n hijklmn  stu v") == "stu v"
    long = "abc " + "x" * 40  # longer than a word is: cut between its letters
    assert words_not_drawn(flux, long) == "x" * 29


def test_a_model_of_classes_reads_all(tiny_dit):
    model = load_model(tiny_dit, device="cpu", dtype="float32")
    assert words_not_drawn(model, "golden retriever") == ""


def test_what_cannot_be_told_is_not_said(flux, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise ValueError("another kind of prompt")

    monkeypatch.setattr(type(flux.pipeline), "encode_prompt", refuse)
    assert words_not_drawn(flux, LETTERS + " u") == ""


def embeddings(model, prompt):
    """What the pipeline's call gets from its own text encoders."""

    class Done(Exception):
        pass

    encode, found = model.pipeline.encode_prompt, []

    def take(*args, **kwargs):
        found.append(encode(*args, **kwargs))
        raise Done

    model.pipeline.encode_prompt = take
    defaults = model.defaults
    sizes = {"height": defaults.height, "width": defaults.width, "max_sequence_length": defaults.max_sequence_length}
    arguments = call_arguments(model.pipeline, [prompt], steps=2, guidance_scale=1.0, **sizes)
    try:
        with pytest.raises(Done), torch.no_grad():
            model.pipeline(**arguments)
    finally:
        del model.pipeline.encode_prompt
    return [part for part in flat(found) if isinstance(part, torch.Tensor)]


def flat(value):
    return [part for item in value for part in flat(item)] if isinstance(value, (list, tuple)) else [value]


def equal(one, other):
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("name", FAMILIES)
def test_real_encoders_agree(name, tmp_path):
    model = load_model(save(name, {**IMAGES, **VIDEOS}[name], tmp_path), device="cpu", dtype="float32")
    before = dict(vars(model.pipeline))
    unread = words_not_drawn(model, LONG)
    assert vars(model.pipeline) == before
    assert 0 < len(unread) < len(LONG)
    read = LONG.removesuffix(unread)
    first, *rest = unread.split()
    whole = embeddings(model, LONG)
    assert equal(whole, embeddings(model, f"{read}{first[:-1]}z {' '.join('z' * len(word) for word in rest)}"))
    assert not equal(whole, embeddings(model, f"{read.rstrip()[:-1]}z {unread}"))
    assert words_not_drawn(model, "a bb ccc") == ""


def test_libraries_do_not_warn_of_what_is_tried(flux):
    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    logger = logging.getLogger("diffusers")
    logger.addHandler(handler)
    try:
        assert words_not_drawn(flux, LETTERS + " v w") == "o p q r s t v w"
    finally:
        logger.removeHandler(handler)
    assert heard == []
    assert not any(handler.filters for handler in logger.handlers)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", ""),
        ("  \n", ""),
        ("one two three four", "four"),
        ("  one   two\nthree  four five ", "four five"),
        ("one two three", ""),
        ("one two", ""),
    ],
)
def test_words_behind_the_third(prompt, expected):
    assert unread_words(prompt, lambda text: text.split()[:3]) == expected


def test_text_without_spaces_is_cut_between_characters():
    prompt = "一只猫坐在红色的沙发上看着窗外的雨天空是灰色的街道上没有人只有一辆自行车"
    assert unread_words(prompt, lambda text: text[:20]) == prompt[20:]
    assert unread_words(prompt[:20], lambda text: text[:20]) == ""


def test_a_last_word_that_no_tokenizer_knows_is_not_one_that_is_cut():
    assert unread_words("a cat ☃", lambda text: [word for word in text.split() if word != "☃"][:9]) == ""


def test_clip_says_what_it_does_not_score(tiny_clip, flux):
    """Its tokenizer reads 14 letters between two marks."""
    clip = load_clip(tiny_clip)
    assert clip.words_not_scored(LETTERS) == "o p q r s t"
    assert clip.words_not_scored(LETTERS[:27]) == ""
    assert clip.words_not_scored("abcdefgh ijklmno p") == "ijklmno p"
    assert find_unread(flux, ["a cat", LETTERS], clip) == (Unread(), Unread("o p q r s t", "o p q r s t"))
    assert find_unread(flux, [LETTERS], None) == (Unread("o p q r s t"),)
    assert Unread("x").named == {"not_drawn": "x"}
    texts = [LETTERS, LETTERS[:27] + " z z"]
    assert torch.equal(*clip.embed_texts(texts).split(1))
