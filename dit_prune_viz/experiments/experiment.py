"""What an experiment is: checked, described, and recognised when it is asked for again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from dit_prune_viz.calibration.settings import steps_of_run
from dit_prune_viz.checks import whole
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.levels import Level, level_of
from dit_prune_viz.experiments.requests import requests_for
from dit_prune_viz.generation.request import Request
from dit_prune_viz.metrics.clip import ClipScorer
from dit_prune_viz.pipelines.families import described
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.named_recipes import DENSE, NamedRecipe
from dit_prune_viz.whole_file import write_whole

DESCRIPTION = "experiment.json"
_FORMAT = 2  # in format 1 each CLIP score was clamped by itself
_MAX_SEEDS = 1000


@dataclass(frozen=True)
class Experiment:
    """What to measure.

    recipes × levels × seeds are the cells; each draws every one of `prompts`, from a noise of its own per prompt and
    seed. steps, guidance_scale, height, width: None takes the model's default. frames and picture as in `Request`.
    calibration_prompts must have no prompt in common with `prompts`; samples and calibration_seed as in `calibrate`.
    categories: of the prompts, one each, or none; no number depends on them. plans: recipes that are measured as they
    are, each at the level that is what came of it.
    """

    recipes: tuple[NamedRecipe, ...]
    levels: tuple[Level, ...]
    prompts: tuple[str, ...]
    calibration_prompts: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int | None = None
    guidance_scale: float | None = None
    height: int | None = None
    width: int | None = None
    frames: int = 1
    picture: bytes | None = None
    samples: int = 128
    calibration_seed: int = 0
    categories: tuple[str, ...] = ()
    plans: tuple[tuple[NamedRecipe, Level], ...] = ()

    def drawing(self, model: Model) -> Request:
        """The settings of every picture, as a request without prompt and seed."""
        steps = model.defaults.steps if self.steps is None else self.steps
        return Request("", 0, steps, self.guidance_scale, self.height, self.width, self.frames, self.picture)

    def cells(self) -> list[tuple[NamedRecipe, Level]]:
        """What is pruned: every recipe at every level, level by level; patterns only where they mean something. Plans
        and recipes with one sparsity come first, each once."""
        fixed = [(named, level_of(named.recipe)) for named in self.recipes if named.recipe.fixed]
        free = [named for named in self.recipes if not named.recipe.fixed]
        pairs = [(named, level) for level in self.levels for named in free]
        return [*self.plans, *fixed] + [
            (named, level) for named, level in pairs if not level.pattern or named.recipe.takes_patterns
        ]


def check(experiment: Experiment) -> None:
    """UserError for the first thing that is wrong: no recipe, level, prompt or seed; a prompt in both sets."""
    for what, values in (("method", experiment.recipes), ("sparsity", experiment.levels)):
        if not values and not experiment.plans:
            raise UserError(f"Choose at least one {what} to compare.")
    if not experiment.cells():
        raise UserError("None of these methods takes a pattern; add a sparsity in percent, or a method such as wanda.")
    names = [recipe.name for recipe in (*experiment.recipes, *(recipe for recipe, _ in experiment.plans))]
    if len(set(names)) < len(names) or DENSE in names:
        raise UserError(f"Every method needs a name of its own, and none is called {DENSE}.")
    if not experiment.prompts or not experiment.calibration_prompts:
        raise UserError("An experiment needs prompts to draw, and other prompts for calibration.")
    if experiment.categories and len(experiment.categories) != len(experiment.prompts):
        raise UserError("An experiment needs a category for every prompt, or none at all.")
    if set(experiment.prompts) & set(experiment.calibration_prompts):
        raise UserError("Some prompts are in both the evaluation and the calibration; hold the evaluated ones out.")
    if not 1 <= len(set(experiment.seeds)) == len(experiment.seeds) <= _MAX_SEEDS:
        raise UserError(f"An experiment needs 1 to {_MAX_SEEDS:,} different seeds.")
    for seed in experiment.seeds:
        whole(seed, "The seed", 0, 2**32 - 1)


def with_seeds(experiment: Experiment, count: int, first: int = 0) -> Experiment:
    """The same experiment with the seeds first, first + 1, … UserError for a count outside 1–1,000."""
    count = whole(count, "The number of seeds", 1, _MAX_SEEDS)
    first = whole(first, "The seed", 0, 2**32 - 1 - count)
    return replace(experiment, seeds=tuple(range(first, first + count)))


def describe(experiment: Experiment, model: Model, clip: ClipScorer | None) -> dict:
    """Everything but recipes, levels and seeds that decides the numbers, as JSON; its digest names the experiment."""
    # A request needs some prompt to be checked, and one for a class-conditional model has to be a class.
    request = requests_for(model, experiment.prompts[:1], 0, experiment.drawing(model))[0]
    drawing = {name: value for name, value in request.settings.items() if name not in ("prompt", "seed")}
    return {
        "format": _FORMAT,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "identity": model.signature[0],  # of the prunable layers as well
        "dtype": str(model.dtype),
        "clip": clip.name if clip else None,
        "drawing": drawing,
        **({"clip words": "names of classes"} if _named_classes(experiment, model) else {}),
        "prompts": list(experiment.prompts),
        "calibration": {
            "samples": experiment.samples,
            "seed": experiment.calibration_seed,
            "prompts": list(experiment.calibration_prompts),
            **({"steps": steps_of_run(model)} if model.large else {}),  # those of others are the model's own
        },
    }


def documented(experiment: Experiment, description: dict) -> dict:
    """What is written down beside the results: the description with its digest, and what explains the numbers without
    deciding them, which must not make them those of another experiment."""
    told = {"categories": list(experiment.categories)} if any(experiment.categories) else {}
    return {**description, "digest": digest(description), **told}


def _named_classes(experiment: Experiment, model: Model) -> bool:
    return any(described(model.pipeline, prompt) != prompt for prompt in experiment.prompts)


def digest(content: object) -> str:
    """A short name for JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def write_description(path: Path, content: dict) -> None:
    """Write `documented` down. UserError if the folder cannot be written to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"{path.parent} cannot be written to ({error.strerror}); choose another folder.") from error


def read_description(folder: Path) -> dict:
    """What the last experiment of `folder` was, as `documented`. UserError if none was run there."""
    try:
        return json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} has no results yet; run an experiment into it first.") from error
