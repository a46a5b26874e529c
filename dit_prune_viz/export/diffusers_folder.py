"""A pruned model as a folder that plain diffusers opens: weights with zeros in the place of what was pruned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.export.folders import new_folder
from dit_prune_viz.export.model_card import model_card
from dit_prune_viz.export.part_files import own_files, write_config, write_defaults, written_bytes
from dit_prune_viz.export.pipeline_files import transformers_of, write_parts
from dit_prune_viz.export.pruned_state import PrunedState
from dit_prune_viz.export.weight_file import file_bytes, write_weights
from dit_prune_viz.pipelines.weight_files import STEMS, find_part
from dit_prune_viz.pruning.pruned_model import PrunedModel

_STEM = STEMS["diffusers"]
_SHARD = "10GB"
"""What diffusers itself makes at most."""
_SPARE = 4 << 20
CARD = "README.md"


def write_diffusers(
    pruned: PrunedModel,
    folder: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    scores: Mapping[str, object] | None = None,
) -> Path:
    """Write a pruned model as a folder for diffusers' `from_pretrained`.

    It holds the whole pipeline in safetensors, in shards where the transformer came in shards, and a model card.
    Float32 weights that half precision holds exactly are stored so, and loaded as they were. One layer at a time is
    made.

    Args:
        pruned: only read.
        folder: to be made; complete or not there at all.
        overwrite: whether it may replace one that is there.
        progress: called before every part and every tensor; may raise `Cancelled`.
        scores: name → number or text, for the model card.

    Returns:
        The folder.

    Raises:
        UserError: it exists or cannot be written to, the disk is too small, or no such folder can hold the model.
    """
    model = pruned.model
    states = {name: PrunedState(pruned, name) for name in transformers_of(model.pipeline)}
    for state in states.values():
        state.check_shared()
    needs = diffusers_bytes(pruned) + _SPARE
    with new_folder(folder, needs=needs, overwrite=overwrite, keep=own_files(model)) as new:
        write_parts(model.pipeline, new, progress)
        for name, state in states.items():
            write_config(state.transformer, new / name)
            _write_transformer(new / name, state, progress)
        write_defaults(model, new)
        (new / CARD).write_text(model_card(pruned, scores=scores), encoding="utf-8")
    return Path(folder)


def diffusers_bytes(pruned: PrunedModel) -> int:
    """Bytes of the folder that `write_diffusers` makes, exactly but for some thousand of tokenizers and settings."""
    return written_bytes(pruned.model) + sum(
        _transformer_bytes(PrunedState(pruned, name)) for name in transformers_of(pruned.model.pipeline)
    )


def _write_transformer(folder: Path, state: PrunedState, progress: Progress | None) -> None:
    dtype = state.exact_in
    blank = state.stored(dtype)
    shards = _shards(state.transformer, blank)
    done = 0
    for file, names in shards.items():

        def told(place: int, total: int, what: str, before: int = done) -> None:
            progress(before + place, len(blank), what)

        own = {name: blank[name] for name in names}
        write_weights(folder / file, own, lambda name: state.as_stored(name, dtype), {}, progress and told)
        done += len(names)
    if len(shards) > 1:
        (folder / f"{_STEM}.safetensors.index.json").write_text(_index(shards, blank), encoding="utf-8")


def _transformer_bytes(state: PrunedState) -> int:
    blank = state.stored(state.exact_in)
    shards = _shards(state.transformer, blank)
    index = len(_index(shards, blank).encode()) if len(shards) > 1 else 0
    return index + sum(file_bytes({name: blank[name] for name in names}, {}) for names in shards.values())


def _index(shards: Mapping[str, list[str]], blank: Mapping[str, Tensor]) -> str:
    places = {name: file for file, names in shards.items() for name in names}
    content = {"metadata": {"total_size": sum(tensor.nbytes for tensor in blank.values())}, "weight_map": places}
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _shards(transformer: nn.Module, blank: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """File → names of its tensors: as the transformer came, else as diffusers would split it."""
    groups = _source_groups(transformer, blank)
    if groups is None:
        from huggingface_hub import split_torch_state_dict_into_shards

        empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in blank.items()}
        split = split_torch_state_dict_into_shards(empty, max_shard_size=_SHARD)
        groups = list(split.filename_to_tensors.values())
    if len(groups) == 1:
        return {f"{_STEM}.safetensors": groups[0]}
    return {f"{_STEM}-{place:05d}-of-{len(groups):05d}.safetensors": names for place, names in enumerate(groups, 1)}


def _source_groups(transformer: nn.Module, blank: Mapping[str, Tensor]) -> list[list[str]] | None:
    """The names in each file of the folder that the transformer came from; None unless these are several of them."""
    place = getattr(transformer, "config", {}).get("_name_or_path")
    if not place or not Path(place).is_dir():
        return None
    try:
        part = find_part("", Path(place), type(transformer), "diffusers", "")
    except UserError:  # it has gone, or the weights came from elsewhere
        return None
    if len(part.files) == 1 or part.tensors.keys() != blank.keys():
        return None
    groups: dict[str, list[str]] = {file: [] for file in part.files}
    for name in blank:
        groups[part.tensors[name].file].append(name)
    return [names for names in groups.values() if names]
