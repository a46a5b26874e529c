"""One way through the whole product for a tiny pipeline of any family."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.experiments.experiment import Experiment
from dit_prune_viz.experiments.levels import Level
from dit_prune_viz.experiments.run import run
from dit_prune_viz.generation.preview import decode
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import Step, stream
from dit_prune_viz.pipelines.model import Model, load_model
from dit_prune_viz.pruning.named_recipes import find_recipes
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.pruned_model import PrunedModel

SPARSITY = 0.37
STEPS = 2
_OTHER = {
    "hidream": {"height": 128, "width": 128},
    "kandinsky5": {"height": 1024, "width": 1024},
    "ideogram4": {"max_sequence_length": 64},
    "flux2-klein": {"max_sequence_length": 64},
}


@dataclass(frozen=True, eq=False)
class Driven:
    """What came of a family: its model, calibration, pruned model, the steps of a dense and of a pruned picture, and
    the model's weights before and after, as digests. seen: the dense latents decoded as a preview would be."""

    model: Model
    calibration: Calibration
    pruned: PrunedModel
    dense_steps: list[Step]
    pruned_steps: list[Step]
    seen: tuple
    before: str
    after: str

    @property
    def wanted_removed(self) -> int:
        """How many weights the plan has to take by hand count: floor(n·s) of each group that is ranked."""
        total = 0
        for plan in self.pruned.plan.layers.values():
            rows, columns = self.model.layer(plan.name).shape
            groups = {"layer": (1, rows * columns), "row": (rows, columns), "column": (columns, rows)}
            count, size = groups[plan.granularity]
            total += count * (size * 37 // 100)
        return total

    @property
    def removed(self) -> int:
        """How many weights are zero in the masks."""
        return sum(int((~layer.mask.unpack()).sum()) for layer in self.pruned.layers.values())

    @property
    def preview_error(self) -> int | None:
        """The largest difference of a value between the finished picture and its latents as a preview shows them."""
        if not self.seen:
            return None
        pictures = [np.asarray(image, dtype=int) for image in (self.seen[0], self.dense_steps[-1].image)]
        return int(np.abs(pictures[0] - pictures[1]).max())


UNSET = 1e3
"""No class starts its weights beyond this; what is NaN is not below it either."""


def save(name: str, build: Callable[[], object], folder: Path) -> Path:
    """Save a tiny pipeline with defaults that fit it. What its class starts at zero, such as a final layer, gets some
    noise: otherwise no weight of the blocks would change the picture. So does what it leaves as the memory was, NaN
    perhaps."""
    torch.manual_seed(0)
    pipeline = build()
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            for parameter in part.parameters():
                if not parameter.any() or not (parameter.abs() < UNSET).all():
                    nn.init.normal_(parameter.data, std=0.05)
    pipeline.save_pretrained(folder)
    defaults = {"height": 64, "width": 64, "steps": STEPS, **_OTHER.get(name, {})}
    if name != "dit":
        defaults["prompts"] = ["a cat", "a red bus"]
    (folder / "generation_defaults.json").write_text(json.dumps(defaults))
    return folder


def drive(name: str, build: Callable[[], object], folder: Path) -> Driven:
    """Save, load, calibrate, prune and draw dense and pruned."""
    model = load_model(save(name, build, folder), device="cpu", dtype="float32")
    before = digest(model.transformer)
    calibration = calibrate(model, samples=6)
    pruned = prune(model, "dit-pruning", sparsity=SPARSITY, statistics=Statistics(model, calibration))
    request = Request(model.defaults.prompts[0], 0, STEPS)
    dense_steps = list(stream(model, request, preview_every=1))
    pruned_steps = list(stream(model, request, layers=pruned.layers, preview_every=1))
    defaults = model.defaults
    with torch.no_grad():
        seen = decode(model.pipeline, dense_steps[-1].latents, defaults.height, defaults.width)
    after = digest(model.transformer)
    return Driven(model, calibration, pruned, dense_steps, pruned_steps, seen, before, after)


def experiment_rows(driven: Driven, folder: Path) -> tuple:
    """The rows of a small experiment."""
    prompts = driven.model.defaults.prompts
    experiment = Experiment(
        recipes=find_recipes("magnitude"),
        levels=(Level(SPARSITY),),
        prompts=prompts[:1],
        calibration_prompts=prompts[1:],
        seeds=(0,),
    )
    return run(driven.model, experiment, folder, calibration=driven.calibration).rows


def digest(module: nn.Module) -> str:
    """Of all parameters' names and bits."""
    found = hashlib.sha256()
    for name, parameter in module.named_parameters():
        found.update(name.encode() + parameter.detach().numpy().tobytes())
    return found.hexdigest()
