"""Second moments of layer inputs: what a weight update needs to know, for one package of layers at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace

import torch

from dit_prune_viz.calibration import batch_rows
from dit_prune_viz.calibration.recorded_inputs import Call, RecordedInputs, record_inputs, run_call
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.timestep_weights import timestep_weights
from dit_prune_viz.calibration.unread_tokens import find_unread
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.device import telling_of_memory
from dit_prune_viz.pipelines.matrices import channels_last, layout
from dit_prune_viz.pipelines.model import Model

Add = Callable[[str, torch.Tensor, torch.Tensor | None], None]
"""Takes a layer's name, its inputs, and which of their tokens are read."""


class _Seen(Exception):
    """All layers of the package have had their inputs; the rest of the forward is not needed."""


@dataclass(frozen=True, eq=False)
class SecondMoments:
    """Weighted moments of one layer's inputs over tokens; layers with the same input share one object.

    Attributes:
        hessian: Σ_t α_t·X_tᵀX_t (d_in, d_in) float32, on the model's device.
        total: Σ_t α_t·Σ x (d_in,) float32.
        tokens: Σ_t α_t·(number of tokens); those that the model never reads count nowhere.
        cross: Σ_t α_t·Z_tᵀX_t (d_in, d_in), where Z are the inputs of the unaltered model; None where nothing was
            altered, so that Z = X, and for routed experts, which see other tokens then: for them the altered model's
            own inputs have to do.
        reference: Σ_t α_t·Σ z (d_in,), or None.
    """

    hessian: torch.Tensor
    total: torch.Tensor
    tokens: float
    cross: torch.Tensor | None = None
    reference: torch.Tensor | None = None


def collect_hessians(
    model: Model,
    names: Iterable[str],
    *,
    like: Calibration,
    weights: str | Sequence[float] | None = None,
    inputs: RecordedInputs | None = None,
    progress: Progress | None = None,
) -> dict[str, torch.Tensor]:
    """H = Σ_t α_t·X_tᵀX_t of the named layers, (d_in, d_in) float32 each (OBS-Diff, arXiv 2510.06751).

    The inputs that `like` watched pass through the transformer as it stands: inside a `pruned` block (with the model's
    lock held around it) the layers see what a pruned model gives them. Layers that receive the very same tensor, as q,
    k and v do, share one matrix. Products are float32, outside any autocast. Memory: 4·d_in² bytes per matrix, and
    one call's inputs of a layer in float32.

    Args:
        model: the calibrated model; its lock is held meanwhile.
        names: a package of layers; the forward stops after the last of them.
        like: which inputs to watch.
        weights: α of the timestep bins, a scheme's name or (bins,) numbers, see `timestep_weights`; None is uniform.
        inputs: those of `like`, recorded before; None records them now, which costs as much as calibrating.
        progress: called after every step of recording and every replayed call; may raise `Cancelled`.

    Raises:
        UserError: an unknown layer, weights that do not fit, inputs that are not finite, too little memory.
    """
    found = collect_moments(model, names, like=like, weights=weights, inputs=inputs, progress=progress)
    return {name: moments.hessian for name, moments in found.items()}


def collect_moments(
    model: Model,
    names: Iterable[str],
    *,
    like: Calibration,
    weights: str | Sequence[float] | None = None,
    inputs: RecordedInputs | None = None,
    altered: Callable[[], AbstractContextManager] | None = None,
    progress: Progress | None = None,
) -> dict[str, SecondMoments]:
    """As `collect_hessians`, with the sums of the inputs, which give their mean. Same arguments and errors.

    With `altered`, a block inside which the model runs otherwise (pruned), every call runs twice: the moments are
    those of the altered model, and `cross` ties its inputs to the unaltered ones, token by token. Routed experts have
    no `cross`: an altered model sends them other tokens.

    Tokens of a routed expert weigh what the row of their call weighs; of a call with several rows, their mean.
    """
    names = [model.layer(name).name for name in names]
    scale = timestep_weights("uniform" if weights is None else weights, like.edges)
    inputs = record_inputs(model, like, progress=progress) if inputs is None else inputs
    store = _Store(model)
    store.routed = {name for name in names if model.layer(name).routed}
    fitting = telling_of_memory(
        f"The Hessians of these {len(names)} layers do not fit into the memory of {model.device}; "
        "take fewer layers at a time."
    )
    watched = watch_package(model, names, store.take)
    with fitting, model.lock.hold(progress), torch.no_grad(), watched as run:
        for done, call in enumerate(inputs.calls):
            store.begin(torch.tensor([scale[index] for index in call.bins], dtype=torch.float32))
            if altered is not None:
                store.keeps = True
                run(call)
                store.keeps = False
            with nullcontext() if altered is None else altered():
                run(call if altered is None else run.routed_anew(call))
            if progress is not None:
                progress(done + 1, len(inputs.calls), "Collecting Hessians")
        owners = run.owners
    return store.results(names, owners)


class _Store:
    """Running moments per owner of an input, and the unaltered inputs of one call."""

    def __init__(self, model: Model):
        self.model = model
        self.alpha = torch.ones(1)
        self.keeps = False
        self.routed: set[str] = set()
        self._kept: dict[str, torch.Tensor] = {}
        self._alone: set[str] = set()  # layers whose altered inputs could not be tied to the unaltered ones
        self._moments: dict[str, list] = {}

    def begin(self, alpha: torch.Tensor) -> None:
        """The next call, with a weight for each of its rows."""
        self.alpha = alpha
        self._kept.clear()

    def take(self, name: str, values: torch.Tensor, read: torch.Tensor | None) -> None:
        """A layer's inputs (rows, tokens, d_in), one weight per row, or (tokens, d_in) of unknown rows, which weigh the
        mean of these. Where `read` (rows, tokens) or (tokens,) is given, other tokens are zeros and weigh nothing."""
        if self.keeps and name in self.routed:
            return
        with torch.autocast(values.device.type, enabled=False):
            tokens = values.float().reshape(-1, values.shape[-1])
            if self.keeps:
                self._kept[name] = tokens
                return
            alpha = self.alpha.mean().to(tokens).expand(len(tokens), 1)
            if values.ndim == 3 and len(values) == len(self.alpha):
                alpha = self.alpha.to(tokens.device).repeat_interleave(values.shape[1])[:, None]
            if read is not None:
                alpha = alpha * read.to(tokens.device).reshape(-1, 1)
            weighted = tokens * alpha
            sums = [tokens.T @ weighted, weighted.sum(0), float(alpha.sum())]
            reference = self._kept.pop(name, None)
            if reference is not None and reference.shape == tokens.shape and name not in self._alone:
                sums += [reference.T @ weighted, (reference * alpha).sum(0)]
            else:
                self._alone.add(name)
            kept = self._moments.get(name)
            # Of a layer that could not be tied in one call nothing is tied.
            self._moments[name] = sums if kept is None else [old + new for old, new in zip(kept, sums, strict=False)]

    def results(self, names: Sequence[str], owners: dict[str, str]) -> dict[str, SecondMoments]:
        shared = {owner: SecondMoments(*values) for owner, values in self._moments.items()}
        for owner, moments in shared.items():
            if not bool(torch.isfinite(moments.hessian.diagonal().sum())):
                raise UserError(
                    f"The inputs of layer {owner} are not finite in this precision; load the model in float32."
                )
        found = {}
        for name in names:
            d_in = self.model.layer(name).shape[1]
            empty = torch.zeros(d_in, d_in, device=self.model.device)
            found[name] = shared.get(owners.get(name, "")) or SecondMoments(empty, empty.new_zeros(d_in), 0.0)
        return found


class _Run:
    """Replays calls, and knows which layers share an input."""

    def __init__(self, model: Model, names: Sequence[str], add: Add):
        self.owners: dict[str, str] = {}
        self._model, self._names, self._add = model, names, add
        self._seen: list[tuple[weakref.ref, Hashable, str]] = []
        self._fired: list[str] = []
        self._stops = False
        self._call: Call | None = None

    def __call__(self, call: Call) -> None:
        self._call, self._seen, self._fired = call, [], []
        with suppress(_Seen):
            run_call(self._model, call)
        # A layer that runs twice or, being a routed expert, not always: then the forward always runs to its end.
        self._stops = sorted(self._fired) == sorted(self._names)
        self._call = None

    def routed_anew(self, call: Call) -> Call:
        """The call with the unread tokens of the model as it stands: altered, it sends experts other tokens."""
        if call.unread is None or not any(self._model.layer(name).routed for name in self._names):
            return call
        args, kwargs = batch_rows.split(batch_rows.move(call.arguments, self._model.device))
        self._call = None
        return replace(call, unread=find_unread(self._model.transformer, self._model.layers, args, kwargs))

    def hook(self, name: str):
        def watch(module, args):
            if self._call is None:
                return
            read = layout(module)
            if name not in self.owners:
                same = (owner for kept, how, owner in self._seen if kept() is args[0] and how == read)
                self.owners[name] = next(same, name)
            if self.owners[name] == name:
                self._seen.append((weakref.ref(args[0]), read, name))
                routed = self._model.layer(name).routed
                call, time = self._call, self._fired.count(name)
                gone = None if call.unread is None else call.unread.of(name, time)
                tokens = channels_last(module, args[0])
                self._add(name, *batch_rows.watched_tokens(tokens, call.rows, call.batch, routed=routed, unread=gone))
            self._fired.append(name)
            if self._stops and len(self._fired) == len(self._names):
                raise _Seen

        return watch


@contextmanager
def watch_package(model: Model, names: Sequence[str], add: Add) -> Iterator[_Run]:
    """Inside the block, `run(call)` replays a call and gives `add` each distinct input of the named layers, and which
    of its tokens are read, as `watched_tokens` returns them.

    The first call runs to its end and shows how often the layers run and which share an input; later ones stop after
    the last of them.
    """
    run = _Run(model, names, add)
    with ExitStack() as stack:
        for name in names:
            handle = model.transformer.get_submodule(name).register_forward_pre_hook(run.hook(name))
            stack.callback(handle.remove)
        yield run
