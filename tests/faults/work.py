"""The work that faults strike: load, calibration, masking, search, generation, scoring, sweep and export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tiny_models import TINY_PROMPTS, build_flux

from dit_prune_viz import disk_cache
from dit_prune_viz.app.session.comparison import compare
from dit_prune_viz.app.session.jobs import Jobs, Result
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Progress
from dit_prune_viz.experiments.experiment import Experiment
from dit_prune_viz.experiments.levels import Level
from dit_prune_viz.experiments.results import Results
from dit_prune_viz.experiments.run import RESULTS, run
from dit_prune_viz.export.load_packed import load_packed
from dit_prune_viz.export.ways import export
from dit_prune_viz.generation.batch import draw_batch
from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.pipelines.model import Model, load_model
from dit_prune_viz.pruning.named_recipes import find_recipes
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe

MASKED = Recipe("wanda", sparsity=0.5)
SEARCHED = Recipe("magnitude", sparsity=0.5, search=("swap",), update="least-squares", centred=True)
_FIGURES = ("clip", "ssim", "psnr", "latent_mse")


@dataclass
class Place:
    """Where faults strike: a model that is used all the time, and folders that only one round uses."""

    source: Path
    model: Model
    session: Session
    folder: Path

    @property
    def cache(self) -> DiskCache:
        return DiskCache(self.folder / "cache")

    def forget(self) -> None:
        """Empty the memory of what follows from the model, so that work is done and not looked up."""
        for key in list(self.model.cache._entries):
            self.model.cache._drop(key)


def save_small(folder: Path) -> Path:
    """A tiny FLUX pipeline that draws small pictures from short prompts."""
    build_flux(1, 1).save_pretrained(folder)
    sizes = {"height": 32, "width": 32, "steps": 2, "guidance_scale": 3.0, "max_sequence_length": 16}
    (folder / "generation_defaults.json").write_text(json.dumps({**sizes, "prompts": list(TINY_PROMPTS)}))
    return folder


def make_place(source: Path, clip: Path, folder: Path) -> Place:
    """A model, loaded, calibrated with few inputs and pruned; whatever can be kept on disk is."""
    disk_cache.LONG_SECONDS = -1.0
    session = Session(ModelStore(clip=clip, device="cpu", dtype="float32")).load_model(str(source))
    settings = replace(session.recipe.calibration, samples=2, steps=2)
    session = session.calibrate_as(settings)
    session = session.prune(replace(Recipe("magnitude", sparsity=0.5), calibration=settings))
    return Place(source, session.model, session, folder)


def load(place: Place, progress: Progress) -> str:
    model = load_model(place.source, device="cpu", dtype="float32", progress=progress)
    return of_tensors(dict(model.transformer.named_parameters()))


def calibration(place: Place, progress: Progress) -> str:
    found = calibrate(place.model, samples=2, steps=2, prompts=("a dog",), progress=progress, cache=place.cache)
    return of_tensors({f"{kind} {name}": value for kind in ("sum_squares", "sums")
                       for name, value in getattr(found, kind).items()})  # fmt: skip


def masking(place: Place, progress: Progress) -> str:
    return of_pruned(_pruned(place, MASKED, progress))


def search(place: Place, progress: Progress) -> str:
    return of_pruned(_pruned(place, SEARCHED, progress))


def _pruned(place: Place, recipe: Recipe, progress: Progress | None) -> PrunedModel:
    statistics = Statistics(place.model, place.session.calibration, progress, place.cache)
    pruned = prune(place.model, recipe, statistics=statistics, progress=progress)
    pruned.make_masks(progress)
    return pruned


def generation(place: Place, progress: Progress) -> str:
    """In this thread, dense and pruned."""
    request = check_request(place.model, Request("a cat", seed=3, steps=2))
    drawn = [
        draw_batch(place.model, [request], layers=layers, on_step=lambda step: progress(step.index, step.steps, ""))[0]
        for layers in (None, place.session.pruned.layers)
    ]
    return of_tensors({str(n): picture.latents for n, picture in enumerate(drawn)})


def scoring(place: Place, progress: Progress) -> str:
    """As a page does it: a job in a thread, which draws in another one, and scores."""

    def work(report):
        def both(*step):
            progress(*step)
            report(*step)

        return compare(place.session, "a cat", 4, 2, progress=both)

    (done,) = (one.value for one in Jobs().run("a page", work) if isinstance(one, Result))
    return json.dumps([done.dense.clips, done.right.clips, done.ssims, done.psnrs])


EXPERIMENT = Experiment(
    recipes=find_recipes("wanda"),
    levels=(Level(0.5),),
    prompts=("a cat", "a red bus"),
    calibration_prompts=("two dogs",),
    seeds=(0, 1),
    steps=1,
    samples=2,
)
CELLS = 4


def sweep(place: Place, progress: Progress) -> str:
    folder = place.folder / "sweep"
    outcome = run(
        place.model, EXPERIMENT, folder, clip=place.session.store.clip(), progress=progress, batch=2, cache=place.cache
    )
    whole = Results(folder / RESULTS)
    kept = [row.key for row in whole.rows]
    assert len(kept) == len(set(kept)) == CELLS, f"{len(kept)} rows, {len(set(kept))} cells"
    assert list(outcome.rows) == sorted(whole.rows, key=lambda row: [one.key for one in outcome.rows].index(row.key))
    return json.dumps([[row.recipe, row.level, row.seed, row.damage, row.scores, row.nbytes] for row in outcome.rows])


def exporting(place: Place, progress: Progress) -> str:
    """A packed folder, a diffusers folder, a file of a recipe; each is there as a whole or not at all."""
    found = []
    for way, name in (("packed", "packed"), ("diffusers", "diffusers"), ("recipe", "recipe.json")):
        target = place.folder / "out" / name
        if not target.exists():
            export(place.session.pruned, target, way, progress=progress)
        found.append(of_files(target))
    return json.dumps(found)


STAGES: Mapping[str, Callable[[Place, Progress], str]] = {
    "load": load,
    "calibration": calibration,
    "masking": masking,
    "search": search,
    "generation": generation,
    "scoring": scoring,
    "sweep": sweep,
    "export": exporting,
}
"""What is done: each returns a text that is the same whenever it was done right."""


def read_back(place: Place) -> None:
    """Whatever lies in the folder of exports can be opened."""
    packed = place.folder / "out" / "packed"
    if packed.exists():
        load_packed(packed)


def of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def of_pruned(pruned: PrunedModel) -> str:
    tensors = {}
    for name, layer in pruned.layers.items():
        tensors[f"{name} mask"] = layer.mask.bits
        if layer.new is not None:
            tensors[f"{name} new"] = layer.new
        if layer.bias is not None:
            tensors[f"{name} bias"] = layer.bias
    return of_tensors(tensors)


def of_files(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return {str(one.relative_to(path.parent)): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}
