"""The model card of an exported folder: what it is, how it was pruned, how it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dit_prune_viz.export.about import hub_ids, recipe_of
from dit_prune_viz.formatting import percent
from dit_prune_viz.pipelines.families import call_arguments, draws_classes, frames_argument
from dit_prune_viz.pipelines.input_picture import wants_picture
from dit_prune_viz.pipelines.known_models import KNOWN_MODELS
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.report import PlanReport

_SIMPLE = (str, int, float, list, type(None))
"""Kinds of arguments that can be written down."""


def model_card(pruned: PrunedModel, *, scores: Mapping[str, object] | None = None) -> str:
    """A model card in Markdown, with the head that the hub reads.

    Args:
        pruned: what was exported; its masks are made.
        scores: name → number or text, left out unless given.
    """
    model, report = pruned.model, pruned.report
    sections = [
        _head(pruned),
        f"# {model.name}, pruned to {percent(report.achieved)} sparsity",
        f"{report.removed:,} of the {report.weights:,} prunable weights of the transformer are zero "
        f"({percent(report.achieved)}); {report.remaining:,} of its {report.parameters:,} parameters are left. "
        f"Predicted damage: {percent(report.damage)}. Pruned after training with dit_prune_viz.",
        *_changes(model),
        "## Load it",
        f"```python\n{_example(model)}\n```",
        *_scores(scores),
        "## Recipe",
        f"```json\n{recipe_of(pruned).to_json()}\n```",
        "## Layers",
        _layers(report),
        "## Licence",
        _licence(pruned),
    ]
    return "\n\n".join(sections) + "\n"


def _head(pruned: PrunedModel) -> str:
    from huggingface_hub import ModelCardData

    pipeline, model = pruned.model.pipeline, pruned.model
    task = None
    if not draws_classes(pipeline) and not wants_picture(pipeline):
        task = "text-to-video" if frames_argument(pipeline) else "text-to-image"
    bases = hub_ids(pruned)
    base = bases[0] if len(bases) == 1 else list(bases) or None
    tags = ["pruning", "sparse", "dit-prune-viz", model.family]
    data = ModelCardData(library_name="diffusers", pipeline_tag=task, base_model=base, tags=tags)
    return f"---\n{data.to_yaml()}\n---"


def _changes(model: Model) -> list[str]:
    """What else the weights differ in from those of the model that was loaded."""
    settings = model.settings
    if settings is None:
        return []
    said = []
    if settings.loras:
        named = ", ".join(
            f"{lora.source.replace(chr(92), '/').rpartition('/')[2]} × {lora.scale:g}" for lora in settings.loras
        )
        said.append(f"LoRAs were fused into the weights before pruning: {named}.")
    if settings.dequantize:
        said.append("Quantised weights were made plain before pruning.")
    return [" ".join(said)] if said else []


def _example(model: Model) -> str:
    lines = [
        "import torch",
        "from diffusers import DiffusionPipeline",
        "",
        f'pipeline = DiffusionPipeline.from_pretrained("path/to/this/folder", torch_dtype={model.dtype})',
    ]
    call = None if wants_picture(model.pipeline) else _call(model)
    return "\n".join(lines if call is None else [*lines, call])


def _call(model: Model) -> str:
    pipeline, defaults = model.pipeline, model.defaults
    arguments = call_arguments(
        pipeline,
        defaults.prompts[:1],
        steps=defaults.steps,
        guidance_scale=defaults.guidance_scale,
        height=defaults.height,
        width=defaults.width,
        max_sequence_length=defaults.max_sequence_length,
    )
    asked = "class_labels" if draws_classes(pipeline) else "prompt"
    simple = {asked: arguments.pop(asked)} | arguments
    simple = {
        name: value[0] if isinstance(value, list) and name != "class_labels" else value
        for name, value in simple.items()
    }
    written = "".join(
        f"    {name}={json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)},\n"
        for name, value in simple.items()
        if isinstance(value, _SIMPLE)
    )
    return f"image = pipeline(\n{written}).{'frames' if frames_argument(pipeline) else 'images'}[0]"


def _scores(scores: Mapping[str, object] | None) -> list[str]:
    if not scores:
        return []
    rows = [
        f"| {name} | {value:.4g} |" if isinstance(value, float) else f"| {name} | {value} |"
        for name, value in scores.items()
    ]
    return ["## Scores", "\n".join(["| score | value |", "|---|--:|", *rows])]


def _layers(report: PlanReport) -> str:
    rows = [
        f"| {layer.name} | {layer.granularity} | {layer.removed:,} of {layer.weights:,} | {percent(layer.sparsity)} "
        f"| {percent(layer.damage)} |"
        for layer in report.layers
    ]
    head = ["| layer | ranked by | removed | sparsity | predicted damage |", "|---|---|--:|--:|--:|"]
    table = "\n".join([*head, *rows])
    return f"<details><summary>{len(rows)} layers</summary>\n\n{table}\n\n</details>"


def _licence(pruned: PrunedModel) -> str:
    known = [KNOWN_MODELS[one] for one in hub_ids(pruned) if one in KNOWN_MODELS]
    said = "".join(f" {one.name} is published under: {one.licence}." for one in known)
    return f"The licence of the base model applies, to the pruned weights too.{said}"
