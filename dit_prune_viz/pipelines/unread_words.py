"""Which words of a prompt never reach the model, because its tokenizers cut the text off before its end.

Families cut in ways of their own: at a tokenizer's length, behind a chat template, or from the finished embeddings. So
where they cut is not derived from settings but tried on the pipeline's own code, up to what its `encode_prompt` gives,
with stand-ins for the text encoders: words are unread if the prompt without them gives the same in every bit. What a
stand-in gives for a token tells it, its place and all others that the encoder would let it see.
"""

from __future__ import annotations

import copy
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dit_prune_viz.pipelines.families import call_arguments, draws_classes

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from dit_prune_viz.pipelines.model import Model

_LONG_WORD = 30
"""Longer ones are text without spaces, as in Chinese, and are cut between characters."""
_BYTES, _MODULUS = 4, 2**31


def words_not_drawn(model: Model, prompt: str) -> str:
    """The end of a prompt that none of the pipeline's text encoders reads, as it is written.

    Args:
        model: its lock is held meanwhile; no encoder runs.
        prompt: one that the model may be asked for.

    Returns:
        From the first word that is not read in full; "" where all is read, where the model draws classes, or where it
        cannot be told.
    """
    if draws_classes(model.pipeline) or not hasattr(model.pipeline, "encode_prompt"):
        return ""

    def find() -> str:
        with model.lock.hold(), torch.no_grad(), _quiet():
            try:
                return unread_words(prompt, lambda text: _encoded(model, text))
            except Exception:  # other people's code on stand-ins: any error means that it cannot be told
                return ""

    return model.cache.get(("unread words", prompt), find)


def unread_words(prompt: str, read: Callable[[str], object]) -> str:
    """The end of a prompt that makes no difference.

    Args:
        prompt: any text.
        read: gives what is read of a text: tensors and plain values, in lists, tuples and dictionaries.

    Returns:
        From the first word that is not read in full, "" if all is. A text without spaces is cut between characters.
    """
    words = list(re.finditer(r"\S+", prompt))
    if not words:
        return ""
    full = read(prompt)
    # Where more would be read, all was; a last word that the tokenizer leaves out would else look like one it cuts.
    if not _same(read(f"{prompt} {words[0].group()}"), full):
        return ""

    def enough(end: int) -> bool:
        return _same(read(prompt[:end]), full)

    count = _first(1, len(words), lambda count: enough(words[count - 1].end()))
    last = words[count - 1]

    def reads_up_to(end: int) -> bool:
        return _same(read(prompt[:end] + _changed(prompt[end : last.end()])), full)

    if not reads_up_to(last.end() - 1) and not enough(last.end() - 1):
        return prompt[last.end() :].strip()
    # The last word that counts is read in part.
    if len(last.group()) <= _LONG_WORD:
        return prompt[last.start() :].strip()
    return prompt[_first(last.start() + 1, last.end(), reads_up_to) :].strip()


def _changed(text: str) -> str:
    """A text as long whose characters all are other ones."""
    return "".join("b" if character in "aA" else "a" for character in text)


def _first(low: int, high: int, good: Callable[[int], bool]) -> int:
    """The smallest number that is good, where all larger ones are and `high` is."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle + 1, high)
    return low


def _same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


class _Taken(Exception):
    """Carries what `encode_prompt` gave out of the pipeline's call."""

    def __init__(self, value: object) -> None:
        self.value = value


def _encoded(model: Model, prompt: str) -> object:
    """What the pipeline's call gets from its `encode_prompt` with stand-ins; the pipeline itself stays as it is."""
    probe: DiffusionPipeline = copy.copy(model.pipeline)
    probe.__dict__.pop("encode_prompt", None)
    parts = {name: part for name, part in model.pipeline.components.items() if isinstance(part, nn.Module)}
    probe.__dict__.update({name: _StandIn(part) for name, part in parts.items()})
    encode = probe.encode_prompt

    def take(*args: object, **kwargs: object) -> None:
        raise _Taken(encode(*args, **kwargs))

    probe.__dict__["encode_prompt"] = take
    defaults = model.defaults
    arguments = call_arguments(
        model.pipeline,
        [prompt],
        steps=defaults.steps,
        guidance_scale=defaults.guidance_scale,
        height=defaults.height,
        width=defaults.width,
        max_sequence_length=defaults.max_sequence_length,
    )
    try:
        probe(**arguments, generator=[torch.Generator().manual_seed(0)], output_type="pil")
    except _Taken as taken:
        return taken.value
    raise RuntimeError("the call did not encode its prompt")


class _StandIn:
    """Has a module's attributes, and its place in `isinstance`, but when it is called no weight is touched."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @property
    def __class__(self) -> type:
        return type(self._module)

    def __getattr__(self, name: str) -> object:
        value = getattr(self._module, name)
        return _StandIn(value) if isinstance(value, nn.Module) else value

    def to(self, *args: object, **kwargs: object) -> _StandIn:
        return self

    def generate(self, *args: object, **kwargs: object) -> None:
        raise RuntimeError("a stand-in writes no text")

    def __call__(self, *args: object, **kwargs: object) -> _Answer:
        given = [kwargs.get("input_ids"), *args, kwargs.get("attention_mask")]
        ids, *others = [value for value in given if isinstance(value, Tensor)]
        if ids.ndim != 2 or ids.is_floating_point():
            raise TypeError("a stand-in reads numbers of tokens only")
        mask = next((value for value in others if value.shape == ids.shape), None)
        return _Answer(self._module, ids, torch.ones_like(ids) if mask is None else mask)


class _Answer:
    """What a text encoder gives: under their names, and by number in the order in which they come."""

    def __init__(self, module: nn.Module, ids: Tensor, mask: Tensor) -> None:
        text = module.config.get_text_config()
        width = getattr(text, "hidden_size", None) or text.d_model
        layers = getattr(text, "num_hidden_layers", None) or getattr(text, "num_layers", 1)
        places = torch.arange(ids.shape[1], device=ids.device)
        tokens = (ids.long() * 2654435761 + (places + 1) * 40503) % _MODULUS
        seen = (tokens * (mask > 0)).cumsum(1)
        everything = seen[:, -1:]
        states = (tokens * 31 + (seen if _is_causal(module) else everything)) % _MODULUS
        dtype = next(module.parameters()).dtype
        self.last_hidden_state = _spelled(states, width, dtype)
        self.hidden_states = (self.last_hidden_state,) * (layers + 1)
        self.pooler_output = _spelled(everything[:, 0] % _MODULUS, width, dtype)
        self._parts = [self.last_hidden_state, self.pooler_output, self.hidden_states]
        projection = getattr(module, "text_projection", None)
        if projection is not None:
            self.text_embeds = _spelled(everything[:, 0] % _MODULUS, projection.out_features, dtype)
            self._parts = [self.text_embeds, self.last_hidden_state, self.hidden_states]

    def __getitem__(self, place: int | str) -> object:
        return getattr(self, place) if isinstance(place, str) else self._parts[place]


def _spelled(states: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Whole numbers as vectors of their bytes, which every float type holds exactly."""
    digits = torch.stack([states >> 8 * place & 255 for place in range(_BYTES)], -1)
    return digits[..., torch.arange(width, device=states.device) % _BYTES].to(dtype)


def _is_causal(module: nn.Module) -> bool:
    """Whether a token sees those before it only, as far as that is sure: CLIP's texts and language models."""
    name = type(module).__name__
    if name.startswith("CLIPText"):
        return True
    return hasattr(module.config.get_text_config(), "num_key_value_heads") and "Encoder" not in name


@contextmanager
def _quiet() -> Iterator[None]:
    """Libraries do not warn of texts that are cut inside, in this thread."""
    mine = threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != mine

    handlers = [handler for name in ("diffusers", "transformers") for handler in logging.getLogger(name).handlers]
    for handler in handlers:
        handler.addFilter(others)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(others)
