"""The denoisers of a pipeline: one transformer in most families, two in a few, which are pruned as one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from torch import nn

_PARTS = ("transformer", "transformer_2", "unconditional_transformer")
"""Wan 2.2 has one for noisy steps and one for clean ones, Ideogram 4 one with the prompt and one without."""


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
