"""Named versions: the present plan gets a name and a link that brings it back, also in another browser."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame, session_updates
from dit_prune_viz.app.pages.compare.layout import CompareLayout
from dit_prune_viz.app.pages.compare.listeners import PageRuns, show_run
from dit_prune_viz.app.session.jobs import Reporter, Result
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.versions import Version, find_version, open_version, save_version

ASKED = "version"
"""The parameter of the page's address that names a version."""


def wire(frame: Frame, actions: Actions, layout: CompareLayout, page_runs: PageRuns) -> None:
    """Wire the row above the strip. The page calls `wire_link` as well, once it is whole."""
    fields, runs, axes = layout.versions, page_runs.runs, layout.evidence.inputs

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
                yield (*session_updates(update.value), *show_run(runs, score, over), _saved(saved[0]))
            else:
                yield (*update, *[gr.skip() for _ in (*layout.outputs, fields.words)])

    gr.on(
        [fields.save.click, fields.name.submit],
        save,
        [frame.session, runs, *axes, fields.name],
        [*frame.outputs, *layout.outputs, fields.words],
        **INTERNAL,
    )


def wire_link(page: gr.Blocks, frame: Frame, actions: Actions, layout: CompareLayout, tabs: gr.Tabs) -> None:
    """A page that is opened by a version's link shows that version."""
    asked = gr.Textbox("", visible=False)
    request_fields = layout.request

    def follow(session: Session, id: str, request: gr.Request) -> Iterator[tuple]:
        outputs = [request_fields.prompt, request_fields.seed, request_fields.steps, layout.versions.name, tabs]
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
                yield (*session_updates(update.value), *drawn, version.name, gr.Tabs(selected="compare"))
            else:
                yield (*update, *still)

    page.load(
        follow,
        [frame.session, asked],
        [
            *frame.outputs,
            request_fields.prompt,
            request_fields.seed,
            request_fields.steps,
            layout.versions.name,
            tabs,
        ],
        js=f"(session) => [session, new URLSearchParams(location.search).get('{ASKED}') ?? '']",
        **INTERNAL,
    )


def _saved(version: Version) -> str:
    link = f"?{ASKED}={version.id}"
    return (
        f'<span role="status">Saved “{escape(version.name)}”: '
        f'<a href="{link}" target="_blank" rel="noopener">link that brings it back</a></span>'
    )
