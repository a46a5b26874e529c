"""A transformer in a single file, with diffusers' keys or those of its first publication, as ComfyUI reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from dit_prune_viz.checks import first_sentence
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.dequantizing import gguf_header, read_tensors
from dit_prune_viz.pipelines.weight_files import AGAIN, Part, read_header

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.", "net.", "module.", "model.")
"""Of all keys of a transformer; beside the first of them, a file may hold an autoencoder and text encoders."""
_CONVERSION_ERRORS = (KeyError, IndexError, ValueError, RuntimeError, AttributeError, TypeError)


def find_checkpoint(part: str, file: Path, kind: type, config: Path, name: str, *, dequantize: bool = False) -> Part:
    """Look up what would be loaded of a single file.

    Args:
        part: its name in the pipeline.
        file: the file.
        kind: class of the model.
        config: folder with the model's config.json.
        name: of the model, for people.
        dequantize: quantised weights may be made plain.

    Raises:
        UserError: the file is damaged or holds nothing, or it is a quantised GGUF file.
    """
    gguf = file.suffix == ".gguf"
    tensors = gguf_header(file, name, dequantize=dequantize) if gguf else read_header(file, name)
    if not tensors:
        raise UserError(f"{name} could not be loaded: there are no weights in it; {AGAIN}")
    prefix = _prefix(tensors)
    own = {key: stored for key, stored in tensors.items() if key.startswith(prefix)}
    return Part(part, file.parent, kind, None, (file.name,), own, config)


def load_checkpoint(part: Part, name: str, dtype: torch.dtype) -> nn.Module:
    """Load a single file into a model of the base's shape.

    Args:
        part: as `find_checkpoint` found it.
        name: of the model, for people.
        dtype: of the weights.

    Raises:
        UserError: weights are missing, left over or of another shape.
    """
    from accelerate import init_empty_weights

    config = part.kind.load_config(str(part.config), local_files_only=True)
    config.pop("quantization_config", None)
    with init_empty_weights():
        model = part.kind.from_config(config)
    prefix = _prefix(part.tensors)
    stored = read_tensors(part, dtype)
    tensors = {key.removeprefix(prefix): stored.pop(key) for key in list(part.tensors)}
    wanted = model.state_dict()
    if 2 * len(wanted.keys() & tensors.keys()) < len(wanted):  # else they are diffusers' own, if not all of them
        tensors = _converted(part, tensors, config, name)
    _check(part, tensors, wanted, name)
    kept = part.kind._keep_in_fp32_modules or ()
    for key, tensor in tensors.items():
        if tensor.is_floating_point():
            precise = any(module in key.split(".") for module in kept)
            tensors[key] = tensor.to(torch.float32 if precise else dtype).contiguous()
    model.load_state_dict(tensors, assign=True)
    for buffer in model.buffers():
        if buffer.is_floating_point() and not kept:
            buffer.data = buffer.to(dtype)
    return model.eval()


def _prefix(keys: Iterable[str]) -> str:
    """What stands before all keys of the transformer."""
    keys = list(keys)
    if any(key.startswith(_PREFIXES[0]) for key in keys):
        return _PREFIXES[0]
    return next((prefix for prefix in _PREFIXES if all(key.startswith(prefix) for key in keys)), "")


class _Read(dict):
    """A dictionary that knows which keys were never asked for."""

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        super().__init__(values)
        self.unread = set(values)

    def __getitem__(self, key):
        self.unread.discard(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.unread.discard(key)
        return super().get(key, default)

    def pop(self, key, *default):
        self.unread.discard(key)
        return super().pop(key, *default)

    def items(self):
        self.unread.clear()
        return super().items()

    def values(self):
        self.unread.clear()
        return super().values()

    def copy(self):
        self.unread.clear()
        return super().copy()


def _converted(part: Part, tensors: Mapping[str, torch.Tensor], config: Mapping, name: str) -> dict:
    """The tensors under diffusers' keys. UserError where diffusers cannot rename them."""
    import diffusers
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    known = (one for one in SINGLE_FILE_LOADABLE_CLASSES if issubclass(part.kind, getattr(diffusers, one)))
    loadable = next(known, None)
    if loadable is None:
        return dict(tensors)
    given = _Read(tensors)
    try:
        found = SINGLE_FILE_LOADABLE_CLASSES[loadable]["checkpoint_mapping_fn"](checkpoint=given, config=dict(config))
    except _CONVERSION_ERRORS as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) and error.args else first_sentence(error)
        raise UserError(_foreign(part, name, what)) from error
    unread = sorted(given.unread - found.keys())
    if unread and len(unread) < len(tensors):
        raise UserError(_foreign(part, name, f"it holds {unread[0]}{_others(unread)}"))
    return {key: tensor for key, tensor in found.items() if tensor is not None}


def _check(part: Part, tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], name: str) -> None:
    """Refuse a file by keys that are missing or left over, and by shapes."""
    missing = sorted(wanted.keys() - tensors.keys())
    foreign = sorted(tensors.keys() - wanted.keys())
    if missing and foreign:
        some = f"{missing[0]}{_others(missing)} is missing and it holds {foreign[0]}{_others(foreign)}"
        raise UserError(_foreign(part, name, some))
    if missing:
        raise UserError(
            f"{name} could not be loaded: the weights {missing[0]}{_others(missing)} are missing from "
            f"{part.place(None)}; {AGAIN}"
        )
    if foreign:
        raise UserError(_foreign(part, name, f"it holds {foreign[0]}{_others(foreign)}"))
    for key, tensor in sorted(tensors.items()):
        if tensor.shape != wanted[key].shape:
            shapes = f"{key} is {_shape(tensor)} where the base has {_shape(wanted[key])}"
            raise UserError(_foreign(part, name, shapes))


def _foreign(part: Part, name: str, what: str) -> str:
    return (
        f"{name} does not fit the {part.kind.__name__} of its base ({what}); give as base the pipeline that this file "
        "was made for."
    )


def _others(keys: list) -> str:
    return f" and {len(keys) - 1} more" if len(keys) > 1 else ""


def _shape(tensor: torch.Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"
