"""Texts made of a pipeline's own vocabulary."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace

import pytest
from transformers import PreTrainedTokenizerBase

from dit_prune_viz.calibration import distillation_set as module
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.distillation_set import record_distillation_set
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.vocabulary import more_prompts


class Tokenizer(PreTrainedTokenizerBase):
    """Knows the given tokens; only the vocabulary is asked for."""

    def __init__(self, *tokens: str):
        self.tokens = {token: number for number, token in enumerate(tokens)}

    def get_vocab(self) -> dict[str, int]:
        return self.tokens


class Texts:
    """A pipeline that draws texts, with tokenizers."""

    def __init__(self, *tokenizers: Tokenizer):
        self.components = {"scheduler": object()} | {f"tokenizer_{i}": one for i, one in enumerate(tokenizers)}

    def __call__(self, prompt: str):
        raise AssertionError("nothing is drawn")


class Classes:
    """A pipeline that draws classes."""

    transformer = SimpleNamespace(config=SimpleNamespace(num_embeds_ada_norm=10))
    components = MappingProxyType({})

    def __call__(self, class_labels: list[int]):
        raise AssertionError("nothing is drawn")


@pytest.mark.parametrize(
    "tokens",
    [
        ("▁cat", "▁house", "▁a", "▁x1y", "ing", "</s>", "▁"),
        ("Ġcat", "Ġhouse", "Ġof", "cat", "Ġ!"),
        ("cat</w>", "house</w>", "ca", "s</w>"),
    ],
    ids=["SentencePiece", "byte-level BPE", "CLIP"],
)
def test_texts_are_made_of_two_or_three_whole_words(tokens):
    texts = more_prompts(Texts(Tokenizer(*tokens)), 200, 0)
    assert len(texts) == 200
    assert {len(text.split()) for text in texts} == {2, 3}
    assert {word for text in texts for word in text.split()} == {"cat", "house"}
    assert texts == more_prompts(Texts(Tokenizer(*tokens)), 200, 0)
    assert texts != more_prompts(Texts(Tokenizer(*tokens)), 200, 1)


def test_the_first_tokenizer_that_marks_words_is_asked():
    texts = more_prompts(Texts(Tokenizer("c", "a", "t"), Tokenizer("▁dog"), Tokenizer("▁cat")), 5, 0)
    assert {word for text in texts for word in text.split()} == {"dog"}


def test_without_words_there_are_no_more_texts():
    assert more_prompts(Texts(), 5, 0) == more_prompts(Texts(Tokenizer("c", "a")), 5, 0) == ()


def test_classes_are_drawn_once_each():
    assert len(set(more_prompts(Classes(), 4, 0))) == 4
    assert sorted(more_prompts(Classes(), 40, 0)) == sorted(map(str, range(10)))


def test_runs_beyond_the_prompts_at_hand_get_texts_of_their_own(tiny_flux, monkeypatch):
    model = load_model(tiny_flux, device="cpu", dtype="float32")
    calibration = calibrate(model, samples=8, seed=0)
    drawn = []
    recorded = module.record_draw
    monkeypatch.setattr(module, "record_draw", lambda *args, **more: drawn.append(args[1]) or recorded(*args, **more))
    monkeypatch.setattr(module, "_SHARE", 2)
    monkeypatch.setattr(module, "more_prompts", lambda _, count, seed: tuple(f"{i} dogs" for i in range(count)))
    at_hand = calibration.need_draw().texts
    record_distillation_set(model, calibration, 2 * (len(at_hand) + 6), rows=8)
    (draw,) = drawn
    assert len(set(draw.prompts)) == len(draw.prompts) == len(at_hand) + 6
    assert set(at_hand) < set(draw.prompts)
