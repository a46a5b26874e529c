"""Hooks that add up inputs and squared inputs of the prunable layers for chosen rows of a batch, and nothing else."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.denoisers import before_calls
from dit_prune_viz.pipelines.layers import Layer


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

    def moments(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
        """(Σ x_j², Σ x_j, both (d_in,) float64, number of tokens) of tokens (…, d_in)."""
        with torch.autocast(inputs.device.type, enabled=False):
            where = next(iter(self.squares.values())).device
            inputs = torch.atleast_2d(inputs.float().to(where))
            # The tokens of a row in float32, pairwise, and rows in float64: several times faster than all in float64.
            squares, totals = (
                values.sum(-2).double().reshape(-1, inputs.shape[-1]).sum(0) for values in (inputs.square(), inputs)
            )
            return squares, totals, inputs.numel() // inputs.shape[-1]

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


def select_rows(inputs: torch.Tensor, rows: Sequence[int], batch: int, *, routed: bool = False) -> torch.Tensor:
    """The watched rows of a layer's input of any rank; dimension 0 is the batch.

    Where a family folds more into dimension 0 (tokens, frames), each row owns an equal run of it. An input shared by
    the whole batch (dimension 0 is 1, or no batch at all) counts once per watched row.

    Of a routed expert's tokens it is not known which rows of the batch they come from: all tokens of the call are
    taken, also those of rows that are not watched. Only an expert that is given the whole batch, with its dimension,
    is like any other layer.

    Args:
        inputs: (batch, …, d_in), or of a routed expert (tokens, d_in).
        rows: the watched ones.
        batch: rows of the transformer call.
        routed: whether the layer belongs to an expert, see `Layer`.

    Returns:
        (watched rows, tokens, d_in), or (tokens, d_in) where the rows are unknown.
    """
    if routed and (inputs.ndim < 3 or inputs.shape[0] != batch):
        return inputs.reshape(-1, inputs.shape[-1])
    if inputs.ndim == 1 or (inputs.shape[0] == 1 and batch > 1):
        return inputs.reshape(1, -1, inputs.shape[-1]).expand(len(rows), -1, -1)
    if inputs.shape[0] % batch:
        return inputs.reshape(-1, inputs.shape[-1])
    runs = inputs.reshape(batch, -1, inputs.shape[-1])
    step = max(1, rows[1] - rows[0]) if len(rows) > 1 else 1
    if list(rows) == list(range(rows[0], rows[-1] + 1, step)):
        return runs[rows[0] : rows[-1] + 1 : step]  # a view, no copy
    return runs[list(rows)]


def batch_size(args: tuple, kwargs: dict) -> int:
    """Rows of a transformer call: length of its `hidden_states`, or of its first argument (some take lists)."""
    hidden = args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()), None))
    return len(hidden)


@contextmanager
def watch_inputs(
    transformer: nn.Module,
    layers: Sequence[Layer],
    sums: Sums,
    choose: Callable[[int], tuple[Sequence[int], int]],
) -> Iterator[None]:
    """While the block runs, add the inputs of all layers for the rows that `choose` names; hooks never outlive it.

    A routed expert's tokens all count as soon as any row of their call is watched, see `select_rows`.

    Args:
        transformer: its forward calls are watched.
        layers: prunable layers of it.
        sums: grows.
        choose: called before each forward with the batch size, answers (rows to watch, timestep bin).
    """
    rows: Sequence[int] = ()
    batch = bin_index = 0
    last: tuple[weakref.ref, int | None, bool] = (lambda: None, None, False)
    moments: tuple[torch.Tensor, torch.Tensor, int]

    def before(_, args, kwargs):
        nonlocal rows, batch, bin_index, last
        batch = batch_size(args, kwargs)
        rows, bin_index = choose(batch)
        last = (lambda: None, None, False)

    def watch(name, routed):
        def hook(module, args):
            nonlocal last, moments
            if not rows:
                return
            inputs = args[0]
            version = None if inputs.is_inference() else inputs._version
            # q, k and v follow each other on one tensor, which is summed once.
            if last[0]() is not inputs or version is None or last[1:] != (version, routed):
                moments = sums.moments(select_rows(inputs, rows, batch, routed=routed))
                last = (weakref.ref(inputs), version, routed)
            sums.add_moments(name, *moments, bin_index)

        return hook

    with ExitStack() as stack:
        stack.enter_context(before_calls(transformer, before))
        for layer in layers:
            handle = transformer.get_submodule(layer.name).register_forward_pre_hook(watch(layer.name, layer.routed))
            stack.callback(handle.remove)
        yield
