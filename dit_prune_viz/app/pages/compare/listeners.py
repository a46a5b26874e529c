"""What the Compare page does: draw dense, A and B, go back to an earlier run, make one A, follow the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import gradio as gr

from dit_prune_viz.app.pages.actions import Actions, Frame
from dit_prune_viz.app.pages.compare import input_picture, view
from dit_prune_viz.app.pages.compare.layout import CompareLayout
from dit_prune_viz.app.pages.compare.view import Live
from dit_prune_viz.app.pages.events import mode_of, value_of
from dit_prune_viz.app.pages.updates import bar_updates, session_updates, unchanged
from dit_prune_viz.app.session import drawn_model, measuring
from dit_prune_viz.app.session.browser_values import read_whole
from dit_prune_viz.app.session.comparison import check_prompts, compare_models, draft_steps, draw_draft, split_prompts
from dit_prune_viz.app.session.comparison_result import GAINS, LEFT, MIDDLE, RIGHT, Draft
from dit_prune_viz.app.session.comparison_result import Frame as Preview
from dit_prune_viz.app.session.contact_sheet import contact_sheet
from dit_prune_viz.app.session.drawing_inputs import taken
from dit_prune_viz.app.session.drawn_model import name_of_session
from dit_prune_viz.app.session.evidence import evidence_figure
from dit_prune_viz.app.session.finishing import time_left
from dit_prune_viz.app.session.history import bring_back
from dit_prune_viz.app.session.jobs import GaveWay, Reporter, Result
from dit_prune_viz.app.session.layer_subject import is_clustered
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.tradeoff import SPARSITY
from dit_prune_viz.app.widgets import plot, runs_strip
from dit_prune_viz.errors import UserError
from dit_prune_viz.figures import style

Prepare = Callable[[Session, Reporter], tuple]
"""Gives A, None where there is none, B, and the checked requests."""


class CompareListeners:
    """`runs` are those of the page's workspace."""

    def __init__(self, frame: Frame, actions: Actions, layout: CompareLayout) -> None:
        self._frame, self._actions, self._layout = frame, actions, layout

    def _draw(
        self, session: Session, runs: Runs, look: tuple, request: gr.Request, prepare: Prepare, *, again: bool = False
    ) -> Iterator[tuple]:
        """`again`: a change is drawn by itself, as a draft first, and gives way to whatever else is done."""
        live = Live()
        finished = False

        def work(session: Session, report: Reporter) -> tuple:
            reference, right, requests = prepare(session, report)
            live.prompts, live.clip_name = len(requests), session.store.clip_name
            live.names = {LEFT: "dense", RIGHT: right.name} | ({MIDDLE: reference.name} if reference else {})
            few = draft_steps(requests[0].steps) if again else None
            if few:
                report.emit(draw_draft(session, right, requests, few, report))
            done = compare_models(
                session, right, requests, reference=reference, gain=runs.gain, emit=report.emit, progress=report
            )
            report(1, 1, "Done")  # what was cancelled leaves nothing
            runs.add(session, right, done)  # here, since the page may be gone by now
            return session, right, done

        bar = unchanged(self._frame.outputs)
        still = unchanged([self._layout.strip, self._layout.evidence.plot])
        try:
            # What was asked for takes the last problem off the bar; what is drawn by itself does not.
            step = None if again else "the last change"
            for update in self._actions.watch(request, session, work, step, gives_way=again):
                if isinstance(update, Preview):
                    yield (*bar, *live.show(update), *still)
                elif isinstance(update, Draft):
                    yield (*bar, *live.show_draft(update), *still)
                elif isinstance(update, Result):
                    finished = True
                    yield (*bar_updates(update.value[0]), *show_run(runs, *look))
                else:
                    yield (*update, *unchanged(self._layout.outputs))
        except Exception:
            if live.started:
                yield (*bar, *show_run(runs, *look))
            raise
        if live.started and not finished:  # cancelled halfway: back to the pictures of before
            yield (*bar, *show_run(runs, *look))

    def generate(
        self, session, runs: Runs, score, over, text, seed, steps, frames, picture, request: gr.Request
    ) -> Iterator[tuple]:
        """The dense model, A where there is one, and the session's model as B."""
        asked = text, seed, steps, frames, picture
        yield from self._draw(session, runs, (score, over), request, self._plan_and_a(runs, asked))

    def _plan_and_a(self, runs: Runs, asked: tuple) -> Prepare:
        def prepare(session: Session, report: Reporter) -> tuple:
            session.need_plan()
            requests = self._requests(session, *asked)
            reference = runs.reference(session, report)
            if reference is not None and reference.plan is session.plan:
                return reference, replace(reference, name=name_of_session(session)), requests
            return reference, drawn_model.of_session(session, report), requests

        return prepare

    def redraw(
        self, session, runs: Runs, score, over, on, text, seed, steps, frames, picture, request: gr.Request
    ) -> Iterator[tuple]:
        """After a change of the plan: B anew, where there are pictures already and this is asked for.

        What takes long is left to a person, who is told so.
        """
        nothing = (*unchanged(self._frame.outputs), *unchanged(self._layout.outputs))
        asked = text, seed, steps, frames, picture
        while on and text and runs.shown is not None:  # a page that has just opened has no prompt yet
            now = self._actions.newest(request, session)
            if now is None or now.plan is None or runs.shown.session.plan is now.plan:
                break
            found = runs.at_hand(now.plan)
            if found is not None and found.comparison.requests == runs.shown.comparison.requests:
                runs.show(found)
                yield (*unchanged(self._frame.outputs), *show_run(runs, score, over))
                return
            left = time_left(now)
            if left is not None and not left.short:
                break
            try:
                yield from self._draw(now, runs, (score, over), request, self._plan_and_a(runs, asked), again=True)
                return
            except GaveWay:  # what the person did instead comes first
                continue
        yield nothing

    def paint_cluster(
        self,
        session,
        runs: Runs,
        score,
        over,
        layer,
        cluster,
        mode,
        text,
        seed,
        steps,
        frames,
        picture,
        request: gr.Request,
    ) -> Iterator[tuple]:
        """One cluster is pruned, or all of its layer but that cluster, as B; everything else stays dense."""

        def prepare(session: Session, report: Reporter) -> tuple:
            right = drawn_model.of_cluster(session, layer, cluster, mode)
            return runs.reference(session, report), right, self._requests(session, text, seed, steps, frames, picture)

        yield from self._draw(session, runs, (score, over), request, prepare)

    def measure_sensitivity(self, session: Session, request: gr.Request) -> Iterator[tuple]:
        """Prune every layer alone, and measure."""
        yield from self._actions.run(request, session, measuring.sense)

    @staticmethod
    def _requests(session: Session, text, seed, steps, frames, picture) -> tuple:
        return check_prompts(session.model, split_prompts(text), seed, steps, *taken(session.model, frames, picture))

    def restore(
        self, session: Session, runs: Runs, score: str, over: str, event: gr.EventData, request: gr.Request
    ) -> Iterator[tuple]:
        """Back to an earlier run: its session, pictures and prompts. Nothing for a number that is none of its."""
        outputs = [*self._layout.outputs, *self._layout.request.restored]
        chosen = runs.find(read_whole(value_of(event, "id")))
        if chosen is None:
            yield (*unchanged(self._frame.outputs), *unchanged(outputs))
            return

        def back(present: Session, report: Reporter) -> Session:
            if present.model is not chosen.session.model:
                raise UserError(f"Run {chosen.number} was made with a model that is no longer loaded.")
            return bring_back(chosen.session, present)

        for update in self._actions.watch(request, session, back):
            if isinstance(update, Result):
                runs.show(chosen)
                first = chosen.comparison.requests[0]
                yield (
                    *session_updates(update.value),
                    *show_run(runs, score, over),
                    "\n".join(chosen.prompts),
                    first.seed,
                    first.steps,
                    first.frames,
                    *input_picture.show(first.picture),
                )
            else:
                yield (*update, *unchanged(outputs))

    def pick_dot(
        self, session: Session, runs: Runs, score: str, over: str, event: gr.EventData, request: gr.Request
    ) -> Iterator[tuple]:
        """A click on a dot of the evidence brings its run back; with Shift it becomes A, or no longer is."""
        if mode_of(event) == "set":
            for updates in self.restore(session, runs, score, over, event, request):
                yield (*updates, gr.skip())
            return
        still = unchanged([*self._frame.outputs, *self._layout.outputs, *self._layout.request.restored])
        yield (*still, self.make_a(runs, event))

    @staticmethod
    def make_a(runs: Runs, event: gr.EventData) -> int:
        """A run becomes A, or no longer is. The number is that of the change; `follow_a` shows what came of it."""
        number = read_whole(value_of(event, "id"))
        run = runs.find(number)
        if not (value_of(event, "make") is True and run is not None and runs.is_a(run)):
            runs.make_a(number)
        return runs.changes

    @staticmethod
    def follow_a(runs: Runs, score: str, over: str) -> tuple:
        """Pictures, strip and evidence after another plan became A, here or on the Map."""
        return show_run(runs, score, over)

    @staticmethod
    def regain(runs: Runs, event: gr.EventData) -> gr.Image:
        """Differences times another number."""
        gain = read_whole(value_of(event, "gain"))
        if gain not in GAINS:
            return gr.skip()
        runs.set_gain(gain)
        if runs.shown is None:
            return gr.skip()
        done = runs.shown.comparison
        return gr.Image(value=contact_sheet(done.differences), label=view.difference_label(done.gain))

    def follow_model(self, session: Session | None, runs: Runs, score: str, over: str) -> tuple:
        """Runs of a model that is no longer loaded are forgotten; another model has other measured curves."""
        before = runs.session.model if runs.session else None
        if runs.follow(session):
            return show_run(runs, score, over)
        if session is None or session.model is before:
            return tuple(unchanged(self._layout.outputs))
        return (*unchanged(self._layout.outputs[:-1]), plot.show(evidence_figure(session, runs, score, over)))


def show_run(runs: Runs, score: str = "ssim", over: str = SPARSITY) -> tuple:
    """Updates for pictures, strip and evidence: the run that is shown, or an empty page."""
    pictures = view.finished(runs.shown.comparison, runs.a) if runs.shown else view.nothing()
    drawn = evidence_figure(runs.session, runs, score, over)
    return (*pictures, runs_strip.show(runs), plot.show(drawn))


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
