"""The bundled model in two steps: its layers and weights at once, its pipeline when something runs it.

To import diffusers and transformers takes longer than all else that the first page waits for, and a map of layers needs
neither. What they would have said about the bundled model is written down in a file beside it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file

from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.defaults import DEFAULTS_FILE, Defaults
from dit_prune_viz.pipelines.device import choose_device, choose_dtype
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pipelines.model import Model, load, load_model
from dit_prune_viz.pipelines.source import local_path
from dit_prune_viz.resources import BUNDLED_FACTS, BUNDLED_MODEL

_WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def open_model(
    settings: LoadSettings,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    make_room: Callable[[int], None] | None = None,
) -> Model:
    """As `load`, but the bundled model in float32 on the CPU opens its pipeline when that is first used.

    What is known beforehand is its usual layers; with `also_prune` it is loaded as any other.

    Raises:
        UserError: as in `load_model`.
    """
    path = local_path(settings.model) if settings.plain and settings.placement in ("auto", "device", "cpu") else None
    if path is not None and path.resolve() == BUNDLED_MODEL.resolve():
        chosen = choose_device(settings.computes)
        if chosen.type == "cpu" and choose_dtype(settings.dtype, chosen) == torch.float32:
            found = _from_facts(settings, path)
            if found is not None:
                return found
    return load(settings, progress, tell, make_room)


class OpeningModel(Model):
    """A `Model` whose pipeline is opened by the first use of `pipeline` or `transformer`, which waits for it."""

    @property
    def pipeline(self):
        """The diffusers pipeline. UserError as in `load_model`."""
        return self._opener.pipeline()

    @pipeline.setter
    def pipeline(self, opener: _Opener) -> None:  # what the constructor of `Model` calls
        self.__dict__["_opener"] = opener

    def wait_until_open(self, seconds: float) -> bool:
        """As in `Model`; does not open it."""
        return self._opener.opened.wait(seconds)

    def weight(self, name: str) -> torch.Tensor:
        """As in `Model`, from the file until the pipeline is open."""
        weights = self._opener.weights
        layer = self.layer(name)
        return super().weight(name) if weights is None else weights[f"{layer.name}.weight"].view(layer.shape)

    def weights(self) -> Iterator[tuple[Layer, torch.Tensor]]:
        """As in `Model`, from the file until the pipeline is open."""
        if self._opener.weights is None:
            return super().weights()
        return ((layer, self.weight(layer.name)) for layer in self.layers)

    def _dense_matrices(self) -> dict[str, tuple[int, int]]:
        if self._opener.weights is None:
            return super()._dense_matrices()
        # The bundled model has no embedding tables: whatever has two dimensions is a matrix.
        matrices = {name.removesuffix(".weight"): shape for name, shape in self._shapes().items() if len(shape) == 2}
        return {name: shape for name, shape in matrices.items() if name not in self._by_name}

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        weights = self._opener.weights
        return super()._shapes() if weights is None else {name: tuple(one.shape) for name, one in weights.items()}


class _Opener:
    """Opens a pipeline once. `weights` are the transformer's tensors by name, None once the pipeline holds them."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        self._lock = threading.Lock()
        self._pipeline = None
        self.opened = threading.Event()
        stored = load_file(folder / _WEIGHTS)
        self.weights: Mapping[str, torch.Tensor] | None = {name: value.float() for name, value in stored.items()}

    def pipeline(self):
        with self._lock:
            if self._pipeline is None:
                model = load_model(self._folder, device="cpu", dtype="float32", placement="cpu")
                if model.fingerprint != self._fingerprint:
                    raise UserError(f"{self._folder} has changed since it was opened; load the model again.")
                self._pipeline, self.weights = model.pipeline, None
                self.opened.set()
            return self._pipeline


def facts_of(model: Model, folder: Path) -> dict[str, object]:
    """What `open_model` has to know of a model before its pipeline is open, as JSON values."""
    return {
        "files": _digest(folder),
        "fingerprint": model.fingerprint,
        "identity": model.identity,
        "can_mask": model.can_mask,
        "family": model.family,
        "parameters": model.parameters,
        "layers": [asdict(layer) for layer in model.layers],
    }


def _from_facts(settings: LoadSettings, path: Path) -> Model | None:
    """None if the folder is not the one that the facts were written about."""
    try:
        facts = json.loads(BUNDLED_FACTS.read_text(encoding="utf-8"))
        if facts["files"] != _digest(path):
            return None
        defaults = json.loads((path / DEFAULTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError):
        return None
    model = OpeningModel(
        source=settings.model,
        name=path.resolve().name,
        family=facts["family"],
        pipeline=_Opener(path, facts["fingerprint"]),
        layers=tuple(Layer(**{**layer, "shape": tuple(layer["shape"])}) for layer in facts["layers"]),
        parameters=facts["parameters"],
        defaults=Defaults(**{**defaults, "prompts": tuple(defaults["prompts"])}),
        device=torch.device("cpu"),
        dtype=torch.float32,
        fingerprint=facts["fingerprint"],
        settings=settings,
    )
    model.__dict__.update(identity=facts["identity"], can_mask=facts["can_mask"])
    return model


def _digest(folder: Path) -> str:
    """Of the names and contents of all settings and weights in a folder."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors")):
        data = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()} {len(data)} ".encode())
        digest.update(data)
    return digest.hexdigest()
