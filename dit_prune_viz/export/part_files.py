"""What belongs to the parts of a pipeline beside their weights, and weights that rest elsewhere than in memory."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

import torch
from torch import nn

from dit_prune_viz.checks import first_sentence
from dit_prune_viz.errors import UserError
from dit_prune_viz.export.weight_file import HALVES, file_bytes, fits, write_weights
from dit_prune_viz.pipelines.defaults import DEFAULTS_FILE
from dit_prune_viz.pipelines.denoisers import is_denoiser, named_denoisers
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.pipeline_index import INDEX
from dit_prune_viz.pipelines.resting import Resting
from dit_prune_viz.pipelines.source import local_path
from dit_prune_viz.pipelines.weight_files import STEMS

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_CONFIGS = ("config.json", "scheduler_config.json", INDEX)
_NOT_WRITTEN = ("_name_or_path", "quantization_config")
"""Where a model lay on this machine; and how it was quantised, which it is not any more."""


def save_part(part: object, folder: Path) -> None:
    """Save a part, whose weights may rest in other memory or on the disk while it does not run."""
    if not isinstance(part, nn.Module) or not any(parameter.is_meta for parameter in part.parameters()):
        part.save_pretrained(folder)
        return
    resting, state = Resting(part), part.state_dict()
    if hasattr(part, "save_config"):  # of diffusers, whose own way knows no weights but those in memory
        part.save_config(folder)
        stored = {name: resting(name).to("meta") for name in state}
        write_weights(folder / f"{STEMS['diffusers']}.safetensors", stored, lambda name: resting(name).to("cpu"), {})
    else:
        part.save_pretrained(folder, state_dict={name: resting(name) for name in state})


def clean_settings(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Take out of a written pipeline's settings what holds on this machine only, and add what diffusers drops."""
    labels = getattr(pipeline, "labels", None)
    for file in (path for name in _CONFIGS for path in (*folder.glob(name), *folder.glob(f"*/{name}"))):
        _clean(file, {"id2label": _by_number(labels)} if labels and file.name == INDEX else {})


def write_config(transformer: nn.Module, folder: Path) -> None:
    """Write a transformer's configuration into a folder, which is made, without what holds on this machine only."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config_text(transformer), encoding="utf-8")


def config_text(transformer: nn.Module) -> str:
    """What `write_config` writes."""
    return _cleaned(json.loads(transformer.to_json_string()))


def write_defaults(model: Model, folder: Path) -> None:
    """Write the settings that a model starts with in this app, which diffusers ignores."""
    place = local_path(model.source)
    source = None if place is None else place / DEFAULTS_FILE
    if source is not None and source.is_file():
        shutil.copyfile(source, folder / DEFAULTS_FILE)
        return
    text = json.dumps(asdict(model.defaults), indent=1, ensure_ascii=False)
    (folder / DEFAULTS_FILE).write_text(text + "\n", encoding="utf-8")


def own_files(model: Model) -> tuple[Path, ...]:
    """The files and folders that a model was loaded from, as far as they lie on this machine."""
    settings = model.settings
    named = [model.source]
    if settings is not None:
        named += [settings.base or "", *(lora.source for lora in settings.loras)]
    loaded = [
        getattr(model.pipeline, "config", {}),
        *(getattr(part, "config", {}) for part in named_denoisers(model.transformer).values()),
    ]
    named += [config.get("_name_or_path") or "" for config in loaded]
    return tuple(path for path in map(local_path, named) if path is not None)


def written_bytes(model: Model) -> int:
    """Bytes that `write_parts` and `write_defaults` write, but for some hundred in the heads of files.

    Parts in float32 are looked through for the precision in which they will be stored, once for a model.
    """
    return model.cache.get(("bytes of parts",), lambda: _count_bytes(model))


def _count_bytes(model: Model) -> int:
    try:
        return _count_written(model)
    except OSError as error:
        raise UserError(
            f"Temporary files cannot be written to {gettempdir()} ({first_sentence(error)}); make room there, or set "
            "TMPDIR to another folder."
        ) from error


def _count_written(model: Model) -> int:
    total = 0
    with TemporaryDirectory() as place:
        folder = Path(place)
        for name, part in model.pipeline.components.items():
            if not isinstance(part, nn.Module):
                if hasattr(part, "save_pretrained"):
                    part.save_pretrained(folder / name)
            elif hasattr(part, "save_config"):
                part.save_config(folder / name)
            else:
                part.config.save_pretrained(folder / name)
            if isinstance(part, nn.Module) and not is_denoiser(name):
                total += _module_bytes(part)
        model.pipeline.save_config(folder)
        write_defaults(model, folder)
        return total + sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _module_bytes(module: nn.Module) -> int:
    resting, seen, found = Resting(module), set(), {}
    for name, tensor in module.state_dict().items():
        if tensor.is_meta or tensor.data_ptr() not in seen or not tensor.numel():  # shared weights are stored once
            seen.add(None if tensor.is_meta else tensor.data_ptr())
            found[name] = tensor
    wide = [name for name, tensor in found.items() if tensor.dtype == torch.float32]
    half = any(wide and all(fits(resting(name), dtype) for name in wide) for dtype in HALVES)
    blank = {name: tensor.detach().to("meta") for name, tensor in found.items()}
    if half:
        blank |= {name: blank[name].to(HALVES[0]) for name in wide}
    return file_bytes(blank, {})


def _clean(file: Path, more: dict[str, object]) -> None:
    """Take out of a configuration what holds on this machine only, and add to it."""
    values = json.loads(file.read_text(encoding="utf-8"))
    if more or any(key in values for key in _NOT_WRITTEN):
        file.write_text(_cleaned(values | more), encoding="utf-8")


def _cleaned(values: dict[str, object]) -> str:
    kept = {key: value for key, value in values.items() if key not in _NOT_WRITTEN}
    return json.dumps(kept, indent=2, sort_keys=True) + "\n"


def _by_number(labels: dict[str, int]) -> dict[str, str]:
    """What diffusers reads the names of classes from."""
    names: dict[int, list[str]] = {}
    for name, number in labels.items():
        names.setdefault(number, []).append(name)
    return {str(number): ", ".join(found) for number, found in sorted(names.items())}
