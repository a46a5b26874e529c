"""What every exported model says of itself: where it came from and how it was pruned."""

from __future__ import annotations

import json

from dit_prune_viz.pipelines.hub import is_hub_id
from dit_prune_viz.pipelines.load_settings import split_hub_path
from dit_prune_viz.pipelines.source import local_path
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe


def recipe_of(pruned: PrunedModel) -> Recipe:
    """The recipe that gives this model again, with all that was changed by hand since it was planned."""
    return pruned.plan.as_recipe()


def about(pruned: PrunedModel) -> dict[str, str]:
    """Entries for the header of a file, texts all of them. No path of this machine is among them."""
    report = pruned.report
    return {
        "recipe": recipe_of(pruned).to_json(indent=None),
        "base_model": pruned.model.name,
        "fingerprint": pruned.model.fingerprint,
        "pruned": json.dumps({"removed": report.removed, "prunable": report.weights, "remaining": report.remaining}),
    }


def hub_ids(pruned: PrunedModel) -> tuple[str, ...]:
    """The hub models that a model was loaded from; none where it came from this machine."""
    settings = pruned.model.settings
    named = [pruned.model.source, *([settings.base] if settings is not None and settings.base else [])]
    ids = (split_hub_path(name)[0] for name in named if local_path(name) is None)
    return tuple(one for one in ids if is_hub_id(one))
