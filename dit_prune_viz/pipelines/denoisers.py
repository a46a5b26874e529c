"""The denoisers of a pipeline: one transformer in most families, two in a few, which are pruned as one model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from torch import nn

_PARTS = ("transformer", "transformer_2", "unconditional_transformer")
"""Wan 2.2 has one for noisy steps and one for clean ones, Ideogram 4 one with the prompt and one without."""


MASK, LENGTHS, SEGMENTS = "mask", "lens", "segment_ids"
"""Parts of the names of arguments that say which tokens are read: masks, lengths of texts, numbers of sequences."""

_DICTIONARY = "kwargs"


class Denoisers(nn.ModuleDict):
    """Two denoisers as one module, so that a layer is called "transformer_2.blocks.0.attn1.to_q". Never called."""

    @property
    def config(self) -> dict[str, object]:
        """The first one's configuration, with those of the others under their names."""
        first, *others = self.items()
        return {**first[1].config, **{name: dict(module.config) for name, module in others}}


def denoiser_of(pipeline: object) -> nn.Module | None:
    """The pipeline's transformer, or its transformers as one `Denoisers`; None where it has none."""
    found = {name: getattr(pipeline, name, None) for name in _PARTS}
    found = {name: module for name, module in found.items() if isinstance(module, nn.Module)}
    return Denoisers(found) if len(found) > 1 else next(iter(found.values()), None)


def is_denoiser(part: str) -> bool:
    """Whether a part of a pipeline is one of its denoisers, by its name."""
    return part in _PARTS


def path_inside(path: str) -> str:
    """A module's path as seen from inside its denoiser: without the name that `Denoisers` puts before it."""
    first, _, rest = path.partition(".")
    return rest if rest and is_denoiser(first) else path


def named_denoisers(transformer: nn.Module) -> Mapping[str, nn.Module]:
    """Name → each module that is called on its own; "" for a transformer that is the only one."""
    return dict(transformer.items()) if isinstance(transformer, Denoisers) else {"": transformer}


@contextmanager
def before_calls(transformer: nn.Module, see: Callable[[str, tuple, dict], None]) -> Iterator[None]:
    """Inside the block, `see(name, args, kwargs)` comes before every call of a denoiser."""
    with ExitStack() as hooks:
        for name, module in named_denoisers(transformer).items():

            def before(module, args, kwargs, name=name):
                see(name, args, kwargs)

            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
        yield


def can_mask(pipeline: object) -> bool:
    """Whether calls of a pipeline's denoisers may have masks; of FLUX they have none.

    Their forward names them, or takes a dictionary of attention arguments while the pipeline's call speaks of masks.
    """
    code = getattr(inspect.unwrap(type(pipeline).__call__), "__code__", None)
    spoken = code is not None and any(MASK in name for name in code.co_varnames)
    for module in named_denoisers(denoiser_of(pipeline)).values():
        names = list(inspect.signature(type(module).forward).parameters)
        if any(word in name for name in names for word in (MASK, LENGTHS, SEGMENTS)):
            return True
        if spoken and any(name.endswith(_DICTIONARY) for name in names):
            return True
    return False
