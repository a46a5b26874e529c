"""The endpoints of the README, each a verb of the session: JSON in, JSON out.

They hang on hidden components, because gradio keeps a client's state between calls only for listeners with components.
"""

from __future__ import annotations

import time
from types import MappingProxyType

import gradio as gr
from PIL.Image import Image

from dit_prune_viz.app.pages.calls import Calls
from dit_prune_viz.app.pages.endpoints import endpoint, view
from dit_prune_viz.app.session import layer_groups, parts_file, recipe_io, unit_files
from dit_prune_viz.app.session.analyzer import find_all
from dit_prune_viz.app.session.answers import (
    describe_calibration,
    describe_clusters,
    describe_groups,
    describe_membership,
    describe_model,
    describe_neighbours,
    describe_plan,
    describe_scores,
    describe_selection,
)
from dit_prune_viz.app.session.block_edits import set_by_text, sparsity_text
from dit_prune_viz.app.session.cluster_edits import set_sparsity
from dit_prune_viz.app.session.comparison import check_prompts, compare, split_prompts
from dit_prune_viz.app.session.drawn_model import WITHOUT
from dit_prune_viz.app.session.jobs import Reporter
from dit_prune_viz.app.session.parts import BLOCKS, parts_of
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets.number import number
from dit_prune_viz.checks import check_switch, check_words

_GROUPED = MappingProxyType({"kind": layer_groups.BY_KIND, "block": layer_groups.BY_BLOCK})


def build(state: gr.State, calls: Calls) -> None:
    """Add the endpoints to the page, sharing `state` with nobody but their own client."""
    with gr.Row(visible=False):
        _session_endpoints(state, calls)
        _model_endpoints(state, calls)
        _recipe_endpoints(state, calls)
        _cluster_endpoints(state, calls)
        _group_endpoints(state, calls)
        _picture_endpoints(state, calls)
        _part_endpoints(state, calls)


def _session_endpoints(state: gr.State, calls: Calls) -> None:
    def session_id(session: Session | None, request: gr.Request) -> tuple[Session | None, dict]:
        return session, {"session": calls.shared.open(request, None, session).id}

    async def open_session(session: Session | None, request: gr.Request, session_id: str) -> tuple[Session, dict]:
        def verb(s: Session, report: Reporter) -> tuple[Session, dict]:
            return s, {"model": s.model and s.model.name, "plan": describe_plan(s) if s.report else None}

        calls.shared.open(request, session_id, None)
        return await calls.call(request, session, verb)

    endpoint(session_id, state, [])
    endpoint(open_session, state, [gr.Textbox(label="session_id")])


def _model_endpoints(state: gr.State, calls: Calls) -> None:
    async def load_model(
        session: Session | None, request: gr.Request, model: str, also_prune: str, options: dict | None
    ) -> tuple[Session, dict]:
        def verb(s: Session, report: Reporter) -> tuple[Session, dict]:
            s = s.load_model(model, report, also_prune=also_prune, options=options)
            return s, describe_model(s)

        return await calls.call(request, session, verb)

    async def calibrate(
        session: Session | None, request: gr.Request, samples: float, seed: float
    ) -> tuple[Session, dict]:
        def verb(s: Session, report: Reporter) -> tuple[Session, dict]:
            s = s.calibrate(samples, seed, report)
            return s, describe_calibration(s)

        return await calls.call(request, session, verb)

    text = gr.Textbox
    endpoint(load_model, state, [text(label="model"), text("", label="also_prune"), gr.JSON({}, label="options")])
    endpoint(calibrate, state, [number(128, "samples"), number(0, "seed")])


def _recipe_endpoints(state: gr.State, calls: Calls) -> None:
    async def prune(
        session: Session | None, request: gr.Request, method: str, granularity: str, sparsity: float
    ) -> tuple[Session, dict]:
        def verb(s: Session, report: Reporter) -> tuple[Session, dict]:
            s = s.prune(recipe_io.named_recipe(s, method, granularity, sparsity), report)
            return s, describe_plan(s)

        return await calls.call(request, session, verb)

    async def prune_with(session: Session | None, request: gr.Request, recipe: dict) -> tuple[Session, dict]:
        def verb(s: Session, report: Reporter) -> tuple[Session, dict]:
            begin = time.perf_counter()
            s = recipe_io.pruned_with(s, recipe, report)
            seconds = time.perf_counter() - begin
            return s, {**describe_plan(s), "seconds": seconds, "recipe": s.plan.as_recipe().to_dict()}

        return await calls.call(request, session, verb)

    async def open_recipe(
        session: Session | None, request: gr.Request, recipe: str, carry_over: bool
    ) -> tuple[Session, dict]:
        def verb(s: Session, report: Reporter) -> tuple[Session, dict]:
            carries = check_switch(carry_over, "carry_over")
            s, notes = recipe_io.open_recipe(s, recipe, carry_over=carries, progress=report)
            return s, {**describe_plan(s), "words": recipe_io.recipe_in_words(s), "notes": list(notes)}

        return await calls.call(request, session, verb)

    async def save_recipe(session: Session | None, request: gr.Request) -> tuple[Session, dict]:
        def verb(s: Session, _: Reporter) -> tuple[Session, dict]:
            return s, {"recipe": recipe_io.save_recipe_text(s), "words": recipe_io.recipe_in_words(s)}

        return await calls.call(request, session, verb)

    async def set_sparsities(
        session: Session | None, request: gr.Request, sparsities: str, keep_overall: bool
    ) -> tuple[Session, dict]:
        def verb(s: Session, report: Reporter) -> tuple[Session, dict]:
            keeps = check_switch(keep_overall, "keep_overall")
            s = set_by_text(s, sparsities, keep_overall=keeps, progress=report)
            return s, {**describe_plan(s), "sparsities": sparsity_text(s)}

        return await calls.call(request, session, verb)

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


def _cluster_endpoints(state: gr.State, calls: Calls) -> None:
    async def cluster(
        session: Session | None, request: gr.Request, layer: str, unit: str, algorithm: str, k: float
    ) -> tuple[Session, dict]:
        def verb(s: Session, _: Reporter) -> tuple[Session, dict]:
            s = s.cluster(layer, unit, algorithm, k)
            return s, describe_clusters(s, layer)

        return await calls.call(request, session, verb)

    async def set_cluster_sparsity(
        session: Session | None, request: gr.Request, layer: str, cluster: float, sparsity: float
    ) -> tuple[Session, dict]:
        def verb(s: Session, _: Reporter) -> tuple[Session, dict]:
            s = set_sparsity(s, layer, cluster, sparsity)
            return s, describe_clusters(s, layer)

        return await calls.call(request, session, verb)

    def clusters(session: Session | None, request: gr.Request, layer: str) -> dict:
        return calls.look(request, session, lambda s: describe_membership(s, layer))

    def neighbours(
        session: Session | None,
        request: gr.Request,
        layer: str,
        unit: str,
        index: float,
        k: float = unit_files.K,
        space: str = "plane",
    ) -> dict:
        return calls.look(request, session, lambda s: describe_neighbours(s, layer, unit, index, k, space))

    def selection(session: Session | None, request: gr.Request, layer: str, unit: str, units: str) -> dict:
        return calls.look(request, session, lambda s: describe_selection(s, layer, unit, units))

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


def _group_endpoints(state: gr.State, calls: Calls) -> None:
    async def group_layers(session: Session | None, request: gr.Request, by: str, k: float) -> tuple[Session, dict]:
        def verb(s: Session, _: Reporter) -> tuple[Session, dict]:
            s = layer_groups.group_layers(s, _GROUPED.get(by, by), k or None)
            return s, describe_groups(s)

        return await calls.call(request, session, verb)

    async def set_group_sparsity(
        session: Session | None, request: gr.Request, group: float, sparsity: float, keep_overall: bool
    ) -> tuple[Session, dict]:
        def verb(s: Session, report: Reporter) -> tuple[Session, dict]:
            keeps = check_switch(keep_overall, "keep_overall")
            s = layer_groups.set_group(s, group, sparsity, keep_overall=keeps, progress=report)
            return s, describe_groups(s)

        return await calls.call(request, session, verb)

    text, number = gr.Textbox, gr.Number
    endpoint(group_layers, state, [text("kind", label="by"), number(0, label="k")])
    endpoint(
        set_group_sparsity,
        state,
        [number(0, label="group"), number(0.5, label="sparsity"), gr.Checkbox(False, label="keep_overall")],
    )


def _picture_endpoints(state: gr.State, calls: Calls) -> None:
    async def generate(
        session: Session | None,
        request: gr.Request,
        prompt: str,
        seed: float,
        steps: float,
        frames: float = 1,
        picture: bytes | None = None,
    ) -> tuple[Session, Image, Image, dict]:
        def verb(s: Session, report: Reporter) -> tuple[Session, Image, Image, dict]:
            result = compare(s, prompt, seed, steps, frames=frames, picture=picture, progress=report)
            return s, result.left.images[0], result.right.images[0], describe_scores(result)

        return await calls.call(request, session, verb)

    text = gr.Textbox
    pictures = [gr.Image(label=side, format="png") for side in ("dense", "pruned")]
    drawing = [text(label="prompt"), number(0, "seed"), number(20, "steps"), number(1, "frames")]
    endpoint(generate, state, [*drawing, gr.File(label="picture", type="binary")], pictures)


def _part_endpoints(state: gr.State, calls: Calls) -> None:
    async def parts(
        session: Session | None,
        request: gr.Request,
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
        def verb(s: Session, report: Reporter) -> tuple[Session, Image, dict]:
            found = parts_of(s, by, layer, check_words(chosen, "chosen"))
            requests = check_prompts(s.need_model(), split_prompts(prompt), seed, steps, frames, picture)
            measure = check_switch(measured, "measured")
            how = {"mode": mode, "sparsity": sparsity, "measured": measure}
            findings = find_all(s, found, requests, progress=report, **how)
            return s, parts_file.sheet(findings), parts_file.values_of(findings)

        return await calls.call(request, session, verb)

    text, number = gr.Textbox, gr.Number
    drawing = [text(label="prompt"), number(0, label="seed"), number(20, label="steps")]
    how = [text(WITHOUT, label="mode"), number(1, label="sparsity"), text("", label="layer")]
    more = [gr.Checkbox(True, label="measured"), number(1, label="frames"), gr.File(label="picture", type="binary")]
    asked = [text(BLOCKS, label="by"), gr.JSON([], label="chosen"), *drawing, *how, *more]
    endpoint(parts, state, asked, [gr.Image(label="sheet", format="png")])
