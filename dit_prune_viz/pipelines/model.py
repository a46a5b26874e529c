"""A loaded pipeline with everything the other steps ask of it: layers, weights, defaults, identity."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from dit_prune_viz.caching import Cache
from dit_prune_viz.checks import brief
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.also_prune import Offer, offers, read_patterns
from dit_prune_viz.pipelines.defaults import Defaults, defaults_for
from dit_prune_viz.pipelines.denoisers import can_mask, denoiser_of
from dit_prune_viz.pipelines.dense_parts import DensePart, dense_parts
from dit_prune_viz.pipelines.device import choose_device, choose_dtype
from dit_prune_viz.pipelines.families import family_of
from dit_prune_viz.pipelines.identity import fingerprint, identity
from dit_prune_viz.pipelines.layers import OUTSIDE, Layer, dense_matrices, list_layers
from dit_prune_viz.pipelines.load_settings import LoadSettings, Lora, split_hub_path
from dit_prune_viz.pipelines.lock import ModelLock
from dit_prune_viz.pipelines.lora import find_loras
from dit_prune_viz.pipelines.open_pipeline import open_pipeline
from dit_prune_viz.pipelines.placement import Placement
from dit_prune_viz.pipelines.plain_weights import check_adapters, check_layer, check_transformer
from dit_prune_viz.pipelines.resting import Resting
from dit_prune_viz.pipelines.source import find_source, local_path

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_LARGE = 1_000_000_000
_CACHE_BYTES = 2 << 30


@dataclass(frozen=True, eq=False)
class Model:
    """A diffusers pipeline ready to be calibrated, pruned and run.

    Attributes:
        source: folder or hub id as it was asked for.
        name: short name for people, the folder's or the hub model's.
        family: "flux", "sd3", "pixart", "dit" or the transformer class's own name in lower case.
        pipeline: the pipeline; its transformer is in eval mode and needs no gradient.
        layers: the prunable layers, in order of execution.
        parameters: how many the transformer has, dense ones included.
        defaults: generation settings to start with.
        device: where it runs.
        dtype: precision of the weights.
        fingerprint: hex digest of the transformer's configuration, shapes and a sample of its weights.
        also_prune: patterns of the layers that are prunable by request, see `list_layers`.
        settings: what it was loaded with; None where it was made in another way.
        placement: where its parts lie while they do not run; None where it was not loaded by `load`.
        number: of its own for every loaded model, to tell apart what was computed with which.
        lock: held by whatever runs the pipeline: one run at a time, or schedulers and masks of two would mix.
        cache: whatever follows from the model and takes long to make; it is freed with the model.
    """

    source: str
    name: str
    family: str
    pipeline: DiffusionPipeline
    layers: tuple[Layer, ...]
    parameters: int
    defaults: Defaults
    device: torch.device
    dtype: torch.dtype
    fingerprint: str
    also_prune: tuple[str, ...] = ()
    settings: LoadSettings | None = field(default=None, repr=False)
    placement: Placement | None = None
    number: int = field(default_factory=itertools.count().__next__)
    lock: ModelLock = field(default_factory=ModelLock, repr=False)
    cache: Cache = field(default_factory=lambda: Cache(_CACHE_BYTES), repr=False)
    away: ClassVar[bool] = False
    """Whether its weights have left the memory, see `put_away`."""

    def wait_until_open(self, seconds: float) -> bool:
        """Whether the pipeline is in memory, waiting for it that long at most; a model that was loaded has it."""
        return True

    @property
    def transformer(self) -> nn.Module:
        """The denoiser, the only part that is pruned; two of them are one `Denoisers`."""
        return denoiser_of(self.pipeline)

    @cached_property
    def identity(self) -> str:
        """The fingerprint together with all else that a picture depends on: scheduler, autoencoder, text encoders."""
        return identity(self.pipeline, self.fingerprint)

    @cached_property
    def can_mask(self) -> bool:
        """Whether the transformer is told which tokens of its prompts are padding."""
        return can_mask(self.pipeline)

    @property
    def signature(self) -> tuple[str, str, str]:
        """Everything about the model that a measurement depends on: its identity, precision and kind of device.

        Where more is prunable than the Linear layers of the blocks, the identity says so: what was measured of fewer
        layers belongs to another model.
        """
        more = [layer.name for layer in self.layers if layer.convolution or layer.by_request]
        identity = hashlib.sha256(f"{self.identity}{more}".encode()).hexdigest() if more else self.identity
        return identity, str(self.dtype), self.device.type

    @property
    def prunable_parameters(self) -> int:
        """Weights of all prunable layers together."""
        return sum(layer.weights for layer in self.layers)

    @cached_property
    def dense_parts(self) -> tuple[DensePart, ...]:
        """The parameters that stay dense, by reason."""
        return dense_parts(self._shapes(), self._by_name, {layer.stack for layer in self.layers})

    @cached_property
    def offers(self) -> tuple[Offer, ...]:
        """What could be pruned by request, whether it is or not."""
        return offers(self._dense_matrices(), {layer.stack for layer in self.layers} - {OUTSIDE})

    def also_pruning(self, patterns: str | Iterable[str]) -> Model:
        """The same pipeline, under the same lock, with other layers that are prunable by request; () is none.

        Args:
            patterns: of module paths, see `also_prune.matching`.

        Raises:
            UserError: a pattern matches no dense layer; says which there are.
        """
        patterns = read_patterns(patterns)
        own = {one.name: getattr(self, one.name) for one in fields(Model) if one.name not in ("number", "cache")}
        other = Model(**own | {"also_prune": patterns, "layers": list_layers(self.transformer, patterns)})
        if "identity" in vars(self):  # it may have been told before the weights went to where they rest
            vars(other)["identity"] = self.identity
        return other

    def _dense_matrices(self) -> dict[str, tuple[int, int]]:
        return dense_matrices(self.transformer, {layer.name for layer in self.layers if not layer.by_request})

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(parameter.shape) for name, parameter in self.transformer.named_parameters()}

    @property
    def large(self) -> bool:
        """Whether it has more than a billion parameters, so that few inputs at a time have to do."""
        return self.parameters > _LARGE

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    def layer(self, name: str) -> Layer:
        """The prunable layer of that name.

        Raises:
            UserError: there is none.
        """
        if not isinstance(name, str) or name not in self._by_name:
            raise UserError(f"This model has no prunable layer {brief(name)}; names look like {self.layers[0].name!r}.")
        return self._by_name[name]

    def weight(self, name: str) -> torch.Tensor:
        """The dense weight (d_out, d_in) of a prunable layer on the device that computes, detached, only to be read.

        It is the parameter's own storage where that lies there, and a copy where it rests elsewhere. That of a
        convolution is a view without the dimensions of its kernel.

        Raises:
            UserError: there is no such layer, or the model was quantised or given a LoRA adapter since it was loaded.
        """
        layer, transformer = self.layer(name), self.transformer
        check_adapters(transformer, self.name)
        check_layer(transformer.get_submodule(name), self.name)
        return self._tensor(transformer, f"{name}.weight").view(layer.shape)

    def weights(self) -> Iterator[tuple[Layer, torch.Tensor]]:
        """Every prunable layer with its weight as `weight` gives it, for a pass over all of them.

        Raises:
            UserError: as in `weight`.
        """
        transformer = self.transformer
        check_adapters(transformer, self.name)
        resting = Resting(transformer)
        for layer in self.layers:
            check_layer(transformer.get_submodule(layer.name), self.name)
            yield layer, resting(f"{layer.name}.weight").to(self.device).view(layer.shape)

    def bias(self, name: str) -> torch.Tensor | None:
        """The bias (d_out,) of a prunable layer as `weight` gives its weight; None where it has none."""
        transformer = self.transformer
        module = transformer.get_submodule(self.layer(name).name)
        return None if module.bias is None else self._tensor(transformer, f"{name}.bias")

    def _tensor(self, transformer: nn.Module, name: str) -> torch.Tensor:
        # Layers that stand in pairs may share weights, and hooks may be hung in later: it is looked up every time.
        return Resting(transformer)(name).to(self.device)


def load_model(
    source: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    placement: str = "auto",
    revision: str | None = None,
    subfolder: str | None = None,
    token: str | None = None,
    base: str | Path | None = None,
    loras: Iterable[str | Lora] = (),
    dequantize: bool = False,
    progress: Progress | None = None,
    also_prune: str | Iterable[str] = (),
    tell: Callable[[str], None] | None = None,
) -> Model:
    """Open a pipeline from a folder or the hub; only safetensors are read and no code of the model's own is run.

    Args:
        source: a folder in diffusers format, a hub id ("org/name", "org/name@revision/subfolder"), or a transformer
            alone: its folder or a .safetensors file.
        device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:0", "mps".
        dtype: "auto" (bfloat16 on CUDA, else float32), "float32", "bfloat16", "float16".
        placement: where the parts lie that do not run: "auto" (the fastest that fits), "device", "offload", "stream",
            "balanced", "cpu"; see `Placement`. No number depends on it.
        revision: branch, tag or commit of a hub model; None is the newest.
        subfolder: of the folder or hub model, where the pipeline lies.
        token: of the hub, for gated and private models; None takes HF_TOKEN or the one that was logged in with.
        base: folder or hub id of the pipeline that lends the parts that the model does not have.
        loras: to be fused, "FILE" or "FILE:SCALE" each.
        dequantize: turn quantised weights into plain ones where that is possible, instead of refusing them.
        progress: told of downloads; may raise `Cancelled`.
        also_prune: patterns of layers that are dense by the paper's rule and shall be prunable, see `list_layers`.
        tell: called before anything is loaded with a sentence about where a large model goes.

    Raises:
        UserError: unknown source, device, precision or placement, a pipeline without a transformer or prunable layers,
            pickle-only weights, quantised layers, a LoRA adapter that is not fused, broken or incomplete files,
            weights that are not finite, too little memory, a pattern that matches no dense layer.
    """
    settings = LoadSettings(
        model=str(source),
        device=device,
        dtype=dtype,
        placement=placement,
        revision=revision,
        subfolder=subfolder,
        token=token,
        base=None if base is None else str(base),
        loras=tuple(Lora.parse(lora) if isinstance(lora, str) else lora for lora in loras),
        dequantize=dequantize,
        also_prune=read_patterns(also_prune),
    )
    return load(settings, progress, tell)


def load(
    settings: LoadSettings,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    make_room: Callable[[int], None] | None = None,
) -> Model:
    """Open a pipeline as `load_model` does, by its settings.

    `make_room` is called with the bytes of its weights before they are loaded, and may raise `UserError`.

    Raises:
        UserError: as in `load_model`.
    """
    chosen_device = choose_device(settings.computes)
    chosen_dtype = choose_dtype(settings.dtype, chosen_device)
    source = find_source(settings, progress)
    loras = find_loras(settings, progress)
    name = source.name
    opened = open_pipeline(source, loras, chosen_device, chosen_dtype, settings, tell, make_room)
    pipeline = opened.pipeline
    transformer = denoiser_of(pipeline).eval().requires_grad_(False)
    check_transformer(transformer, name)
    layers = list_layers(transformer, settings.also_prune)
    if not layers:
        raise UserError(f"{name} has no transformer blocks with layers to prune; choose another pipeline.")
    model = Model(
        source=settings.model,
        name=_short_name(settings.model),
        family=family_of(pipeline).name,
        pipeline=pipeline,
        layers=layers,
        parameters=sum(parameter.numel() for parameter in transformer.parameters()),
        defaults=defaults_for(pipeline, source.folder, split_hub_path(settings.base or settings.model)[0]),
        device=chosen_device,
        dtype=chosen_dtype,
        fingerprint=fingerprint(transformer, opened.samples),
        settings=settings,
        also_prune=settings.also_prune,
        placement=opened.placement,
    )
    if opened.samples:
        vars(model)["identity"] = identity(pipeline, model.fingerprint, opened.samples)
    return model


def _short_name(source: str) -> str:
    path = local_path(source)
    return source if path is None else path.resolve().name
