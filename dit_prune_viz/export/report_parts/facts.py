"""What a report says in words and numbers: the first screen, the model, the recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dit_prune_viz.calibration.settings import steps_of_run
from dit_prune_viz.export.report_parts.content import Fact, Pair, RecipeContent
from dit_prune_viz.export.stored_bytes import dense_bytes
from dit_prune_viz.formatting import count, percent, seconds, signed, size
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.catalogue import find_method
from dit_prune_viz.methods.granularity.base import Granularity
from dit_prune_viz.metrics.clip_mean import mean_clip
from dit_prune_viz.pipelines.dense_parts import dense_sentence
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.named_recipes import name_of
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe_file import recipe_text
from dit_prune_viz.pruning.recipe_words import in_words, label_of
from dit_prune_viz.pruning.report import PlanReport

_KNOWN = ("clip", "clip_dense", "clip_name", "ssim", "psnr", "prompts", "seeds")
"""Scores that have a place of their own on the first screen."""


def headline(pruned: PrunedModel, scores: Mapping[str, object], packed_bytes: int | None) -> tuple[Fact, ...]:
    """How sparse, how many bytes, and what it cost, in that order.

    Args:
        pruned: what is reported.
        scores: see `pictures_scores`; whatever it has besides comes last.
        packed_bytes: of the transformer in the packed format, where that is known.
    """
    report, model = pruned.report, pruned.model
    facts = [
        Fact(
            "Pruned",
            percent(report.achieved),
            f"{report.removed:,} of {report.weights:,} prunable weights are zero",
        ),
        Fact("Parameters left", count(report.remaining), f"of {count(report.parameters)} in the transformer"),
    ]
    dense = dense_bytes(model)
    if packed_bytes:
        detail = f"{dense / packed_bytes:.1f} times smaller than the dense one, {size(dense)} as stored"
        facts.append(Fact("Packed transformer", size(packed_bytes), detail))
    else:
        facts.append(Fact("Dense transformer", size(dense), "as stored, before anything is saved"))
    guess = "≈ " if report.estimated else ""
    lost = "share of the layers' output energy that the masks remove, weighted by their number of weights"
    facts.append(Fact("Predicted damage", f"{guess}{percent(report.damage)}", lost))
    facts.extend(_scored(scores))
    return tuple(facts)


def pictures_scores(pairs: Sequence[Pair]) -> dict[str, object]:
    """The mean scores of pictures, by the names that `headline` knows: clip, clip_dense, clip_name, ssim, prompts."""
    scores: dict[str, object] = {"prompts": len({pair.prompt for pair in pairs}), "seeds": len({p.seed for p in pairs})}
    clips = [pair.clip for pair in pairs if pair.clip]
    if clips and len({pair.clip_name for pair in pairs if pair.clip}) == 1:
        scores["clip_dense"], scores["clip"] = (mean_clip(side) for side in zip(*clips, strict=True))
        scores["clip_name"] = next(pair.clip_name for pair in pairs if pair.clip)
    similar = [pair.ssim for pair in pairs if pair.ssim is not None]
    if similar:
        scores["ssim"] = sum(similar) / len(similar)
    return scores


def _scored(scores: Mapping[str, object]) -> list[Fact]:
    over = _over(scores)
    facts = []
    if _number(scores.get("clip")):
        clip, dense = scores["clip"], scores.get("clip_dense")
        against = f"dense {dense:.2f}, difference {signed(clip - dense)}" if _number(dense) else ""
        by = f"by {scores['clip_name']}" if scores.get("clip_name") else ""
        facts.append(Fact("CLIP score", f"{clip:.2f}", "; ".join(filter(None, (against, by, over)))))
    if _number(scores.get("ssim")):
        detail = "; ".join(filter(None, ("to the dense model's pictures, 1 is equal", over)))
        facts.append(Fact("SSIM", f"{scores['ssim']:.3f}", detail))
    if _number(scores.get("psnr")):
        facts.append(Fact("PSNR", f"{scores['psnr']:.1f} dB", "to the dense model's pictures; more is closer"))
    for name, value in scores.items():
        if name not in _KNOWN and value is not None:
            facts.append(Fact(str(name), f"{value:.4g}" if _number(value) else str(value)))
    return facts


def _over(scores: Mapping[str, object]) -> str:
    prompts, seeds = scores.get("prompts"), scores.get("seeds")
    if not isinstance(prompts, int) or not prompts:
        return ""
    words = "1 prompt" if prompts == 1 else f"mean over {prompts:,} prompts"
    return f"{words} × {seeds} seeds" if isinstance(seeds, int) and seeds > 1 else words


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def model_facts(model: Model) -> tuple[Fact, ...]:
    """Which model it is, and what of it is prunable."""
    blocks = len({layer.block for layer in model.layers})
    dense = dense_sentence(model.dense_parts, model.parameters)
    return (
        Fact("Model", model.name),
        Fact("Pipeline", type(model.pipeline).__name__),
        Fact("Transformer", f"{count(model.parameters)} parameters in {type(model.transformer).__name__}", dense),
        Fact("Prunable layers", f"{len(model.layers):,}", f"in {blocks:,} blocks"),
        Fact("Precision", str(model.dtype).removeprefix("torch."), f"on {model.device.type}"),
        Fact("Fingerprint", model.fingerprint[:16], "of configuration, shapes and a sample of the weights"),
    )


def recipe_content(pruned: PrunedModel) -> RecipeContent:
    """The recipe in words, setting by setting, and as the file that replays it."""
    words = in_words(pruned.plan.as_recipe(), pruned.model)
    return RecipeContent(words, tuple(_settings(pruned)), recipe_text(pruned, pruned.model))


def _settings(pruned: PrunedModel):
    recipe = pruned.recipe
    name = name_of(recipe)
    if name:
        yield Fact("Named recipe", label_of(name))
    yield Fact("Target sparsity", percent(recipe.sparsity), _achieved(pruned.report))
    yield _method("Saliency", recipe.method)
    if n_of_m(recipe.granularity):
        yield Fact("Granularity", recipe.granularity, "of every group of inputs so many are kept at most")
    else:
        yield _method("Granularity", find_method(Granularity, recipe.resolved_granularity))
    if pruned.plan.threshold is not None:
        ranked = sum(layer.granularity == "row" for layer in pruned.report.layers)
        detail = f"{ranked} of {len(pruned.report.layers)} layers lie above it and are ranked row by row"
        yield Fact("Threshold of row heterogeneity (G_out)", f"{pruned.plan.threshold:.4g}", detail)
    share = find_method(Allocation, recipe.allocation)
    weighed = "; weighted by measured sensitivity" if recipe.sensitivity else ""
    yield Fact("Allocation", share.title, f"{share.formula}{weighed}")
    if recipe.ignore:
        yield Fact("Kept dense", ", ".join(recipe.ignore))
    if recipe.bounds:
        words = [f"{one.pattern}: {percent(one.least)} to {percent(one.greatest)}" for one in recipe.bounds]
        yield Fact("Bounds of layers", "; ".join(words))
    for search in recipe.searches:
        yield _method("Search", search)
    if recipe.updater:
        yield _method("Update", recipe.updater)
    if recipe.timestep != "uniform":
        yield Fact("Timestep weights", recipe.timestep)
    switches = [word for word in ("centred", "sequential") if getattr(recipe, word)]
    if switches:
        yield Fact("Also", ", ".join(switches))
    settings = recipe.calibration
    steps = steps_of_run(pruned.model, settings.steps)
    prompts = f"{len(settings.prompts):,} given prompts" if settings.prompts else "the model's own prompts"
    detail = f"from runs of {steps} steps of {prompts}, {settings.bins} timestep bins, seed {settings.seed}"
    yield Fact("Calibration", f"{settings.samples:,} transformer inputs", detail)
    if pruned.seconds:
        yield Fact("Time to prune", seconds(pruned.seconds), "without calibration and what was known before")


def _achieved(report: PlanReport) -> str:
    return f"achieved: {percent(report.achieved)}, {report.removed:,} of {report.weights:,} weights"


def _method(label: str, method) -> Fact:
    paper = f"{method.formula} ({method.paper})" if method.paper else method.formula
    return Fact(label, method.title, paper)
