"""Compare: one to four prompts drawn by two variants of the model from the same noise, streamed, with scores.

The left side is the dense model or a run that was pinned, the right one the session's masks, or those of one cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame, done, idle
from dit_prune_viz.app.pages.compare import view as compare_view
from dit_prune_viz.app.pages.compare.view import Live
from dit_prune_viz.app.session import drawn_model
from dit_prune_viz.app.session.comparison import MAX_PROMPTS, check_prompts, compare_models, split_prompts
from dit_prune_viz.app.session.comparison import Frame as Preview
from dit_prune_viz.app.session.drawn_model import DENSE
from dit_prune_viz.app.session.history import bring_back
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import runs_strip
from dit_prune_viz.errors import UserError
from dit_prune_viz.figures import style

SUGGESTIONS = 7
MODES = [("prune it alone", drawn_model.WITHOUT), ("keep nothing else of its layer", drawn_model.ONLY)]
CLUSTER_NOTE = (
    "**What does this cluster paint?** Everything else stays dense, so the difference is what its weights do. Clusters "
    "are made on the Layer page."
)


@dataclass(frozen=True)
class CompareTab:
    """The components that follow the model and the layer that is open."""

    prompt: gr.Textbox
    examples: gr.Dataset
    steps: gr.Number
    layer: gr.Dropdown
    cluster: gr.Dropdown


def build(frame: Frame, actions: Actions) -> CompareTab:
    runs = gr.State(Runs())  # never an output: it changes in place
    with gr.Row(equal_height=True, elem_classes="tab-controls"):
        prompt = gr.Textbox(
            label="Prompts: one to four, a line each (Shift+Enter generates)",
            lines=2,
            max_lines=4,
            scale=5,
            min_width=260,
            elem_id="prompt",
        )
        seed = gr.Number(0, label="Seed", precision=0, scale=1, min_width=80, elem_id="seed")
        steps = gr.Number(20, label="Steps", precision=0, scale=1, min_width=80, elem_id="steps")
        generate = gr.Button("Generate", variant="primary", scale=1, min_width=120, elem_id="generate")
    with gr.Row(elem_id="prompt-examples"):
        examples = gr.Dataset(
            components=[prompt],
            samples=[],
            label="Prompts to try",
            show_label=False,
            type="values",
            samples_per_page=SUGGESTIONS,
        )
        four = gr.Button("Four at once", size="sm", scale=0, min_width=110, elem_id="four-prompts")
    pictures = compare_view.build()
    strip = runs_strip.strip()
    with gr.Column(elem_id="cluster-paints"):
        gr.Markdown(CLUSTER_NOTE, elem_classes="note")
        with gr.Row(equal_height=True, elem_classes="tab-controls"):
            layer = gr.Dropdown([], label="Layer", scale=4, min_width=220, elem_id="paint-layer")
            cluster = gr.Dropdown([], label="Cluster", scale=3, min_width=160, elem_id="paint-cluster")
            mode = gr.Dropdown(MODES, value=drawn_model.WITHOUT, label="What to do with it", scale=3, min_width=200)
            show = gr.Button("Show what it paints", scale=1, min_width=170, elem_id="paint-run")

    shown = [*pictures.outputs, strip]

    def draw(session: Session, runs: Runs, request: gr.Request, prepare: Callable) -> Iterator[tuple]:
        """`prepare(session, report)` gives the two variants and the checked requests."""
        live = Live()
        finished = False

        def work(session: Session, report: Reporter) -> tuple:
            left, right, requests = prepare(session, report)
            live.names, live.prompts = (left.name, right.name), len(requests)
            live.clip_name = session.store.clip_name
            return session, right, compare_models(session, left, right, requests, emit=report.emit, progress=report)

        try:
            for update in actions.watch(request, session, work):
                if isinstance(update, Preview):
                    yield (*_still(frame.outputs), *live.show(update), gr.skip())
                elif isinstance(update, Result):
                    finished = True
                    runs.add(*update.value)
                    yield (*idle(update.value[0]), *show_run(runs))
                else:
                    yield (*update, *_still(shown))
        except Exception:
            if live.started:
                yield (*_still(frame.outputs), *show_run(runs))
            raise
        if live.started and not finished:  # cancelled halfway: back to the pictures of before
            yield (*_still(frame.outputs), *show_run(runs))

    def run(session, runs, text, seed, steps, request: gr.Request) -> Iterator[tuple]:
        def prepare(session: Session, report: Reporter) -> tuple:
            session.need_plan()
            requests = check_prompts(session.model, split_prompts(text), seed, steps)
            return runs.left(session), drawn_model.of_session(session, report), requests

        yield from draw(session, runs, request, prepare)

    def paint(session, runs, layer, cluster, mode, text, seed, steps, request: gr.Request) -> Iterator[tuple]:
        def prepare(session: Session, _: Reporter) -> tuple:
            right = drawn_model.of_cluster(session, layer, cluster, mode)
            return DENSE, right, check_prompts(session.model, split_prompts(text), seed, steps)

        yield from draw(session, runs, request, prepare)

    def restore(session: Session, runs: Runs, event: gr.EventData, request: gr.Request) -> Iterator[tuple]:
        chosen = runs.find(event.id)
        if chosen is None:
            yield (*_still(frame.outputs), *_still([*shown, *asked]))
            return

        def back(now: Session, report: Reporter) -> Session:
            if now.model is not chosen.session.model:
                raise UserError(f"Run {chosen.number} belongs to a model that is no longer loaded.")
            return bring_back(chosen.session, now)

        for update in actions.watch(request, session, back):
            if isinstance(update, Result):
                runs.shown = chosen
                first = chosen.comparison.requests[0]
                yield (*done(update.value), *show_run(runs), "\n".join(chosen.prompts), first.seed, first.steps)
            else:
                yield (*update, *_still([*shown, *asked]))

    def pin(runs: Runs, event: gr.EventData) -> tuple:
        before = runs.shown
        runs.pin(event.id)
        if runs.shown is before:  # its other side is not at hand, so that its pictures stay what they are
            return (*_still(pictures.outputs), runs_strip.show(runs))
        return show_run(runs)

    def follow(session: Session | None, runs: Runs) -> tuple:
        return show_run(runs) if runs.follow(session) else tuple(_still(shown))

    asked = [prompt, seed, steps]
    drawn = [*frame.outputs, *shown]
    gr.on([generate.click, prompt.submit], run, [frame.session, runs, *asked], drawn, **INTERNAL)
    show.click(paint, [frame.session, runs, layer, cluster, mode, *asked], drawn, **INTERNAL)
    strip.submit(restore, [frame.session, runs], [*drawn, *asked], trigger_mode="multiple", **INTERNAL)
    strip.select(pin, runs, shown, trigger_mode="multiple", **INTERNAL)
    frame.session.change(follow, [frame.session, runs], shown, **INTERNAL)
    examples.click(lambda sample: sample[0], examples, prompt, **INTERNAL)
    four.click(_four, frame.session, prompt, **INTERNAL)
    layer.input(_cluster_choices, [frame.session, layer], cluster, **INTERNAL)
    return CompareTab(prompt, examples, steps, layer, cluster)


def follow_layer(frame: Frame, tab: CompareTab, open_layer: gr.Dropdown, page: gr.Tab) -> None:
    """Offer the clusters there are, those of the layer that is open first; nothing moves while they stay the same."""
    shown = gr.State(None)

    def offer(session: Session | None, open_layer: str | None, shown: tuple | None) -> tuple:
        layers = list(session.clusters) if session and session.model else []
        layer = open_layer if open_layer in layers else (layers[-1] if layers else None)
        basis = (tuple(layers), layer, id(session.clusters[layer]) if layer else None)
        if basis == shown:
            return gr.skip(), gr.skip(), gr.skip()
        return basis, gr.Dropdown(choices=layers, value=layer), _cluster_choices(session, layer)

    gr.on(
        [frame.session.change, page.select],
        offer,
        [frame.session, open_layer, shown],
        [shown, tab.layer, tab.cluster],
        **INTERNAL,
    )


def show_run(runs: Runs) -> tuple:
    """Updates for the pictures and the strip: the run that is shown, or an empty page."""
    pictures = compare_view.finished(runs.shown.comparison) if runs.shown else compare_view.nothing()
    return (*pictures, runs_strip.show(runs))


def suggestions(session: Session) -> tuple[str, gr.Dataset, int]:
    """Prompt, examples and steps for the session's model."""
    if session.model is None:
        return "", gr.Dataset(samples=[]), 20
    prompts = _examples(session)
    return prompts[0], gr.Dataset(samples=[[text] for text in prompts]), session.model.defaults.steps


def _examples(session: Session) -> tuple[str, ...]:
    prompts = session.model.defaults.prompts
    return prompts[:: max(1, len(prompts) // SUGGESTIONS)][:SUGGESTIONS] or ("",)


def _four(session: Session | None) -> str:
    return "\n".join(_examples(session)[:MAX_PROMPTS]) if session and session.model else ""


def _cluster_choices(session: Session | None, layer: str | None) -> gr.Dropdown:
    """The layer's clusters; the last, which has the largest activations, is chosen."""
    if session is None or layer not in session.clusters:
        return gr.Dropdown(choices=[], value=None)
    clusters = session.clusters[layer]
    named = [
        (f"{style.glyph(tag.look)} {tag.name} · {size:,} {clusters.unit}{'' if size == 1 else 's'}", i)
        for i, (tag, size) in enumerate(zip(clusters.tags, clusters.sizes.tolist(), strict=True))
    ]
    return gr.Dropdown(choices=named, value=clusters.k - 1)


def _still(components: list) -> list:
    return [gr.skip() for _ in components]
