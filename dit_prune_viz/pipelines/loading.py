"""Load the parts of a pipeline one by one, and refuse those that would be filled up with random or broken numbers.

Where a weight is missing, transformers draws one at random and diffusers leaves a hole; both say so in a report. They
also know which keys may be absent or left over: tied weights, buffers that were stored once, renamed layers.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from torch import nn

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.checkpoints import find_checkpoint, load_checkpoint
from dit_prune_viz.pipelines.denoisers import is_denoiser
from dit_prune_viz.pipelines.dequantizing import as_plain, is_fp8
from dit_prune_viz.pipelines.pipeline_index import component, parts_taken
from dit_prune_viz.pipelines.source import Source
from dit_prune_viz.pipelines.weight_files import AGAIN, Part, find_part

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_LARGER_MODEL = re.compile(
    r"(lm_head|logit_scale|(vision|visual|audio)(_model|_tower|_projection)?|text_projection|multi_modal_projector)(\.|$)"
)
"""What is left over where a text encoder was cut out of a model with a head or a second tower."""

_VOCABULARIES = {"tokenizer.json", "tokenizer.model", "spiece.model", "tekken.json", "vocab.json", "vocab.txt"}
"""Files in which tokenizers keep their words."""


def find_parts(source: Source, *, dequantize: bool = False) -> tuple[Part, ...]:
    """The parts of a pipeline that have weights, looked up but not loaded.

    Args:
        source: of the pipeline.
        dequantize: a transformer's quantised weights will be made plain where that is possible.

    Raises:
        UserError: files are missing or damaged.
    """
    parts = []
    for part in parts_taken(source.index):
        if not component(source.index, part):
            continue
        found = _model_class(*source.index[part])
        if found is None:
            _check_vocabulary(source, part)
            continue
        place = source.places[part]
        if source.config is not None and place.is_file():
            one = find_checkpoint(part, place, found[0], source.config, source.name, dequantize=dequantize)
        else:
            one = find_part(part, place, *found, source.name)
        fp8 = dequantize and is_denoiser(part) and is_fp8(one)
        parts.append(as_plain(one) if fp8 else one)
    return tuple(parts)


def load_pipeline(
    source: Source,
    parts: Iterable[Part],
    dtype: torch.dtype,
    settle: Callable[[Part, nn.Module], None] | None = None,
) -> DiffusionPipeline:
    """Load a pipeline; its parts with weights are complete, parts that are null stay out.

    Args:
        source: of the pipeline.
        parts: as `find_parts` found them.
        dtype: of the weights.
        settle: called with each part as soon as it is loaded, before the next one is, to check and to place it.

    Raises:
        UserError: a weight is missing, left over or of another shape.
        Exception: whatever diffusers and transformers raise about files that do not fit together.
    """
    from diffusers import DiffusionPipeline  # takes seconds, in which the app serves its page already

    index, loaded = source.index, {}
    for part in parts:
        loaded[part.name] = _load(part, source.name, dtype)
        if settle is not None:
            settle(part, loaded[part.name])
    # diffusers wants to hear of parts that are left out, and takes no plain null for one.
    empty = {key: None for key in parts_taken(index) if key in index and index[key] in (None, [None, None])}
    reader = DiffusionPipeline
    with _in_one_folder(source, loaded) as folder:
        if None in index.values() or folder != source.folder:
            known = {key: [None, None] if entry is None else entry for key, entry in index.items()}
            own = {"__module__": DiffusionPipeline.__module__, "load_config": classmethod(lambda *_, **__: dict(known))}
            reader = type("DiffusionPipeline", (DiffusionPipeline,), own)
        return reader.from_pretrained(folder, dtype=dtype, use_safetensors=True, **empty, **loaded)


@contextmanager
def _in_one_folder(source: Source, loaded: Mapping[str, nn.Module]) -> Iterator[Path]:
    """A folder with all parts that are not loaded yet: the pipeline's own, or copies of small files for a while."""
    if not source.gathered:
        yield source.folder
        return
    with TemporaryDirectory() as folder:
        for part, place in source.places.items():
            if part not in loaded and place.is_dir():
                shutil.copytree(place, Path(folder) / part)
        yield Path(folder)


def check_finite(part: Part, module: nn.Module, name: str) -> None:
    """Refuse a part with weights that are NaN or infinite, in one pass over those in memory.

    Raises:
        UserError: that, naming the layer and the file.
    """
    for key, weight in module.named_parameters():
        # Neither a copy nor a mask of the weight's size: NaN shows in its least value as well as in its greatest.
        if weight.numel() and not torch.stack(torch.aminmax(weight.detach())).isfinite().all():
            raise UserError(_not_finite(part, key, weight.dtype, name))


def _not_finite(part: Part, key: str, dtype: torch.dtype, name: str) -> str:
    stored = part.find(key)
    layer = key.removesuffix(".weight")
    if stored is not None:
        with safe_open(part.folder / stored[1].file, "pt") as file:
            if file.get_tensor(stored[0]).isfinite().all():
                kind = str(dtype).removeprefix("torch.")
                return f"{layer} in the {part.name} of {name} is too large for {kind}; load the model in float32."
    place = part.place(stored and stored[1])
    return f"{name} could not be loaded: the weights of {layer} in {place} are NaN or infinite; {AGAIN}"


def _model_class(library: object, name: object) -> tuple[type, str] | None:
    """A part's class and whose way of storing weights it has; None for tokenizers, schedulers and unknown ones."""
    import diffusers
    import transformers

    if not isinstance(library, str) or not isinstance(name, str):
        return None
    homes = {"diffusers": diffusers, "transformers": transformers}
    kind = getattr(homes.get(library) or getattr(diffusers.pipelines, library, None), name, None)
    if not isinstance(kind, type):
        return None
    if issubclass(kind, diffusers.ModelMixin):
        return kind, "diffusers"
    return (kind, "transformers") if issubclass(kind, transformers.PreTrainedModel) else None


def _check_vocabulary(source: Source, part: str) -> None:
    """Refuse a tokenizer without its vocabulary, of which transformers makes one that knows no word."""
    import transformers

    library, name = source.index[part]
    kind = getattr(transformers, name, None) if library == "transformers" and isinstance(name, str) else None
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedTokenizerBase):
        return
    own = set(kind.vocab_files_names.values())
    if own and not any((source.places[part] / file).is_file() for file in own | _VOCABULARIES):
        file = "tokenizer.json" if "tokenizer.json" in own else sorted(own)[0]
        raise UserError(f"{source.name} could not be loaded: {part}/{file} is missing; {AGAIN}")


def _load(part: Part, name: str, dtype: torch.dtype) -> nn.Module:
    from transformers import PreTrainedModel

    if part.config is not None:
        return load_checkpoint(part, name, dtype)
    precision = "dtype" if issubclass(part.kind, PreTrainedModel) else "torch_dtype"
    model, report = part.kind.from_pretrained(
        part.folder,
        variant=part.variant,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, all in the same words
        **{precision: dtype},
    )
    _check_report(part, model, report, name)
    return model


def _check_report(part: Part, model: nn.Module, report: Mapping[str, Iterable], name: str) -> None:
    """Refuse a part by what its loader says was missing, left over or of another shape."""
    start = f"{name} could not be loaded:"
    reshaped = sorted(report["mismatched_keys"])
    if reshaped:
        key, there, wanted = reshaped[0]
        found = part.find(key)
        place = part.place(found and found[1])
        raise UserError(
            f"{start} {key} in {place} is {_shape(there)} where config.json asks for {_shape(wanted)}"
            f"{_others(reshaped)}; {AGAIN}"
        )
    # Of shards, diffusers reports what their list lacks, and leaves without storage what only the file lacks.
    holes = {key for key, tensor in model.state_dict().items() if tensor.is_meta}
    missing = sorted(holes.union(report["missing_keys"]))
    if missing:
        some = f"{missing[0]}{_others(missing)}"
        raise UserError(f"{start} the weights {some} are missing from {part.place(None)}; {AGAIN}")
    foreign = sorted(key for key in report["unexpected_keys"] if not _harmless(part, model, key))
    if foreign:
        found = part.find(foreign[0])
        place = part.place(found and found[1])
        raise UserError(
            f"{start} {place} holds {foreign[0]}{_others(foreign)}, which its config.json has no layer for; {AGAIN}"
        )


def _harmless(part: Part, model: nn.Module, key: str) -> bool:
    """Whether a key may be left over: an old buffer, or what belongs to the larger model around a text encoder."""
    found = part.find(key)
    if found is not None and not found[1].dtype.startswith(("F", "BF")):
        return True
    end = key.rpartition(".")[2]
    if any(buffer.rpartition(".")[2] == end for buffer, _ in model.named_buffers()):
        return True
    return not is_denoiser(part.name) and _LARGER_MODEL.match(key) is not None


def _others(keys: list) -> str:
    return f" and {len(keys) - 1} more" if len(keys) > 1 else ""


def _shape(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "a single number"
