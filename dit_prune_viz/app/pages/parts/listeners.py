"""What "Which part does what?" does: draw the parts, show each as it comes, open one in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import gradio as gr

from dit_prune_viz.app.pages.actions import Actions, Frame
from dit_prune_viz.app.pages.events import value_of
from dit_prune_viz.app.pages.parts import view
from dit_prune_viz.app.pages.parts.layout import EVERY, PartViews
from dit_prune_viz.app.pages.updates import bar_updates, unchanged
from dit_prune_viz.app.session.analyzer import Finding, Findings, analyze
from dit_prune_viz.app.session.comparison import check_prompts, split_prompts
from dit_prune_viz.app.session.comparison_result import measure
from dit_prune_viz.app.session.drawing_inputs import taken
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.layer_subject import is_clustered
from dit_prune_viz.app.session.parts import CLUSTERS, GROUPS, Part, cluster_part, parts_of
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import part_grid, plot
from dit_prune_viz.errors import UserError
from dit_prune_viz.figures import style


class PartListeners:
    """Those of one grid; `findings` are those of the page's workspace."""

    def __init__(self, frame: Frame, actions: Actions, views: PartViews) -> None:
        self._frame, self._actions, self._views = frame, actions, views

    def draw(
        self,
        session,
        findings: Findings,
        by,
        layer,
        chosen,
        mode,
        sparsity,
        measured,
        text,
        seed,
        steps,
        frames,
        picture,
        request: gr.Request,
    ) -> Iterator[tuple]:
        """All or some of the model's parts."""
        asked = text, seed, steps, frames, picture
        share = sparsity / 100 if isinstance(sparsity, int | float) else sparsity
        yield from self._draw(
            session,
            findings,
            lambda session: parts_of(session, by, layer, _keys(chosen)),
            asked,
            request,
            mode=mode,
            sparsity=share,
            measured=bool(measured),
        )

    def paint(
        self, session, findings: Findings, layer, cluster, mode, text, seed, steps, frames, picture, request: gr.Request
    ) -> Iterator[tuple]:
        """One cluster of the open layer, or all of them."""

        def parts(session: Session) -> tuple[Part, ...]:
            whole = cluster == EVERY and not isinstance(cluster, bool)
            return parts_of(session, CLUSTERS, layer) if whole else (cluster_part(session, layer, cluster),)

        asked = text, seed, steps, frames, picture
        yield from self._draw(session, findings, parts, asked, request, mode=mode, measured=False)

    def _draw(
        self,
        session,
        findings: Findings,
        parts: Callable[[Session], Sequence[Part]],
        asked: tuple,
        request: gr.Request,
        **how,
    ) -> Iterator[tuple]:
        running = False

        def work(session: Session, report: Reporter) -> Session:
            model, chosen = session.need_model(), parts(session)
            text, seed, steps, frames, picture = asked
            requests = check_prompts(model, split_prompts(text), seed, steps, *taken(model, frames, picture))
            began = session, how.get("mode"), how.get("sparsity", 1.0), len(chosen)

            def found(finding: Finding) -> None:  # here, since the page may be gone by now
                nonlocal running
                if not running:
                    findings.begin(*began)
                    running = True
                findings.found.append(finding)
                report.emit(finding)

            try:
                analyze(session, chosen, requests, **how, emit=found, progress=report)
            finally:
                findings.done = findings.done or running
            return session

        bar = unchanged(self._frame.outputs)
        try:
            for update in self._actions.watch(request, session, work):
                if isinstance(update, Finding):
                    yield (*bar, *self.show(findings, [update]))
                elif isinstance(update, Result):
                    running = False
                    yield (*bar_updates(update.value), *self.show(findings))
                else:
                    yield (*update, *unchanged(self._views.outputs))
        except Exception:
            if running:
                yield (*bar, *self.show(findings))
            raise
        if running:  # cancelled half-way: what is drawn stays
            yield (*bar, *self.show(findings))

    def show(self, findings: Findings, new: Sequence[Finding] | None = None) -> tuple:
        """Updates for the views; `new` as in `part_grid.show`."""
        cards = part_grid.show(findings, new)
        if self._views.comparing is None:
            return (cards,)
        figure, words = view.compared(findings.found)
        return cards, gr.HTML(value=plot.show(figure), visible=bool(findings.found)), words

    def follow_model(self, session: Session | None, findings: Findings) -> tuple:
        """What was found of a model that is no longer loaded is forgotten."""
        return self.show(findings) if findings.follow(session) else tuple(unchanged(self._views.outputs))


def put_in_full(runs: Runs, findings: Findings, event: gr.EventData) -> bool:
    """Make a card's pictures the newest of the runs and the one that is shown; False for a card that is gone."""
    place = value_of(event, "id")
    known = isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(findings.found)
    if not known or value_of(event, "number") != findings.number:
        return False
    found = findings.found[place]
    done = found.comparison
    whole = measure(done.left, done.right, done.requests, done.clip_name, done.seconds)
    runs.add(findings.session, found.drawn, replace(whole, unread=done.unread))
    return True


def offer(session: Session | None, by: object, layer: object, offered: tuple | None) -> tuple:
    """What was offered, and updates for the lists of layers and parts; nothing moves while these stay the same."""
    clusters = session.clusters if session and session.model else {}
    layer = layer if layer in clusters else next(reversed(clusters), None)
    number = session.model.number if session and session.model else None
    of_layer = (layer, id(clusters[layer]) if layer else None, tuple(clusters)) if by == CLUSTERS else ()
    of_groups = tuple((part.key, part.name) for part in parts_of(session, GROUPS)) if number and by == GROUPS else ()
    basis = number, by, of_layer, of_groups
    if basis == offered:
        return gr.skip(), gr.skip(), gr.skip()
    layers = gr.Dropdown(choices=list(clusters), value=layer, visible=by == CLUSTERS)
    try:
        parts = parts_of(session, by, layer) if number is not None else ()
    except UserError:  # no layer has clusters yet
        parts = ()
    return basis, layers, gr.Dropdown(choices=[(part.name, part.key) for part in parts], value=None)


def offer_paint(session: Session | None, layer: object, offered: tuple | None) -> tuple:
    """What was offered, and the open layer's clusters, the one with the largest activations chosen."""
    if not is_clustered(session, layer):
        basis = None, None
    else:
        clusters = session.clusters[layer]
        basis = layer, id(clusters)
    if basis == offered:
        return gr.skip(), gr.skip()
    if basis[0] is None:
        return basis, gr.Dropdown(choices=[], value=None)
    named = [(f"{style.glyph(tag.look)} {tag.name}", i) for i, tag in enumerate(clusters.tags)]
    return basis, gr.Dropdown(choices=[*named, ("every cluster", EVERY)], value=clusters.k - 1)


def _keys(chosen: object) -> tuple[str, ...]:
    """Keys of parts as a browser sends them."""
    if not isinstance(chosen, list | tuple) or not all(isinstance(key, str) for key in chosen):
        return ()
    return tuple(chosen)
