"""Calibrations on disk: one safetensors file each, read back bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from dit_prune_viz.calibration.draw import Draw
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.disk_cache import DiskCache, Entry, content_key, read_entry, write_entry
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.resources import BUNDLED_CALIBRATION

VERSION = 1
"""Raised whenever the same settings would be calibrated differently."""

_MASKED_VERSION = 1
"""The same for models with masks alone, of which the padding of prompts was counted before there was such a version."""

_SUMS = ("sum_squares", "sums", "tokens")


def counting_version(model: Model) -> int | list[int]:
    """Version of how this model's inputs are counted, for the names of whatever follows from that."""
    return [VERSION, _MASKED_VERSION] if model.can_mask else VERSION


def calibration_key(
    model: Model, *, samples: int, seed: int, steps: int, bins: int, prompts: Sequence[str] | None = None
) -> str:
    """The name under which a calibration is kept: of everything that decides it, the model included."""
    drawing = {name: value for name, value in asdict(model.defaults).items() if name not in ("prompts", "steps")}
    texts = list(model.defaults.prompts if prompts is None else prompts)
    settings = [samples, seed, steps, bins]
    return content_key("calibration", counting_version(model), model.signature, drawing, settings, texts)


def shipped_calibration(model: Model, *, samples: int, seed: int) -> Calibration | None:
    """The calibration that comes with the bundled model, None for another model, precision, device or setting."""
    if model.device.type != "cpu" or not BUNDLED_CALIBRATION.is_file():
        return None
    try:
        entry = read_entry(BUNDLED_CALIBRATION)
        fits = entry.about["key"] == calibration_key(
            model, samples=samples, seed=seed, steps=model.defaults.steps, bins=len(entry.about["edges"]) - 1
        )
        return _from_entry(entry) if fits else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_calibration(calibration: Calibration, path: str | Path, *, key: str = "") -> None:
    """Write a calibration to one safetensors file.

    Args:
        calibration: any.
        path: of the file, in a folder that exists.
        key: a `calibration_key` to note beside it.

    Raises:
        OSError: the file cannot be written.
    """
    entry = _to_entry(calibration)
    write_entry(Path(path), Entry(entry.tensors, {**entry.about, "key": key}))


def load_calibration(path: str | Path) -> Calibration:
    """Read what `save_calibration` wrote; equal to it in every bit.

    Raises:
        UserError: there is no such file, or it does not hold a calibration.
    """
    try:
        return _from_entry(read_entry(Path(path)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not hold a calibration; calibrate again.") from error


def find_calibration(cache: DiskCache, key: str) -> Calibration | None:
    """The calibration kept under `key`, None if there is none that can be read."""
    entry = cache.find(key)
    if entry is None:
        return None
    try:
        return _from_entry(entry)
    except (ValueError, KeyError, TypeError):
        cache.remove(key)
        return None


def keep_calibration(cache: DiskCache, key: str, calibration: Calibration) -> None:
    """Keep a calibration under `key`."""
    entry = _to_entry(calibration)
    cache.put(key, entry.tensors, entry.about)


def _to_entry(calibration: Calibration) -> Entry:
    """Layers that see the same input, such as queries, keys and values, have equal sums: those are stored once."""
    tensors: dict[str, torch.Tensor] = {}
    known: dict[tuple, str] = {}
    names: dict[str, dict[str, str]] = {}
    for kind in _SUMS:
        names[kind] = {}
        for layer, tensor in getattr(calibration, kind).items():
            content = kind, tuple(tensor.shape), tensor.contiguous().numpy().tobytes()
            name = known.setdefault(content, f"{kind}.{layer}")
            tensors.setdefault(name, tensor)
            names[kind][layer] = name
    draw = calibration.draw
    about = {
        "samples": calibration.samples,
        "seed": calibration.seed,
        "seconds": calibration.seconds,
        "timesteps": calibration.timesteps,
        "edges": calibration.edges,
        "steps": calibration.steps,
        "draw": None if draw is None else _draw_to_json(draw),
        "layers": names,
    }
    return Entry(tensors, about)


def _from_entry(entry: Entry) -> Calibration:
    about, draw = entry.about, entry.about["draw"]
    sums = {kind: {layer: entry.tensors[name] for layer, name in about["layers"][kind].items()} for kind in _SUMS}
    return Calibration(
        samples=int(about["samples"]),
        seed=int(about["seed"]),
        seconds=float(about["seconds"]),
        timesteps=tuple(about["timesteps"]),
        edges=tuple(about["edges"]),
        draw=None if draw is None else _draw_from_json(draw),
        steps=int(about["steps"]),
        **sums,
    )


def _draw_to_json(draw: Draw) -> dict[str, object]:
    watched = {run: {step: list(halves) for step, halves in steps.items()} for run, steps in draw.watched.items()}
    return {"prompts": draw.prompts, "texts": draw.texts, "watched": watched}


def _draw_from_json(value: Mapping) -> Draw:
    """JSON has turned the numbers of runs and steps into texts."""
    watched = {
        int(run): {int(step): tuple(halves) for step, halves in steps.items()}
        for run, steps in value["watched"].items()
    }
    return Draw(tuple(value["prompts"]), watched, tuple(value["texts"]))
