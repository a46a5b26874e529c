"""A workspace as JSON values and pictures, and back: its plan with clusters and groups, and the comparisons of plans.

Not kept: the steps that could be undone, comparisons of single parts of a model or from an uploaded picture, and
clusters that nobody has changed, which are found again. The trade-off's rows are kept by the trade-off itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from PIL.Image import Image

from dit_prune_viz.app.session.comparison_result import Side, measure
from dit_prune_viz.app.session.contact_sheet import thumbnail
from dit_prune_viz.app.session.drawn_model import DrawnModel
from dit_prune_viz.app.session.plan_name import PlanName
from dit_prune_viz.app.session.recipe_io import open_recipe, save_recipe_text
from dit_prune_viz.app.session.runs import Run, Runs
from dit_prune_viz.app.session.session import Sensed, Session
from dit_prune_viz.clustering.clusters import Clusters, Tag
from dit_prune_viz.clustering.packed_labels import PackedLabels, pack_labels
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.generation.request import Request
from dit_prune_viz.pruning.recipe import Recipe

FORMAT = 1
UNREADABLE = "The work that was saved for this session cannot be read; it begins anew."

Keep = Callable[[Image], str | None]
"""Keeps a picture and answers with its name; None where there is no room."""
Load = Callable[[str], Image]
"""The picture of a name."""


@dataclass(frozen=True, eq=False)
class Restored:
    """What came back: a session, and its comparisons, the newest first; shown and a are numbers of them."""

    session: Session
    runs: tuple[Run, ...]
    shown: int | None = None
    a: int | None = None


def values_of(session: Session | None, runs: Runs, keep: Keep) -> dict[str, Any] | None:
    """A workspace in JSON's types; None where there is no plan to be saved."""
    if session is None or session.pruned is None:
        return None
    texts: dict[int, str] = {}

    def text_of(one: Session) -> str:
        return texts.setdefault(id(one.pruned), save_recipe_text(one))

    present, held = text_of(session), []
    for run in runs.runs:
        if run.is_plan and run.session.model is session.model and run.comparison.requests[0].picture is None:
            values = _values_of_run(run, keep)
            if values is None:
                break  # no room for this one nor for older ones
            held.append({**values, "recipe": text_of(run.session)})
    return {
        "format": FORMAT,
        "saved": time.time(),
        "model": {"name": session.model.name, "fingerprint": session.model.fingerprint},
        "recipe": present,
        "name": _values_of_name(session),
        "groups": None if session.groups is None else _values_of_clusters(session.groups),
        "sensed": [{"recipe": one.recipe.to_dict(), "errors": dict(one.errors)} for one in session.sensed],
        "runs": [{**run, "recipe": None if run["recipe"] == present else run["recipe"]} for run in held],
        "shown": runs.shown.number if runs.shown else None,
        "a": runs.a.run if runs.a else None,
    }


def restore(values: Mapping[str, Any], session: Session, load: Load, progress: Progress | None = None) -> Restored:
    """The workspace that `values_of` told of, on the model of a session.

    Raises:
        UserError: it was made for another model, or cannot be read.
    """
    try:
        return _restore(values, session, load, progress)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError) as problem:
        raise UserError(UNREADABLE) from problem


def _restore(values: Mapping[str, Any], session: Session, load: Load, progress: Progress | None) -> Restored:
    if values["format"] != FORMAT:
        raise ValueError("another format")
    present = open_recipe(session, values["recipe"], progress=progress)[0]
    sensed = tuple(Sensed(Recipe.from_dict(one["recipe"]), dict(one["errors"])) for one in values["sensed"])
    groups = None if values["groups"] is None else _clusters(values["groups"], len(present.model.layers))
    present = _named(replace(present, sensed=sensed, groups=groups), values["name"])
    sessions, runs = {None: present}, []
    for place, one in enumerate(values["runs"], 1):
        if progress:
            progress(place - 1, len(values["runs"]), f"Bringing back comparison {place}")
        with suppress(OSError):  # a picture is gone or damaged: the plan and the other comparisons are whole
            if one["recipe"] not in sessions:
                sessions[one["recipe"]] = open_recipe(present, one["recipe"])[0]
            runs.append(_run(one, sessions[one["recipe"]], load))
    return Restored(present, tuple(runs), values["shown"], values["a"])


def _values_of_name(session: Session) -> dict[str, Any] | None:
    if session.name is None:
        return None
    return {"text": session.name.text, "own": session.name.plan is session.plan}


def _named(session: Session, name: Mapping[str, Any] | None) -> Session:
    if name is None:
        return session
    if name["own"]:
        return session.named(name["text"])
    return replace(session, name=PlanName(name["text"], replace(session.plan)))  # of another plan, this one's origin


def _values_of_clusters(clusters: Clusters) -> dict[str, Any]:
    tags = [{"name": tag.name, "look": tag.look, "locked": tag.locked} for tag in clusters.tags]
    return {
        "unit": clusters.unit,
        "algorithm": clusters.algorithm,
        "labels": pack_labels(clusters.labels, clusters.k).to_dict(),
        "noise": clusters.noise,
        "tags": tags,
    }


def _clusters(values: Mapping[str, Any], units: int) -> Clusters:
    labels = PackedLabels.from_dict(values["labels"])
    tags = tuple(Tag(**tag) for tag in values["tags"])
    return Clusters(values["unit"], values["algorithm"], labels.unpack(units), labels.k, values["noise"], tags)


def _values_of_run(run: Run, keep: Keep) -> dict[str, Any] | None:
    done = run.comparison
    sides = [_values_of_side(side, keep) for side in (done.dense, done.right)]
    if None in sides:
        return None
    requests = [{**vars(request)} for request in done.requests]
    for request in requests:
        del request["picture"]
    return {
        "number": run.number,
        "name": run.drawn.name,
        "requests": requests,
        "clip": done.clip_name,
        "gain": done.gain,
        "seconds": done.seconds,
        "sides": sides,
    }


def _run(values: Mapping[str, Any], session: Session, load: Load) -> Run:
    """A comparison as it was; what it was drawn with is worked out again when it is needed."""
    dense, right = (_side(side, load) for side in values["sides"])
    requests = tuple(Request(**request) for request in values["requests"])
    done = measure(dense, right, requests, values["clip"], values["seconds"], values["gain"])
    drawn = DrawnModel(values["name"], plan=session.plan)
    return Run(int(values["number"]), session, drawn, done, thumbnail(right.images))


def _values_of_side(side: Side, keep: Keep) -> dict[str, Any] | None:
    pictures = [keep(image) for image in side.images]
    if None in pictures:
        return None
    return {
        "name": side.name,
        "pictures": pictures,
        "clips": list(side.clips),
        "curve": [list(point) for point in side.curve],
        "seconds": side.seconds,
        "destroyed": list(side.destroyed),
    }


def _side(values: Mapping[str, Any], load: Load) -> Side:
    return Side(
        values["name"],
        tuple(load(name) for name in values["pictures"]),
        tuple(values["clips"]),
        tuple((int(step), float(score)) for step, score in values["curve"]),
        float(values["seconds"]),
        tuple(values["destroyed"]),
    )
