"""What the Compare page does: draw two models, go back to an earlier run, pin one, follow the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gradio as gr

from dit_prune_viz.app.pages.actions import Actions, Frame, bar_updates, session_updates, unchanged
from dit_prune_viz.app.pages.compare import input_picture, view
from dit_prune_viz.app.pages.compare.layout import CompareLayout
from dit_prune_viz.app.pages.compare.view import Live
from dit_prune_viz.app.pages.events import value_of
from dit_prune_viz.app.session import drawn_model
from dit_prune_viz.app.session.comparison import Frame as Preview
from dit_prune_viz.app.session.comparison import check_prompts, compare_models, split_prompts
from dit_prune_viz.app.session.drawing_inputs import taken
from dit_prune_viz.app.session.drawn_model import DENSE
from dit_prune_viz.app.session.finishing import time_left
from dit_prune_viz.app.session.history import bring_back
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.layer_subject import is_clustered
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import runs_strip
from dit_prune_viz.errors import UserError
from dit_prune_viz.figures import style

Prepare = Callable[[Session, Reporter], tuple]
"""Gives the two models and the checked requests."""


class CompareListeners:
    """`runs` is the visitor's own, kept in the page's state."""

    def __init__(self, frame: Frame, actions: Actions, layout: CompareLayout) -> None:
        self._frame, self._actions, self._layout = frame, actions, layout

    def _draw(self, session: Session, runs: Runs, request: gr.Request, prepare: Prepare) -> Iterator[tuple]:
        live = Live()
        finished = False

        def work(session: Session, report: Reporter) -> tuple:
            left, right, requests = prepare(session, report)
            live.names, live.prompts = (left.name, right.name), len(requests)
            live.clip_name = session.store.clip_name
            return session, right, compare_models(session, left, right, requests, emit=report.emit, progress=report)

        bar = unchanged(self._frame.outputs)
        try:
            for update in self._actions.watch(request, session, work):
                if isinstance(update, Preview):
                    yield (*bar, *live.show(update), gr.skip())
                elif isinstance(update, Result):
                    finished = True
                    runs.add(*update.value)
                    yield (*bar_updates(update.value[0]), *show_run(runs))
                else:
                    yield (*update, *unchanged(self._layout.outputs))
        except Exception:
            if live.started:
                yield (*bar, *show_run(runs))
            raise
        if live.started and not finished:  # cancelled halfway: back to the pictures of before
            yield (*bar, *show_run(runs))

    def generate(self, session, runs: Runs, text, seed, steps, frames, picture, request: gr.Request) -> Iterator[tuple]:
        """The pinned run or the dense model on the left, the session's model on the right."""

        def prepare(session: Session, report: Reporter) -> tuple:
            session.need_plan()
            requests = self._requests(session, text, seed, steps, frames, picture)
            return runs.left(session), drawn_model.of_session(session, report), requests

        yield from self._draw(session, runs, request, prepare)

    def paint_cluster(
        self, session, runs: Runs, layer, cluster, mode, text, seed, steps, frames, picture, request: gr.Request
    ) -> Iterator[tuple]:
        """The dense model on the left; on the right one cluster is pruned, or all of its layer but that cluster."""

        def prepare(session: Session, _: Reporter) -> tuple:
            right = drawn_model.of_cluster(session, layer, cluster, mode)
            return DENSE, right, self._requests(session, text, seed, steps, frames, picture)

        yield from self._draw(session, runs, request, prepare)

    @staticmethod
    def _requests(session: Session, text, seed, steps, frames, picture) -> tuple:
        return check_prompts(session.model, split_prompts(text), seed, steps, *taken(session.model, frames, picture))

    def restore(self, session: Session, runs: Runs, event: gr.EventData, request: gr.Request) -> Iterator[tuple]:
        """Back to an earlier run: its session, pictures and prompts. Nothing for a number that is none of its."""
        outputs = [*self._layout.outputs, *self._layout.request.restored]
        chosen = runs.find(value_of(event, "id"))
        if chosen is None:
            yield (*unchanged(self._frame.outputs), *unchanged(outputs))
            return

        def back(present: Session, report: Reporter) -> Session:
            if present.model is not chosen.session.model:
                raise UserError(f"Run {chosen.number} was made with a model that is no longer loaded.")
            return bring_back(chosen.session, present)

        for update in self._actions.watch(request, session, back):
            if isinstance(update, Result):
                runs.shown = chosen
                first = chosen.comparison.requests[0]
                prompts = "\n".join(chosen.prompts)
                yield (
                    *session_updates(update.value),
                    *show_run(runs),
                    prompts,
                    first.seed,
                    first.steps,
                    first.frames,
                    *input_picture.show(first.picture),
                )
            else:
                yield (*update, *unchanged(outputs))

    def pin(self, runs: Runs, event: gr.EventData) -> tuple:
        """A run becomes the left side of the next ones, or no longer is."""
        before = runs.shown
        runs.pin(value_of(event, "id"))
        if runs.shown is before:  # its other side is not at hand, so that its pictures stay as they are
            return (*unchanged(self._layout.pictures.outputs), runs_strip.show(runs))
        return show_run(runs)

    def follow_model(self, session: Session | None, runs: Runs) -> tuple:
        """Runs of a model that is no longer loaded are forgotten."""
        return show_run(runs) if runs.follow(session) else tuple(unchanged(self._layout.outputs))


def show_run(runs: Runs) -> tuple:
    """Updates for the pictures and the strip: the run that is shown, or an empty page."""
    pictures = view.finished(runs.shown.comparison) if runs.shown else view.nothing()
    return (*pictures, runs_strip.show(runs))


def waits_for(session: Session | None) -> gr.Markdown:
    """What the next image waits for, and how long; nothing where that is not worth a word."""
    left = time_left(session) if session is not None else None
    if left is None or left.short:
        return gr.Markdown(visible=False)
    words = (
        f"**The next image first finishes the recipe: {left.words}.** You can cancel it, and look at the other pages "
        "meanwhile. What is finished is kept."
    )
    return gr.Markdown(words, visible=True)


def offer_layers(session: Session | None, open_layer: str | None, offered: tuple | None) -> tuple:
    """The layers that have clusters, the one that is open first; nothing moves while they stay the same."""
    layers = list(session.clusters) if session and session.model else []
    layer = open_layer if open_layer in layers else (layers[-1] if layers else None)
    basis = (tuple(layers), layer, id(session.clusters[layer]) if layer else None)
    if basis == offered:
        return gr.skip(), gr.skip(), gr.skip()
    return basis, gr.Dropdown(choices=layers, value=layer), offer_clusters(session, layer)


def offer_clusters(session: Session | None, layer: str | None) -> gr.Dropdown:
    """The layer's clusters; the last, which has the largest activations, is chosen."""
    if not is_clustered(session, layer):
        return gr.Dropdown(choices=[], value=None)
    clusters = session.clusters[layer]
    named = [
        (f"{style.glyph(tag.look)} {tag.name} · {size:,} {clusters.unit}{'' if size == 1 else 's'}", i)
        for i, (tag, size) in enumerate(zip(clusters.tags, clusters.sizes.tolist(), strict=True))
    ]
    return gr.Dropdown(choices=named, value=clusters.k - 1)
