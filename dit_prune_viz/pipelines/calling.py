"""Around every call of a pipeline: known prompts are not encoded again, and parts go back to where they rest."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dit_prune_viz.pipelines.placing import resting_around

if TYPE_CHECKING:
    from dit_prune_viz.pipelines.model import Model

_PLAIN = (str, int, float, bool, type(None), torch.device, torch.dtype)


@contextmanager
def calling(model: Model, seed: int) -> Iterator[None]:
    """Inside, the model's pipeline may be called; its lock is the caller's.

    What the text encoders make of the same prompts with the same settings is kept in the model's cache, bit for bit, so
    that a dense and a pruned picture encode them once. A large encoder then does not have to come to the device again.

    Args:
        model: whose pipeline it is.
        seed: of whatever the pipeline draws without the generator that it is given, such as noise for an input picture.
    """
    pipeline = model.pipeline
    encode = getattr(pipeline, "encode_prompt", None)
    with _drawing_from(seed, model.device), resting_around(pipeline):
        if encode is None or "encode_prompt" in vars(pipeline):
            yield
            return
        pipeline.encode_prompt = _remembering(encode, model)
        try:
            yield
        finally:
            del pipeline.encode_prompt


@contextmanager
def _drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's own generators begin at the seed inside, and are what they were afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else [], device_type="cuda"):
        torch.manual_seed(seed % 2**32)
        yield


@dataclass(frozen=True)
class _Kept:
    """A tensor on the CPU, and the device that it came from."""

    tensor: Tensor
    device: torch.device


class _Unknown(Exception):
    """Something that cannot be kept, or not be told from something else."""


def _remembering(encode, model: Model):
    """The pipeline's own `encode_prompt`, except for arguments that it was called with before."""

    @functools.wraps(encode)
    def remembering(*args: object, **kwargs: object) -> object:
        try:
            key = ("prompts", _key((args, kwargs)))
        except _Unknown:  # pictures, embeddings of one's own
            return encode(*args, **kwargs)
        kept = model.cache.find(key)
        if kept is not None:
            return _give(kept)
        result = encode(*args, **kwargs)
        with suppress(_Unknown):
            model.cache.put(key, _keep(result))
        return result

    return remembering


def _key(value: object) -> Hashable:
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, (list, tuple)):
        return tuple(map(_key, value))
    if isinstance(value, dict):
        return tuple((name, _key(one)) for name, one in value.items())
    raise _Unknown


def _keep(value: object) -> object:
    if isinstance(value, Tensor):
        if not value.is_contiguous():  # a copy would be laid out in another way, and might be added up in another
            raise _Unknown
        return _Kept(value.detach().to("cpu", copy=True), value.device)
    if type(value) in (list, tuple):
        return type(value)(map(_keep, value))
    if isinstance(value, _PLAIN):
        return value
    raise _Unknown


def _give(kept: object) -> object:
    """A copy for whoever changes what it gets."""
    if isinstance(kept, _Kept):
        return kept.tensor.to(kept.device, copy=True)
    return type(kept)(map(_give, kept)) if isinstance(kept, (list, tuple)) else kept
