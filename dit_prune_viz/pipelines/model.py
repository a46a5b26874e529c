"""A loaded pipeline with everything the other steps ask of it: layers, weights, defaults, identity."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from dit_prune_viz.caching import Cache
from dit_prune_viz.checks import brief, first_sentence
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.defaults import Defaults, defaults_for
from dit_prune_viz.pipelines.dense_parts import DensePart, dense_parts
from dit_prune_viz.pipelines.device import choose_device, choose_dtype, out_of_memory
from dit_prune_viz.pipelines.families import family_of
from dit_prune_viz.pipelines.layers import Layer, list_layers
from dit_prune_viz.pipelines.loading import check_finite, find_parts, load_pipeline
from dit_prune_viz.pipelines.lock import ModelLock
from dit_prune_viz.pipelines.placement import Placement, free_memory, plan_placement, stored_sizes
from dit_prune_viz.pipelines.placing import Placing
from dit_prune_viz.pipelines.plain_weights import check_adapters, check_files, check_layer, check_transformer
from dit_prune_viz.pipelines.resting import Resting
from dit_prune_viz.pipelines.source import LOAD_ERRORS, find_source, local_path
from dit_prune_viz.pipelines.weight_files import Part

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_FINGERPRINT_SAMPLES = 64
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
        placement: where its parts lie meanwhile; None where all of them are on the device.
        dtype: precision of the weights.
        fingerprint: hex digest of the transformer's configuration, shapes and a sample of its weights.
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
    placement: Placement | None = None
    number: int = field(default_factory=itertools.count().__next__)
    lock: ModelLock = field(default_factory=ModelLock, repr=False)
    cache: Cache = field(default_factory=lambda: Cache(_CACHE_BYTES), repr=False)

    @property
    def transformer(self) -> nn.Module:
        """The denoiser, the only part that is pruned."""
        return self.pipeline.transformer

    @cached_property
    def identity(self) -> str:
        """The fingerprint together with all else that a picture depends on: scheduler, autoencoder, text encoders."""
        return _identity(self.pipeline, self.fingerprint, {})

    @property
    def signature(self) -> tuple[str, str, str]:
        """Everything about the model that a measurement depends on: its identity, precision and kind of device.

        Where more is prunable than the Linear layers of the blocks, the identity says so: what was measured of fewer
        layers belongs to another model.
        """
        more = [layer.name for layer in self.layers if layer.convolution]
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
        layer = self.layer(name)
        check_adapters(self.transformer, self.name)
        check_layer(self.transformer.get_submodule(name), self.name)
        return self._tensor(f"{name}.weight").view(layer.shape)

    def bias(self, name: str) -> torch.Tensor | None:
        """The bias (d_out,) of a prunable layer as `weight` gives its weight; None where it has none."""
        module = self.transformer.get_submodule(self.layer(name).name)
        return None if module.bias is None else self._tensor(f"{name}.bias")

    def _tensor(self, name: str) -> torch.Tensor:
        # Layers that stand in pairs may share weights, and hooks may be hung in later: it is looked up every time.
        return Resting(self.transformer)(name).to(self.device)


def load_model(
    source: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    placement: str = "auto",
    revision: str | None = None,
    token: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> Model:
    """Open a pipeline from a folder or the hub; only safetensors are read and no code of the model's own is run.

    Args:
        source: a folder in diffusers format, or a hub id.
        device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:0", "mps".
        dtype: "auto" (bfloat16 on CUDA, else float32), "float32", "bfloat16", "float16".
        placement: where the parts lie that do not run: "auto" (the fastest that fits), "device", "offload", "stream",
            "balanced", "cpu"; see `Placement`. No number depends on it.
        revision: branch, tag or commit of a hub model; None is the newest.
        token: of the hub, for gated and private models; None takes the one that was logged in with.
        tell: called before anything is loaded with a sentence about where a large model goes.

    Raises:
        UserError: unknown source, device or precision, a pipeline without a transformer or without prunable layers,
            pickle-only weights, quantised layers, a LoRA adapter that is not fused, broken or incomplete files,
            weights that are not finite, too little memory.
    """
    chosen_device = choose_device("cpu" if placement == "cpu" else device)
    chosen_dtype = choose_dtype(dtype, chosen_device)
    folder = find_source(source, revision=revision, token=token)
    pipeline, placed, samples = _open(folder, str(source), chosen_device, chosen_dtype, placement, tell)
    if getattr(pipeline, "transformer_2", None) is not None:
        raise UserError(f"{source} has two transformers, and only one would be pruned; choose a pipeline with one.")
    check_transformer(pipeline.transformer, str(source))
    transformer = pipeline.transformer.eval().requires_grad_(False)
    layers = list_layers(transformer)
    if not layers:
        raise UserError(f"{source} has no transformer blocks with layers to prune; choose another pipeline.")
    digest = _digest(transformer, samples.get("transformer"))
    model = Model(
        source=str(source),
        name=_short_name(str(source)),
        family=family_of(pipeline).name,
        pipeline=pipeline,
        layers=layers,
        parameters=sum(parameter.numel() for parameter in transformer.parameters()),
        defaults=defaults_for(pipeline, folder, str(source)),
        device=chosen_device,
        dtype=chosen_dtype,
        fingerprint=digest,
        placement=placed,
    )
    if samples:
        model.__dict__["identity"] = _identity(pipeline, digest, samples)
    return model


def fingerprint(transformer: nn.Module) -> str:
    """Sha256 hex digest over the configuration, every parameter's name and shape, and up to 64 values of each.

    Cheap for any size, and the same on every device; loading in another precision than the stored one changes it, as
    it changes the masks.
    """
    return _digest(transformer, None)


def _digest(transformer: nn.Module, sample: bytes | None) -> str:
    return hashlib.sha256(_settings(transformer) + (_sample(transformer) if sample is None else sample)).hexdigest()


def _identity(pipeline: DiffusionPipeline, fingerprint: str, samples: Mapping[str, bytes]) -> str:
    """See `Model.identity`; samples of parts that were taken before they went to where they rest."""
    digest = hashlib.sha256(fingerprint.encode())
    for name, component in sorted(pipeline.components.items()):
        if component is pipeline.transformer or not hasattr(component, "config"):
            continue
        digest.update(name.encode())
        if isinstance(component, nn.Module):
            digest.update(samples[name] if name in samples else _sample(component))
        else:
            digest.update(_settings(component))
    return digest.hexdigest()


def _settings(component: object) -> bytes:
    """The configuration of a part of a pipeline, without what loading adds to it."""
    config = component.config if isinstance(component.config, Mapping) else component.config.to_dict()
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    return json.dumps(config, sort_keys=True, default=str).encode()


def _sample(module: nn.Module) -> bytes:
    """Every parameter's name and shape, and up to 64 values of each."""
    sample, resting = bytearray(), Resting(module)
    for name in sorted(name for name, _ in module.named_parameters()):
        parameter = resting(name)
        sample += f"{name}{tuple(parameter.shape)}".encode()
        flat = parameter.reshape(-1)
        values = flat[:: max(1, flat.numel() // _FINGERPRINT_SAMPLES)][:_FINGERPRINT_SAMPLES]
        sample += values.float().cpu().numpy().tobytes()
    return bytes(sample)


def _short_name(source: str) -> str:
    path = local_path(source)
    return source if path is None else path.resolve().name


def _open(
    folder: Path,
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    requested: str,
    tell: Callable[[str], None] | None,
) -> tuple[DiffusionPipeline, Placement, dict[str, bytes]]:
    """The pipeline in its place, and samples of parts whose weights were told by other names before they rested."""
    placement, samples = None, {}
    try:
        parts = find_parts(folder, name)
        for part in parts:
            check_files(part, name)
        placement = plan_placement(stored_sizes(parts, dtype), free_memory(device), requested=requested)
        if tell is not None and placement.notable:
            tell(placement.sentence)
        placing = Placing(placement, device)

        def settle(part: Part, module: nn.Module) -> None:
            if placement.kind != "device":  # a GPU looks faster than the CPU
                check_finite(part, module, name)
            if placement.kind == "stream":  # a weight that two modules share has two names from then on
                samples[part.name] = _sample(module)
            placing.settle(part.name, module)
            if placement.kind == "device":
                check_finite(part, module, name)

        pipeline = load_pipeline(folder, parts, name, dtype, settle)
        placing.finish(pipeline)
    except UserError:
        raise
    except LOAD_ERRORS as error:
        if out_of_memory(error):
            raise UserError(_too_large(name, device, placement)) from error
        raise UserError(
            f"{name} could not be loaded ({first_sentence(error)}); save or download it again, or choose another model."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, placement, samples


def _too_large(name: str, device: torch.device, placement: Placement | None) -> str:
    start = f"{name} does not fit into the memory of {device}"
    if placement is None or placement.kind in ("stream", "cpu"):
        return f"{start}; choose a smaller model."
    return f"{start}; load it with --placement stream, which needs the least."
