"""Which tokens a transformer never reads: the padding of prompts, wherever attention masks it.

Statistics are of what the model reads, so such tokens must not count. Which they are is not derived from names and
shapes, as families join, cut, reorder and refill their tokens in ways of their own, but tried: where a call has masks,
it runs once as it is and once with noise in place of what seems to be padding. A token of a layer's input is unread
where it differs between the two although the output of its row of the batch is the same in every bit: whatever it
holds, the model answers the same. That holds alike for cross-attention, joint and single streams and refiners, and
tells text from picture where there is as much of both.

What seems to be padding is what the call's masks say (`call_masks`), of the text embeddings and of the inputs of blocks
that have as many tokens as a mask; and whatever is all zeros where a block receives it, which is how families pad
inside (Lumina 2, Z-Image). Noise in a token that is read after all shows in the output; then less is tried, in the end
nothing but the text embeddings. Where these change the output as well, all tokens of that row count: padding is read
where a learned embedding replaces it, where something pools all tokens (HunyuanDiT does both), and under a mask that
only weakens it (Chroma).

What attention returns for padding may not depend on it at all, be it zero (Mochi) or a mean (Lumina 2). So where a
layer's token is found unread, the same place in the block's other layers with as many tokens is tried as well.

This costs two or three forwards for every combination of masks and shapes, some more where text and picture have as
many tokens, and nothing for models without masks, such as FLUX. All tokens count, as ever, where padding cannot be
told: constants other than zero that a family fills in and masks all on its own. Padding that nothing masks is read,
and counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from dit_prune_viz.calibration.call_masks import mask_pattern, with_noise
from dit_prune_viz.calibration.noise_runs import Extent, NoiseRun, Places, block_path, in_blocks
from dit_prune_viz.pipelines.denoisers import named_denoisers
from dit_prune_viz.pipelines.layers import Layer


@dataclass(frozen=True, eq=False)
class Unread:
    """The tokens of one transformer call that it never reads.

    Attributes:
        tokens: layer -> for each time that it runs in the call, (rows, tokens) bool on the CPU, True is unread, in the
            order of `select_rows`; (tokens,) where the rows are unknown; None where all are read.
    """

    tokens: Mapping[str, tuple[torch.Tensor | None, ...]]

    def of(self, layer: str, time: int) -> torch.Tensor | None:
        """Of a layer's run number `time` in the call; None where all are read."""
        found = self.tokens.get(layer, ())
        return found[time] if time < len(found) else None


class UnreadTokens:
    """The unread tokens of a transformer's calls, each combination of masks and shapes tried once.

    A router sends tokens to its experts anew in every call, so of a model with experts every call is tried. Where
    padding takes the place of other tokens at an expert, it is read, and all tokens count.

    Args:
        transformer: in eval mode, or two of them. It should be dense: whatever pruning has cut off is read by nothing.
        layers: prunable layers of it.
    """

    def __init__(self, transformer: nn.Module, layers: Sequence[Layer]) -> None:
        self._transformer, self._layers = transformer, layers
        self._routed = any(layer.routed for layer in layers)
        self._known: dict[tuple, Unread | None] = {}

    def of(self, args: tuple, kwargs: dict, denoiser: str = "") -> Unread | None:
        """Those of a call; None where all tokens of all layers are read. Grad mode and autocast are the caller's.

        The transformer's own hooks do not run, those of its layers do. Of two, `denoiser` says which one is called.
        """
        called = named_denoisers(self._transformer)[denoiser]
        pattern = mask_pattern(called, args, kwargs)
        if pattern is None:
            return None
        if self._routed or (denoiser, pattern) not in self._known:
            found = find_unread(called, _inside(self._layers, denoiser), args, kwargs)
            self._known[denoiser, pattern] = _outside(found, denoiser)
        return self._known[denoiser, pattern]


def _inside(layers: Sequence[Layer], denoiser: str) -> Sequence[Layer]:
    """The layers of one denoiser, named as seen from inside it."""
    if not denoiser:
        return layers
    start = f"{denoiser}."
    own = (layer for layer in layers if layer.name.startswith(start))
    return [replace(one, name=one.name.removeprefix(start), stack=one.stack.removeprefix(start)) for one in own]


def _outside(found: Unread | None, denoiser: str) -> Unread | None:
    """What was found inside one denoiser, with the layers' full names."""
    if found is None or not denoiser:
        return found
    return Unread({f"{denoiser}.{name}": tokens for name, tokens in found.tokens.items()})


def find_unread(transformer: nn.Module, layers: Sequence[Layer], args: tuple, kwargs: dict) -> Unread | None:
    """The unread tokens of a call that has masks, see `UnreadTokens`."""
    base = NoiseRun(transformer, layers, args, kwargs)
    unread = _Differences(base)
    tried = {}
    for extent in sorted(Extent, reverse=True):
        for at_end in (False, True) if base.longer_masks else (False,):
            if extent >= tried.get(at_end, extent + 1):
                continue  # a wider one reached no further
            noise = with_noise(transformer, args, kwargs, at_end)
            run = NoiseRun(transformer, layers, *(noise or (args, kwargs)), extent=extent)
            tried[at_end] = run.reached
            unread.add(run)
            if not unread.left:
                break
        if not unread.left:
            break
    for alike in (False, True):
        places = unread.siblings(layers, alike=alike)
        if places:
            unread.add_places(NoiseRun(transformer, layers, args, kwargs, places=places), places)
    return unread.found()


class _Differences:
    """What the runs with noise have shown; each row goes by the first of them that left its output alone."""

    def __init__(self, base: NoiseRun) -> None:
        self._base = base
        self._left = torch.ones(base.batch, dtype=torch.bool)
        self._found: dict[str, list[torch.Tensor | None]] = {}
        self._known: dict[tuple, torch.Tensor] = {}  # many layers have the same tokens: kept once

    @property
    def left(self) -> bool:
        """Whether the output of some row has changed every time."""
        return bool(self._left.any())

    def add(self, run: NoiseRun) -> None:
        """The next run, with less noise than those before."""
        same = self._same_rows(run) & self._left
        if not bool(same.any()):
            return
        for name, prints in self._base.prints.items():
            others = run.prints.get(name, [])
            found = self._found.setdefault(name, [None] * len(prints))
            for time, first in enumerate(prints):
                if first.ndim == 1:
                    differs = self._gone(first, others) if bool(same.all()) else torch.zeros_like(first, dtype=bool)
                elif len(prints) == len(others) and first.shape == others[time].shape:
                    differs = (first != others[time]) & same[:, None]
                else:
                    continue
                found[time] = differs if found[time] is None else found[time] | differs
        self._left &= ~same

    def siblings(self, layers: Sequence[Layer], *, alike: bool) -> Places:
        """What to try after all runs: places that are unread in other layers of the block with as many tokens.

        With `alike` only where a row's tokens in all these places are the same, as text's padding may be and pictures
        are not: for blocks with as many tokens of both.
        """
        tokens: dict[tuple, torch.Tensor] = {}
        layers = in_blocks(layers)
        for layer in layers:
            for found in self._found.get(layer.name, ()):
                if found is not None and found.ndim == 2:
                    key = block_path(layer), found.shape[1]
                    tokens[key] = tokens.get(key, torch.zeros_like(found)) | found
        wanted: dict[str, list[torch.Tensor | None]] = {}
        for layer in (layer for layer in layers if layer.name in self._base.linear):
            prints = self._base.prints.get(layer.name, ())
            known = self._found.get(layer.name, [None] * len(prints))
            missing: list[torch.Tensor | None] = []
            for one, found in zip(prints, known, strict=True):
                places = tokens.get((block_path(layer), one.shape[-1])) if one.ndim == 2 else None
                if places is not None:
                    places = places & ~(torch.zeros_like(places) if found is None else found)
                    if alike:
                        places = places & torch.stack([_one_value(*row) for row in zip(one, places, strict=True)])
                missing.append(None if places is None or not bool(places.any()) else places)
            if any(places is not None for places in missing):
                wanted[layer.name] = missing
        return wanted

    def add_places(self, run: NoiseRun, places: Places) -> None:
        """A run with noise in these places: in rows whose output it left alone, they are unread."""
        same = self._same_rows(run)
        for name, times in places.items():
            found = self._found.setdefault(name, [None] * len(times))
            for time, wanted in enumerate(times):
                if wanted is not None:
                    unread = wanted & same[:, None]
                    found[time] = unread if found[time] is None else found[time] | unread

    def found(self) -> Unread | None:
        """The unread tokens; None if all are read."""
        tokens = {name: tuple(map(self._shared, found)) for name, found in self._found.items()}
        tokens = {name: found for name, found in tokens.items() if any(one is not None for one in found)}
        return Unread(tokens) if tokens else None

    @staticmethod
    def _gone(first: torch.Tensor, others: Sequence[torch.Tensor]) -> torch.Tensor:
        """Tokens of unknown rows, in any order, that the other run has not."""
        return ~torch.isin(first, torch.cat([first[:0], *(other.flatten() for other in others)]))

    def _shared(self, found: torch.Tensor | None) -> torch.Tensor | None:
        if found is None or not bool(found.any()):
            return None
        return self._known.setdefault((tuple(found.shape), found.numpy().tobytes()), found)

    def _same_rows(self, run: NoiseRun) -> torch.Tensor:
        """(rows,) bool: whose outputs are the same in every bit, and not zero whatever goes in.

        Where the output has as many tokens as a mask, those that it masks are nobody's.
        """
        batch = self._base.batch
        same, alive = torch.ones(batch, dtype=torch.bool), torch.zeros(batch, dtype=torch.bool)
        if len(self._base.outputs) != len(run.outputs):
            return alive
        for (row, first), (_, second) in zip(self._base.outputs, run.outputs, strict=True):
            if first.shape != second.shape:
                return torch.zeros_like(same)
            masked = self._base.masked.get(first.shape[0]) if row is not None and first.ndim == 2 else None
            if masked is not None:
                read = ~masked[row].to(first.device)
                first, second = first[read], second[read]
            at = slice(None) if row is None else row
            same[at] &= torch.equal(first, second)
            alive[at] |= bool(first.any())
        return same & alive


def _one_value(prints: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(1,) bool: whether a row's tokens (tokens,) in some places are all the same."""
    chosen = prints[places]
    return (chosen == chosen[:1]).all()[None]
