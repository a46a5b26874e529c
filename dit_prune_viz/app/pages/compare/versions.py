"""Named versions: the present plan gets a name and a link that brings it back, also in another browser."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.compare.layout import CompareLayout
from dit_prune_viz.app.pages.compare.listeners import show_run
from dit_prune_viz.app.pages.events import value_of
from dit_prune_viz.app.pages.updates import session_updates
from dit_prune_viz.app.pages.visits import Kept
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.versions import Version, find_version, open_version, save_version
from dit_prune_viz.app.widgets import saved_versions
from dit_prune_viz.app.widgets.saved_versions import ASKED


def wire(frame: Frame, actions: Actions, layout: CompareLayout, kept: Kept) -> None:
    """Wire what saves a version. The page calls `wire_opening` as well, once it is whole."""
    fields, runs, axes = layout.versions, kept.runs, layout.evidence.inputs

    def save(session: Session, runs: Runs, score: str, over: str, name: str, request: gr.Request) -> Iterator[tuple]:
        saved: list[Version] = []

        def work(now: Session, report: Reporter) -> Session:
            report(0, 1, "Saving the version")
            run = runs.at_hand(now.plan)
            first = run.comparison.requests[0] if run else None
            asked = (run.prompts, first.seed, first.steps) if run else ()
            named, version = save_version(now, name, *asked)
            saved.append(version)
            runs.rename(named)
            return named

        for update in actions.watch(request, session, work, "named a plan"):
            if isinstance(update, Result):
                yield (*session_updates(update.value), *show_run(runs, score, over), saved_versions.show(saved[0]))
            else:
                yield (*update, *[gr.skip() for _ in (*layout.outputs, fields.words)])

    gr.on(
        [fields.save.click, fields.name.submit],
        save,
        [frame.session, runs, *axes, fields.name],
        [*frame.outputs, *layout.outputs, fields.words],
        **INTERNAL,
    )


def wire_opening(page: gr.Blocks, frame: Frame, actions: Actions, layout: CompareLayout, tabs: gr.Tabs) -> None:
    """A version is opened from the list of those that were saved, and by its link when the page is loaded."""
    asked = gr.Textbox("", visible=False)
    fields = layout.request
    outputs = [fields.prompt, fields.seed, fields.steps, layout.versions.name, layout.versions.words, tabs]

    def follow(session: Session, id: object, request: gr.Request) -> Iterator[tuple]:
        still = [gr.skip() for _ in outputs]
        if not id:
            yield (*[gr.skip() for _ in frame.outputs], *still)
            return
        found: list[Version] = []

        def work(now: Session, report: Reporter) -> Session:
            found.append(find_version(now, id))
            return open_version(now, found[0], report)

        for update in actions.watch(request, session, work, "opened a version"):
            if isinstance(update, Result):
                version = found[0]
                drawn = ("\n".join(version.prompts), version.seed, version.steps) if version.prompts else still[:3]
                words = saved_versions.show(version)
                yield (*session_updates(update.value), *drawn, version.name, words, gr.Tabs(selected="compare"))
            else:
                yield (*update, *still)

    def choose(session: Session, request: gr.Request, event: gr.EventData) -> Iterator[tuple]:
        yield from follow(session, value_of(event, "id"), request)

    every = [*frame.outputs, *outputs]
    layout.versions.words.select(choose, frame.session, every, trigger_mode="multiple", **INTERNAL)
    read_link = f"(session) => [session, new URLSearchParams(location.search).get('{ASKED}') ?? '']"
    page.load(follow, [frame.session, asked], every, js=read_link, **INTERNAL)
