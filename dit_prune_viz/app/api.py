"""The endpoints of the README, each a verb of the session: JSON in, JSON out.

They hang on hidden components, because gradio keeps a client's state between calls only for listeners with components.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from types import MappingProxyType

import gradio as gr
from PIL.Image import Image

from dit_prune_viz.app.pages.actions import Actions
from dit_prune_viz.app.pages.endpoints import endpoint, view
from dit_prune_viz.app.session import layer_groups, parts_file, recipe_io, unit_files
from dit_prune_viz.app.session.analyzer import find_all
from dit_prune_viz.app.session.block_edits import set_by_text, sparsity_text
from dit_prune_viz.app.session.cluster_edits import set_sparsity
from dit_prune_viz.app.session.comparison import check_prompts, compare, split_prompts
from dit_prune_viz.app.session.comparison_result import Comparison
from dit_prune_viz.app.session.drawn_model import WITHOUT
from dit_prune_viz.app.session.group_rows import group_rows
from dit_prune_viz.app.session.layer_data import summary
from dit_prune_viz.app.session.parts import BLOCKS, parts_of
from dit_prune_viz.app.session.selection import search
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets.number import number
from dit_prune_viz.checks import check_switch, check_words
from dit_prune_viz.clustering.units import count_units
from dit_prune_viz.export.numbers import membership, units_csv, units_json
from dit_prune_viz.formatting import known
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.pruning.named_recipes import find_recipe
from dit_prune_viz.pruning.recipe import AUTO, Recipe

_GROUPED = MappingProxyType({"kind": layer_groups.BY_KIND, "block": layer_groups.BY_BLOCK})


def build(state: gr.State, actions: Actions) -> None:
    """Add the endpoints to the page, sharing `state` with nobody but their own client."""
    with gr.Row(visible=False):
        _model_endpoints(state, actions)
        _recipe_endpoints(state, actions)
        _cluster_endpoints(state, actions)
        _group_endpoints(state, actions)
        _picture_endpoints(state, actions)
        _part_endpoints(state, actions)


def _model_endpoints(state: gr.State, actions: Actions) -> None:
    def load_model(session: Session | None, model: str, also_prune: str, options: dict | None) -> tuple[Session, dict]:
        session = actions.call(session, lambda s: s.load_model(model, also_prune=also_prune, options=options))
        return session, describe_model(session)

    def calibrate(session: Session | None, samples: float, seed: float) -> tuple[Session, dict]:
        session = actions.call(session, lambda s: s.calibrate(samples, seed))
        return session, describe_calibration(session)

    text = gr.Textbox
    endpoint(load_model, state, [text(label="model"), text("", label="also_prune"), gr.JSON({}, label="options")])
    endpoint(calibrate, state, [number(128, "samples"), number(0, "seed")])


def _recipe_endpoints(state: gr.State, actions: Actions) -> None:
    def prune(session: Session | None, method: str, granularity: str, sparsity: float) -> tuple[Session, dict]:
        session = actions.call(session, lambda s: s.prune(_recipe(s, method, granularity, sparsity)))
        return session, describe_plan(session)

    def prune_with(session: Session | None, recipe: dict) -> tuple[Session, dict]:
        begin = time.perf_counter()
        session = actions.call(session, lambda s: _pruned(s, recipe))
        seconds = time.perf_counter() - begin
        return session, {**describe_plan(session), "seconds": seconds, "recipe": session.plan.as_recipe().to_dict()}

    def open_recipe(session: Session | None, recipe: str, carry_over: bool) -> tuple[Session, dict]:
        def verb(s: Session) -> tuple[Session, tuple[str, ...]]:
            return recipe_io.open_recipe(s, recipe, carry_over=check_switch(carry_over, "carry_over"))

        session, notes = actions.call(session, verb)
        words = actions.call(session, recipe_io.recipe_in_words)
        return session, {**describe_plan(session), "words": words, "notes": list(notes)}

    def save_recipe(session: Session | None) -> tuple[Session, dict]:
        session = actions.session(session)
        text = actions.call(session, recipe_io.save_recipe_text)
        return session, {"recipe": text, "words": actions.call(session, recipe_io.recipe_in_words)}

    def set_sparsities(session: Session | None, sparsities: str, keep_overall: bool) -> tuple[Session, dict]:
        def verb(s: Session) -> Session:
            return set_by_text(s, sparsities, keep_overall=check_switch(keep_overall, "keep_overall"))

        session = actions.call(session, verb)
        return session, {**describe_plan(session), "sparsities": sparsity_text(session)}

    text = gr.Textbox
    endpoint(
        prune,
        state,
        [text("dit-pruning", label="method"), text("auto", label="granularity"), number(0.5, "sparsity")],
    )
    endpoint(prune_with, state, [gr.JSON(label="recipe")])
    endpoint(open_recipe, state, [text(label="recipe"), gr.Checkbox(False, label="carry_over")])
    endpoint(save_recipe, state, [])
    endpoint(set_sparsities, state, [text(label="sparsities"), gr.Checkbox(False, label="keep_overall")])


def _cluster_endpoints(state: gr.State, actions: Actions) -> None:
    def cluster(session: Session | None, layer: str, unit: str, algorithm: str, k: float) -> tuple[Session, dict]:
        session = actions.call(session, lambda s: s.cluster(layer, unit, algorithm, k))
        return session, describe_clusters(session, layer)

    def set_cluster_sparsity(
        session: Session | None, layer: str, cluster: float, sparsity: float
    ) -> tuple[Session, dict]:
        session = actions.call(session, lambda s: set_sparsity(s, layer, cluster, sparsity))
        return session, describe_clusters(session, layer)

    def clusters(session: Session | None, layer: str) -> dict:
        return actions.call(session, lambda s: describe_membership(s, layer))

    def neighbours(
        session: Session | None, layer: str, unit: str, index: float, k: float = unit_files.K, space: str = "plane"
    ) -> dict:
        return actions.call(session, lambda s: describe_neighbours(s, layer, unit, index, k, space))

    def selection(session: Session | None, layer: str, unit: str, units: str) -> dict:
        return actions.call(session, lambda s: describe_selection(s, layer, unit, units))

    text = gr.Textbox
    unit = [text(label="layer"), text("row", label="unit")]
    near = [number(0, "index"), number(unit_files.K, "k"), text("plane", label="space")]
    view(neighbours, state, [*unit, *near])
    view(selection, state, [text(label="layer"), text("row", label="unit"), text(label="units")])
    endpoint(
        cluster,
        state,
        [text(label="layer"), text("row", label="unit"), text("kmeans", label="algorithm"), number(4, "k")],
    )
    endpoint(
        set_cluster_sparsity,
        state,
        [text(label="layer"), number(0, "cluster"), number(0.5, "sparsity")],
    )
    view(clusters, state, [text(label="layer")])


def _group_endpoints(state: gr.State, actions: Actions) -> None:
    def group_layers(session: Session | None, by: str, k: float) -> tuple[Session, dict]:
        way = _GROUPED.get(by, by)
        session = actions.call(session, lambda s: layer_groups.group_layers(s, way, k or None))
        return session, actions.call(session, describe_groups)

    def set_group_sparsity(
        session: Session | None, group: float, sparsity: float, keep_overall: bool
    ) -> tuple[Session, dict]:
        def verb(s: Session) -> Session:
            return layer_groups.set_group(s, group, sparsity, keep_overall=check_switch(keep_overall, "keep_overall"))

        session = actions.call(session, verb)
        return session, actions.call(session, describe_groups)

    text, number = gr.Textbox, gr.Number
    endpoint(group_layers, state, [text("kind", label="by"), number(0, label="k")])
    endpoint(
        set_group_sparsity,
        state,
        [number(0, label="group"), number(0.5, label="sparsity"), gr.Checkbox(False, label="keep_overall")],
    )


def _picture_endpoints(state: gr.State, actions: Actions) -> None:
    def generate(
        session: Session | None, prompt: str, seed: float, steps: float, frames: float = 1, picture: bytes | None = None
    ) -> tuple[Session, Image, Image, dict]:
        session = actions.session(session)
        result = actions.call(session, lambda s: compare(s, prompt, seed, steps, frames=frames, picture=picture))
        return session, result.left.images[0], result.right.images[0], describe_scores(result)

    text = gr.Textbox
    pictures = [gr.Image(label=side, format="png") for side in ("dense", "pruned")]
    drawing = [text(label="prompt"), number(0, "seed"), number(20, "steps"), number(1, "frames")]
    endpoint(generate, state, [*drawing, gr.File(label="picture", type="binary")], pictures)


def _part_endpoints(state: gr.State, actions: Actions) -> None:
    def parts(
        session: Session | None,
        by: str,
        chosen: list | None,
        prompt: str,
        seed: float,
        steps: float,
        mode: str = WITHOUT,
        sparsity: float = 1,
        layer: str = "",
        measured: bool = True,
        frames: float = 1,
        picture: bytes | None = None,
    ) -> tuple[Session, Image, dict]:
        def verb(s: Session) -> tuple[Image, dict]:
            found = parts_of(s, by, layer, check_words(chosen, "chosen"))
            requests = check_prompts(s.need_model(), split_prompts(prompt), seed, steps, frames, picture)
            measure = check_switch(measured, "measured")
            findings = find_all(s, found, requests, mode=mode, sparsity=sparsity, measured=measure)
            return parts_file.sheet(findings), parts_file.values_of(findings)

        session = actions.session(session)
        return session, *actions.call(session, verb)

    text, number = gr.Textbox, gr.Number
    drawing = [text(label="prompt"), number(0, label="seed"), number(20, label="steps")]
    how = [text(WITHOUT, label="mode"), number(1, label="sparsity"), text("", label="layer")]
    more = [gr.Checkbox(True, label="measured"), number(1, label="frames"), gr.File(label="picture", type="binary")]
    asked = [text(BLOCKS, label="by"), gr.JSON([], label="chosen"), *drawing, *how, *more]
    endpoint(parts, state, asked, [gr.Image(label="sheet", format="png")])


def _recipe(session: Session, method: str, granularity: str, sparsity: float) -> Recipe:
    """The named recipe at a sparsity, with another granularity unless that is "auto"; calibration as it is."""
    recipe = replace(find_recipe(method), sparsity=sparsity, calibration=session.recipe.calibration)
    if granularity == AUTO:
        return recipe
    if n_of_m(granularity):
        recipe = replace(recipe, allocation="uniform", sensitivity=False)
    return replace(recipe, granularity=granularity)


def _pruned(session: Session, given: object) -> Session:
    """The session pruned by a recipe in a JSON object; one that says which model it was made for is opened as such."""
    if isinstance(given, Mapping) and "model" in given:
        return recipe_io.open_recipe(session, json.dumps(given))[0]
    return session.prune(read_recipe(given, session.recipe))


def read_recipe(given: object, present: Recipe) -> Recipe:
    """The recipe in a JSON object: {"method": "swap", "sparsity": 0.6} changes a named recipe, {"saliency": "ria"} the
    default one; the calibration stays as it is unless it is given.

    Raises:
        UserError: no object, an unknown method or key, a value of the wrong kind.
    """
    if not isinstance(given, Mapping):
        return Recipe.from_dict(given)
    values = dict(given)
    base = find_recipe(values.pop("method")) if "method" in values else Recipe()
    return Recipe.from_dict(values, replace(base, calibration=present.calibration))


def describe_model(session: Session) -> dict:
    model = session.model
    return {
        "model": model.name,
        "family": model.family,
        "parameters": model.parameters,
        "prunable_parameters": model.prunable_parameters,
        "dense": [asdict(part) for part in model.dense_parts],
        "also_prune": list(model.also_prune),
        "offers": [asdict(offer) for offer in model.offers],
        "layers": [
            {"name": layer.name, "block": layer.block, "kind": layer.kind, "shape": list(layer.shape)}
            for layer in model.layers
        ],
    }


def describe_calibration(session: Session) -> dict:
    calibration = session.calibration
    return {
        "samples": calibration.samples,
        "seconds": calibration.seconds,
        "timesteps": [float(timestep) for timestep in calibration.timesteps],
    }


def describe_plan(session: Session) -> dict:
    report = session.report
    return {
        "target": report.target,
        "achieved": report.achieved,
        "remaining_parameters": report.remaining,
        "layers": [
            {
                "name": layer.name,
                "granularity": layer.granularity,
                "g_out": layer.g_out,
                "sparsity": layer.sparsity,
                "damage": layer.damage,
                "estimated": layer.estimated,
            }
            for layer in report.layers
        ],
    }


def describe_clusters(session: Session, layer: str) -> dict:
    return {
        "layer": layer,
        "unit": session.clusters[layer].unit,
        "clusters": [
            {
                "id": row.id,
                "units": row.units,
                "weights": row.weights,
                "sparsity": row.sparsity,
                "damage": row.damage,
            }
            for row in session.cluster_rows(layer)
        ],
    }


def describe_groups(session: Session) -> dict:
    """The groups of the model's layers, and what each holds and costs under the present masks."""
    groups = layer_groups.groups_of(session)
    return {
        "by": groups.algorithm.removeprefix("by "),
        "groups": [
            {
                "id": row.id,
                "name": tag.name,
                "layers": layer_groups.members(session, row.id),
                "weights": row.weights,
                "energy": row.energy,
                "sparsity": row.sparsity,
                "damage": row.damage,
                "packed_bytes": row.packed,
            }
            for row, tag in zip(group_rows(session), groups.tags, strict=True)
        ],
    }


def describe_membership(session: Session, layer: str) -> dict:
    """Which rows, columns or weights of a layer belong to which cluster, see `export.numbers.membership`."""
    found = membership(layer, session.need_model().layer(layer).shape, session.need_clusters(layer))
    for row, own in zip(found["clusters"], session.cluster_rows(layer), strict=True):
        row["sparsity"] = own.sparsity
    return found


def describe_neighbours(session: Session, layer: str, unit: str, index: float, k: float, space: str) -> dict:
    """The units nearest to one; distances are Euclidean in standardised features."""
    found = unit_files.neighbours(session, layer, unit, [index], k, space)
    width = session.model.layer(layer).shape[1]
    near = [
        {"index": at, **({"row": at // width, "column": at % width} if unit == "weight" else {}), "distance": distance}
        for at, distance in zip(found.found[0].tolist(), found.distances[0].tolist(), strict=True)
    ]
    return {"layer": layer, "unit": unit, "index": int(found.asked[0]), "space": space, "neighbours": near}


def describe_selection(session: Session, layer: str, unit: str, units: str) -> dict:
    """The units in a text such as "12, 40-60", what they hold and cost under the present mask, and the same as CSV."""
    shape = session.need_plan()[0].layer(layer).shape
    chosen = search(units, count_units(shape, unit))
    known = summary(session, layer, unit, chosen)
    figures = {name: getattr(known, name) for name in ("weights", "sparsity", "damage", "energy")}
    named = layer, shape, unit, chosen
    return {**json.loads(units_json(*named)), **figures, "csv": units_csv(*named)}


def describe_scores(result: Comparison) -> dict:
    """psnr is null where the pictures are identical, and so are CLIP scores of a class without a name; seconds is the
    time of the whole call. not_drawn and not_scored are there where the model or the CLIP does not read the prompt to
    its end, and hold that end. destroyed is there where a picture is: black, constant or not finite; its CLIP score is
    null."""
    ruined = {"dense": result.left.destroyed[0], "pruned": result.right.destroyed[0]}
    return {
        "clip": {
            "model": result.clip_name,
            "dense": known(result.left.clip),
            "pruned": known(result.right.clip),
            "delta": known(result.delta),
        },
        "ssim": result.ssim,
        "psnr": result.psnr,
        "seconds": result.seconds,
        **(result.unread[0].named if result.unread else {}),
        **({"destroyed": ruined} if any(ruined.values()) else {}),
    }
