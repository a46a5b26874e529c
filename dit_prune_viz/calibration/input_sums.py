"""Hooks that add up inputs and squared inputs of the prunable layers for chosen rows of a batch, and nothing else."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from dit_prune_viz.calibration.batch_rows import batch_size, watched_tokens
from dit_prune_viz.calibration.unread_tokens import Unread, UnreadTokens
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.denoisers import before_calls
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.matrices import channels_last, layout


class Sums:
    """Running Σ x_j², Σ x_j and token counts per layer and bin, on the device of the activations."""

    def __init__(self, layers: Sequence[Layer], bins: int, device: torch.device):
        where = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64

        def empty() -> dict[str, torch.Tensor]:
            shapes = {layer.name: (bins, layer.shape[1]) for layer in layers}
            return {name: torch.zeros(shape, dtype=torch.float64, device=where) for name, shape in shapes.items()}

        self.squares, self.totals = empty(), empty()
        self.tokens = {layer.name: torch.zeros(bins, dtype=torch.int64) for layer in layers}

    def add(self, layer: str, inputs: torch.Tensor, bin_index: int) -> None:
        """Add tokens (…, d_in). Squares are taken in float32, outside any autocast: inside one, products would silently
        be bfloat16."""
        self.add_moments(layer, *self.moments(inputs), bin_index)

    def moments(self, inputs: torch.Tensor, read: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor, int]:
        """(Σ x_j², Σ x_j, both (d_in,) float64, number of tokens) of tokens (…, d_in).

        Where `read` (…) is given, only tokens with True count; the others must be zeros.
        """
        with torch.autocast(inputs.device.type, enabled=False):
            where = next(iter(self.squares.values())).device
            inputs = torch.atleast_2d(inputs.float().to(where))
            # The tokens of a row in float32, pairwise, and rows in float64: several times faster than all in float64.
            squares, totals = (
                values.sum(-2).double().reshape(-1, inputs.shape[-1]).sum(0) for values in (inputs.square(), inputs)
            )
            return squares, totals, inputs.numel() // inputs.shape[-1] if read is None else int(read.sum())

    def add_moments(self, layer: str, squares: torch.Tensor, totals: torch.Tensor, tokens: int, bin_index: int) -> None:
        """Add what `moments` returned."""
        self.squares[layer][bin_index].add_(squares)  # "+=" would copy the row back once more
        self.totals[layer][bin_index].add_(totals)
        self.tokens[layer][bin_index].add_(tokens)

    def check(self) -> None:
        """Check what was summed.

        Raises:
            UserError: naming the first layer whose inputs were infinite or not a number.
        """
        if bool(torch.isfinite(torch.stack([squares.sum() for squares in self.squares.values()])).all()):
            return
        for layer, squares in self.squares.items():
            if not bool(torch.isfinite(squares).all()):
                raise UserError(
                    f"The inputs of layer {layer} are not finite in this precision; load the model in float32."
                )


@contextmanager
def watch_inputs(
    transformer: nn.Module,
    layers: Sequence[Layer],
    sums: Sums,
    choose: Callable[[int], tuple[Sequence[int], int]],
    unread: UnreadTokens | None = None,
) -> Iterator[None]:
    """While the block runs, add the inputs of all layers for the rows that `choose` names; hooks never outlive it.

    Tokens that the transformer never reads, such as masked padding, do not count, see `unread_tokens`. A routed
    expert's other tokens all count as soon as any row of their call is watched, see `select_rows`.

    Args:
        transformer: its forward calls are watched; dense.
        layers: prunable layers of it.
        sums: grows.
        choose: called before each forward with the batch size, answers (rows to watch, timestep bin).
        unread: of this transformer and these layers, to share what earlier blocks have found; None begins anew.
    """
    finder = UnreadTokens(transformer, layers) if unread is None else unread
    rows: Sequence[int] = ()
    batch = bin_index = 0
    last: tuple = (lambda: None,)  # input, its version, how it was read
    moments: tuple[torch.Tensor, torch.Tensor, int]
    skipped: Unread | None = None
    times: dict[str, int] = {}

    def before(denoiser, args, kwargs):
        nonlocal rows, batch, bin_index, last, skipped
        batch = batch_size(args, kwargs)
        chosen, bin_index = choose(batch)
        rows = ()  # what runs to find unread tokens is not watched
        skipped = finder.of(args, kwargs, denoiser) if chosen else None
        rows = chosen
        last = (lambda: None,)
        times.clear()

    def watch(name, routed):
        def hook(module, args):
            nonlocal last, moments
            if not rows:
                return
            inputs = args[0]
            time = times[name] = times.get(name, -1) + 1
            version = None if inputs.is_inference() else inputs._version
            # q, k and v follow each other on one tensor, which is summed once.
            now = version, routed, layout(module)
            if last[0]() is not inputs or version is None or last[1:] != now:
                gone = None if skipped is None else skipped.of(name, time)
                tokens = channels_last(module, inputs)
                moments = sums.moments(*watched_tokens(tokens, rows, batch, routed=routed, unread=gone))
                last = (weakref.ref(inputs), *now)
            sums.add_moments(name, *moments, bin_index)

        return hook

    with ExitStack() as stack:
        stack.enter_context(before_calls(transformer, before))
        for layer in layers:
            handle = transformer.get_submodule(layer.name).register_forward_pre_hook(watch(layer.name, layer.routed))
            stack.callback(handle.remove)
        yield
