"""Tools for programs that keep nothing between calls: each takes a recipe and answers with all that came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from PIL.Image import Image

from dit_prune_viz.app.session import packed, parts_file, takeaway
from dit_prune_viz.app.session.analyzer import find_all
from dit_prune_viz.app.session.answers import describe_calibration, describe_model, describe_plan, describe_scores
from dit_prune_viz.app.session.comparison import check_prompts, compare
from dit_prune_viz.app.session.drawn_model import ONLY, WITHOUT
from dit_prune_viz.app.session.jobs import Reporter
from dit_prune_viz.app.session.parts import BLOCKS, KINDS_OF_LAYERS, parts_of
from dit_prune_viz.app.session.recipe_io import recipe_in_words
from dit_prune_viz.app.session.recipe_sessions import RecipeSessions
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.checks import brief, check_switch, check_words, whole
from dit_prune_viz.errors import UserError
from dit_prune_viz.export.ways import WAYS
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.base import Method
from dit_prune_viz.methods.catalogue import methods_of
from dit_prune_viz.methods.granularity.base import Granularity
from dit_prune_viz.methods.saliency.base import Saliency
from dit_prune_viz.methods.search.base import Search
from dit_prune_viz.methods.update.base import Update
from dit_prune_viz.pipelines.kinds import KINDS
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES

MOST_PIXELS = 4096
_WORST = 8
"""So many layers with the greatest damage are named beside the summary."""
_KINDS_OF_METHODS: tuple[type[Method], ...] = (Saliency, Granularity, Allocation, Search, Update)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a tool found.

    Attributes:
        values: in JSON's types.
        pictures: each with what it shows, in the order in which `values["pictures"]` names them.
    """

    values: Mapping[str, Any]
    pictures: Sequence[tuple[str, Image]] = ()


class AgentTools:
    """The tools. Every one reports how far it is, and may be stopped by what it reports to.

    Args:
        sessions: finds the session of a recipe or of an id.
    """

    def __init__(self, sessions: RecipeSessions) -> None:
        self._sessions = sessions

    def describe_model(self, report: Reporter, *, session: str | None = None, layers: bool = False) -> Answer:
        """The model: its size, kinds of layers, settings to draw with; its layers where they are asked for."""
        found = self._sessions.base(session, report)
        model, values = found.need_model(), describe_model(found)
        every = values.pop("layers")
        kinds = [
            {"kind": kind, "layers": len(own), "weights": sum(layer.weights for layer in own)}
            for kind in KINDS
            if (own := [layer for layer in model.layers if layer.kind == kind])
        ]
        values |= {
            "blocks": [part.name for part in parts_of(found, BLOCKS)],
            "kinds": kinds,
            "defaults": asdict(model.defaults),
            "calibration": describe_calibration(found) if found.calibration else None,
        }
        return Answer(values | ({"layers": every} if check_switch(layers, "layers") else {}))

    def list_recipes(self, report: Reporter) -> Answer:
        """Recipes that have a name, the methods that they are made of, and the ways to take a model away."""
        methods = {
            kind.kind: [
                {"name": name, "label": one.label, "formula": one.formula, "paper": one.paper}
                for name, one in methods_of(kind).items()
            ]
            for kind in _KINDS_OF_METHODS
        }
        named = [
            {"name": one.name, "explanation": one.explanation, "changes": one.recipe.changes}
            for one in NAMED_RECIPES.values()
        ]
        ways = [{"name": way.name, "words": takeaway.WORDS[way.name]} for way in WAYS.values()]
        return Answer({"recipes": named, "methods": methods, "ways": ways})

    def prune(
        self,
        report: Reporter,
        *,
        recipe: object = None,
        sparsity: float | None = None,
        session: str | None = None,
        layers: bool = False,
    ) -> Answer:
        """What a recipe takes from every kind of layer, what that costs and how large the result is when packed."""
        return Answer(_plan_values(self._sessions.pruned(recipe, sparsity, session, report), layers))

    def compare(
        self,
        report: Reporter,
        *,
        recipe: object = None,
        sparsity: float | None = None,
        session: str | None = None,
        prompts: Sequence[str] | None = None,
        seed: int = 0,
        steps: int | None = None,
        pictures: bool = True,
        largest: int = 512,
    ) -> Answer:
        """The dense model's pictures beside the pruned one's, from the same noise, with CLIP, SSIM and PSNR."""
        shown, largest = check_switch(pictures, "pictures"), _side(largest)
        found = self._sessions.pruned(recipe, sparsity, session, report)
        requests = _drawing(found, prompts, seed, steps)
        done = compare(found, [one.prompt for one in requests], requests[0].seed, requests[0].steps, progress=report)
        every = [
            (f"{side.name}: {request.prompt}", _fit(image, largest))
            for side in (done.left, done.right)
            for request, image in zip(requests, side.images, strict=True)
        ]
        rows = zip(requests, done.left.clips, done.right.clips, done.ssims, done.psnrs, strict=True)
        values = {
            **describe_scores(done),
            "seed": requests[0].seed,
            "steps": requests[0].steps,
            "prompts": [
                {"prompt": one.prompt, "clip_dense": dense, "clip_pruned": pruned, "ssim": ssim, "psnr": psnr}
                for one, dense, pruned, ssim, psnr in rows
            ],
            "achieved": found.report.achieved,
            "damage": found.report.damage,
        }
        return _with_pictures(values, every if shown else ())

    def paint(
        self,
        report: Reporter,
        *,
        by: str = BLOCKS,
        chosen: Sequence[str] | None = None,
        prompts: Sequence[str] | None = None,
        seed: int = 0,
        steps: int | None = None,
        keep: bool = False,
        measured: bool = True,
        session: str | None = None,
        largest: int = 2048,
    ) -> Answer:
        """What each block or kind of layer paints: the pictures without it, or with it alone, on one sheet."""
        mode, measured = ONLY if check_switch(keep, "keep") else WITHOUT, check_switch(measured, "measured")
        largest = _side(largest)
        if by not in (BLOCKS, KINDS_OF_LAYERS):
            raise UserError(f"Parts are chosen by {BLOCKS} or by {KINDS_OF_LAYERS}, not by {brief(by)}.")
        found = self._sessions.base(session, report)
        parts = parts_of(found, by, chosen=check_words(chosen, "chosen"))
        requests = _drawing(found, prompts, seed, steps)
        findings = find_all(found, parts, requests, mode=mode, sparsity=1.0, measured=measured, progress=report)
        values = parts_file.values_of(findings)
        values["parts"] = [{**one, "layers": len(one["layers"])} for one in values["parts"]]
        return _with_pictures(values, [("every part with its difference", _fit(parts_file.sheet(findings), largest))])

    def export(
        self,
        report: Reporter,
        *,
        recipe: object = None,
        sparsity: float | None = None,
        session: str | None = None,
        way: str = "packed",
        name: str | None = None,
        overwrite: bool = False,
    ) -> Answer:
        """Write the pruned model in one way below the app's output folder."""
        overwrite = check_switch(overwrite, "overwrite")
        if name is not None:
            takeaway.check_name(name)  # before any work
        found = self._sessions.pruned(recipe, sparsity, session, report)
        name, folder = takeaway.suggested_name(found) if name is None else name, self._sessions.out
        taken = takeaway.take(found, way, name, folder=folder, overwrite=overwrite, progress=report)
        values = {"way": taken.way.name, "path": str(taken.path), "bytes": taken.nbytes}
        return Answer(values | {"achieved": found.report.achieved, "words": takeaway.WORDS[taken.way.name]})


def _plan_values(session: Session, layers: bool) -> dict[str, Any]:
    every = check_switch(layers, "layers")
    _ = session.model.pipeline  # opened now, where it waits for a first use: what is told of its size waits for it
    packed.prepare(session.model)
    size, sizes = packed.known(session), packed.by_layer(session) or {}
    plan, kinds = describe_plan(session), {layer.name: layer.kind for layer in session.model.layers}
    rows = [{**one, "packed_bytes": sizes.get(one["name"])} for one in plan.pop("layers")]
    reports = session.report.layers
    by_kind = []
    for kind in dict.fromkeys(sorted(kinds.values(), key=KINDS.index)):
        own = [one for one in reports if kinds[one.name] == kind]
        weights = sum(one.weights for one in own)
        by_kind.append(
            {
                "kind": kind,
                "layers": len(own),
                "weights": weights,
                "sparsity": sum(one.removed for one in own) / weights,
                "damage": sum(one.damage * one.weights for one in own) / weights,
                "packed_bytes": sum(sizes[one.name] for one in own) if sizes else None,
            }
        )
    return {
        "model": session.model.name,
        "words": recipe_in_words(session),
        "recipe": session.plan.as_recipe().to_dict(),
        **plan,
        "damage": session.report.damage,
        "packed": None if size is None else {"bytes": size.nbytes, "dense_bytes": size.dense, "exact": size.exact},
        "kinds": by_kind,
        "most_damaged": sorted(rows, key=lambda one: -one["damage"])[:_WORST],
        **({"layers": rows} if every else {}),
    }


def _drawing(session: Session, prompts: object, seed: object, steps: object):
    """Checked requests; the model's own first prompt and number of steps where none are given."""
    defaults = session.need_model().defaults
    texts = check_words(prompts, "prompts") or defaults.prompts[:1]
    return check_prompts(session.model, texts, seed, defaults.steps if steps is None else steps)


def _side(largest: object) -> int:
    return whole(largest, "The longer side of a picture in pixels (largest)", 16, MOST_PIXELS)


def _fit(image: Image, largest: int) -> Image:
    """A picture for a reader with little room; scores are those of the full one."""
    if max(image.size) <= largest:
        return image
    small = image.copy()
    small.thumbnail((largest, largest))
    return small


def _with_pictures(values: Mapping[str, Any], pictures: Sequence[tuple[str, Image]]) -> Answer:
    return Answer({**values, "pictures": [caption for caption, _ in pictures]}, pictures)


Tool = Callable[..., Answer]
"""A method of `AgentTools`: takes a job's `Reporter` and keywords."""
