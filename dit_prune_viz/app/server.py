"""The whole page: top bar, left column, five tabs and the API, put together and wired to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import gradio as gr

from dit_prune_viz.app import api
from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.calls import Calls
from dit_prune_viz.app.pages.compare import page as compare_tab
from dit_prune_viz.app.pages.compare import versions
from dit_prune_viz.app.pages.controls import page as controls
from dit_prune_viz.app.pages.controls import toggle as sidebar
from dit_prune_viz.app.pages.events import value_of
from dit_prune_viz.app.pages.gradio_seams import close_seams, forget_page
from dit_prune_viz.app.pages.layer import page as layer_tab
from dit_prune_viz.app.pages.map import page as map_tab
from dit_prune_viz.app.pages.takeaway import page as takeaway_tab
from dit_prune_viz.app.pages.takeaway.listeners import Sources
from dit_prune_viz.app.pages.topbar import hints
from dit_prune_viz.app.pages.topbar import page as topbar
from dit_prune_viz.app.pages.tradeoff import page as tradeoff_tab
from dit_prune_viz.app.pages.visits import Kept, Visits
from dit_prune_viz.app.session.jobs import Busy
from dit_prune_viz.app.session.layer_subject import owned_layer
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.app.session.workspaces import Workspaces
from dit_prune_viz.app.widgets import layer_list, open_page, plot, session_link
from dit_prune_viz.app.widgets.scripts import script

HOTKEYS, FOCUS = script("pages/hotkeys.js"), script("pages/focus.js")
NUMBER_FIELDS = script("pages/number_fields.js")
KEEP_GOING = script("pages/topbar/keep_going.js")
TO_TAB = """() => void setTimeout(() => {
  const [at, tab] = [document.activeElement, document.querySelector('#tabs [role="tab"][aria-selected="true"]')];
  if (at === document.body || !at?.offsetParent) tab?.focus({ preventScroll: true });
}, 50)"""
"""What was clicked on lies on a page that is no longer shown: the focus goes to the tab of the one that is."""
TITLE = "DiT Pruning Explorer"
CHECK, KEPT = 15 * 60, 12 * 3600
"""Seconds: how often gradio's copies of pictures and files, and what was uploaded, are looked through, and how old they
become."""
MAP, LAYER, COMPARE, TRADEOFF, TAKEAWAY = PAGES = ("map", "layer", "compare", "tradeoff", "takeaway")


def build_app(startup: Startup, workspaces: Workspaces | None = None) -> gr.Blocks:
    """The app; a page that opens waits for the model that `startup` prepares. Without `workspaces` nothing is saved."""
    close_seams()
    plot.serve_plotly()
    return _page(startup, workspaces or Workspaces(startup.jobs.cancel))


def draw_ahead(startup: Startup) -> None:
    """Draw the map of the prepared session while the first visitor's browser still builds the page."""
    map_tab.draw_ahead(startup.wait())


@dataclass(frozen=True)
class TopBar:
    """The bar's components."""

    bar: gr.HTML
    cancel: gr.Button
    undo: gr.Button
    redo: gr.Button


@dataclass(frozen=True)
class Tabs:
    """The tabs: what each offers to the others, and the components that switch between them.

    frames: of the pages, by the id of their tab.
    """

    tabs: gr.Tabs
    frames: Mapping[str, Frame]
    map_page: gr.Tab
    layer_page: gr.Tab
    compare_page: gr.Tab
    back: gr.Button
    map: map_tab.MapTab
    layer: layer_tab.LayerTab
    compare: compare_tab.CompareTab
    tradeoff: tradeoff_tab.TradeoffTab


def _page(startup: Startup, workspaces: Workspaces) -> gr.Blocks:
    actions = Actions(startup.jobs, startup, workspaces)
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(CHECK, KEPT)) as page:
        state = gr.State(None)
        api.build(
            state, Calls(startup, workspaces)
        )  # first, so that its names are not taken by the page's own listeners
        top = _top_bar()
        hints.strip()
        frame, kept = Frame(state, top.bar, top.cancel, shown=state), Kept.states()
        with gr.Row(elem_id="body"):
            sidebar.toggle()
            with gr.Column(scale=0, min_width=280, elem_id="controls"):
                controls.build(frame, actions, startup.source)
            with gr.Column(scale=1, min_width=480):
                tabs = _tabs(frame, actions, kept, startup.out)
        versions.wire_opening(page, frame, actions, tabs.compare.layout, tabs.tabs)
        _wire_top_bar(frame, top, actions)
        _wire_tabs(frame, kept, tabs, actions)
        for once in (HOTKEYS, FOCUS, NUMBER_FIELDS):
            page.load(None, None, None, js=once)
        _wire_visits(page, frame, kept, actions)
    return page


def _top_bar() -> TopBar:
    with gr.Row(elem_id="topbar", equal_height=True):
        opening = topbar.render(None, Busy(0, 1, "Opening"))
        bar = gr.HTML(opening, js_on_load=KEEP_GOING, elem_id="bar", apply_default_css=False)
        cancel = gr.Button("Cancel", size="sm", visible=False, elem_id="cancel", scale=0, min_width=90)
        undo = gr.Button("↶ Undo", size="sm", interactive=False, elem_id="undo", scale=0, min_width=76)
        redo = gr.Button("↷ Redo", size="sm", interactive=False, elem_id="redo", scale=0, min_width=76)
        hints.button()
    return TopBar(bar, cancel, undo, redo)


def _wire_visits(page: gr.Blocks, frame: Frame, kept: Kept, actions: Actions) -> None:
    """A page that opens or comes back shows its workspace, and hears of what happens there elsewhere."""
    visits, outputs, link = Visits(frame, kept, actions), [*frame.outputs, *kept.outputs], session_link.session_link()
    page.load(visits.open, None, outputs, **INTERNAL)
    link.submit(visits.open, None, outputs, trigger_mode="multiple", **INTERNAL)
    link.select(visits.look, kept.a, outputs, **INTERNAL)
    page.unload(actions.leave)
    actions.workspaces.forget = partial(forget_page, page)


def _wire_top_bar(frame: Frame, top: TopBar, actions: Actions) -> None:
    top.cancel.click(actions.cancel, queue=False, **INTERNAL)
    top.bar.select(actions.keep_going, None, frame.bar, queue=False, **INTERNAL)
    top.undo.click(actions.undo, frame.session, frame.outputs, **INTERNAL)
    top.redo.click(actions.redo, frame.session, frame.outputs, **INTERNAL)
    frame.session.change(actions.weigh, frame.session, frame.bar, trigger_mode="always_last", **INTERNAL)
    frame.session.change(actions.undo_buttons, None, [top.undo, top.redo], **INTERNAL)


def _tabs(frame: Frame, actions: Actions, kept: Kept, folder: Path) -> Tabs:
    frames = {page: frame.of_page() for page in PAGES}
    of_map, of_layer, of_compare, of_tradeoff, of_takeaway = frames.values()
    with gr.Tabs(elem_id="tabs") as tabs:
        with gr.Tab("Map", id=MAP, render_children=True) as map_page:
            map_view = map_tab.build(of_map, actions, kept.runs, kept.a)
        with gr.Tab("Layer", id=LAYER, render_children=True) as layer_page:
            back = gr.Button("← Back to Compare (Esc)", size="sm", visible=False, elem_id="to-workbench", scale=0)
            layer_view = layer_tab.build(of_layer, actions)
        with gr.Tab(compare_tab.TITLE, id=COMPARE, render_children=True) as compare_page:
            compare_view = compare_tab.build(of_compare, actions, kept, tabs)
        with gr.Tab("Trade-off", id=TRADEOFF, render_children=True) as tradeoff_page:
            tradeoff_view = tradeoff_tab.build(of_tradeoff, actions, kept, tradeoff_page)
        with gr.Tab(takeaway_tab.TITLE, id=TAKEAWAY, render_children=True):
            sources = Sources(kept.runs, kept.measured, layer_view.selection)
            takeaway_tab.build(of_takeaway, actions, sources, folder)
    return Tabs(
        tabs, frames, map_page, layer_page, compare_page, back, map_view, layer_view, compare_view, tradeoff_view
    )


def _wire_tabs(frame: Frame, kept: Kept, tabs: Tabs, actions: Actions) -> None:
    _show_in_open_page(frame, tabs)
    of_compare = tabs.frames[COMPARE]
    compare_tab.follow_layer(of_compare, tabs.compare, tabs.layer.picker, tabs.compare_page)
    compare_tab.paint_in_layer(tabs.frames[LAYER], actions, kept, tabs.compare, tabs.layer, tabs.layer_page, tabs.tabs)
    _open_on_click(frame, tabs, actions)
    # Not when a layer is opened, so that nothing keeps the browser from drawing it.
    tabs.map_page.select(layer_list.mark, tabs.layer.picker, tabs.map.list, **INTERNAL)
    _follow_model(frame, tabs, actions)


def _show_in_open_page(frame: Frame, tabs: Tabs) -> None:
    """The page that is open shows the session; the others catch up when they are opened."""
    opened = gr.State(MAP)

    def show(session: Session | None, page: str) -> list:
        return [session if one == page else gr.skip() for one in tabs.frames]

    # Through the queue: gradio says nothing of a state that changes beside it.
    open_page.open_page().select(_opened, None, opened, trigger_mode="multiple", **INTERNAL)
    shown = [one.shown for one in tabs.frames.values()]
    changes, known = [frame.session.change, opened.change], [frame.session, opened]
    gr.on(changes, show, known, shown, trigger_mode="always_last", **INTERNAL)


def _opened(event: gr.EventData) -> str:
    return value_of(event, "page")


def _open_on_click(frame: Frame, tabs: Tabs, actions: Actions) -> None:
    """A click on a layer in the map opens it in the Layer tab; the map marks the layer that is open there.

    From the board of the Compare page one goes back there with a button or Escape.
    """

    def pick(session: Session | None, request: gr.Request, event: gr.EventData) -> tuple:
        layer = owned_layer(actions.newest(request, session), value_of(event, "id"))
        if layer is None:
            return gr.skip(), gr.skip()
        return gr.Dropdown(value=layer), gr.Tabs(selected="layer")

    views = [tabs.map.plane, tabs.map.heat, tabs.map.dots, tabs.map.list, *tabs.map.pair]
    outputs, board = [tabs.layer.picker, tabs.tabs], tabs.compare.board
    for clicks, way_back in (([view.click for view in views], False), ([board.click], True)):
        opened = gr.on(clicks, pick, frame.session, outputs, **INTERNAL)
        opened.then(None, None, None, js=TO_TAB)
        opened.then(**tabs.layer.open_args)
        gr.on(clicks, lambda shown=way_back: gr.Button(visible=shown), None, tabs.back, queue=False, **INTERNAL)
    tabs.back.click(lambda: gr.Tabs(selected="compare"), None, tabs.tabs, queue=False, **INTERNAL)


def _follow_model(frame: Frame, tabs: Tabs, actions: Actions) -> None:
    """Whatever depends on which model is loaded and how it is calibrated; nothing moves while both stay the same."""
    # The models that the picker and the fields are for, what the open layer is of, and how often one had to be opened.
    offered, suggested, last, openings = gr.State(None), gr.State(None), gr.State([Basis()]), gr.State(0)

    def basis_of(session: Session | None) -> Basis:
        return Basis() if actions.is_early(session) else Basis.of(session)

    def look(session: Session | None, last: list[Basis], openings: int) -> int:
        now, before = basis_of(session), last[0]
        last[0] = now  # never an output, so that nothing hears of it
        return openings + now.opens_after(before)

    def offer(session: Session | None, of: int | None) -> tuple:
        number = basis_of(session).model
        return (gr.skip(), gr.skip()) if number == of else (number, layer_tab.choices(session))

    def suggest(session: Session | None, of: int | None, request: gr.Request) -> tuple:
        number = basis_of(session).model
        if number == of:
            return (gr.skip(),) * len(fields)
        return (
            number,
            *compare_tab.suggestions(session, actions.workspace(request).runs),
            tradeoff_tab.suggestions(session),
        )

    compared = [
        tabs.compare.prompt,
        tabs.compare.examples,
        tabs.compare.steps,
        tabs.compare.frames,
        tabs.compare.picture,
    ]
    fields = [suggested, *compared, tabs.tradeoff.steps]
    picked = {"fn": offer, "inputs": [frame.session, offered], "outputs": [offered, tabs.layer.picker], **INTERNAL}
    frame.session.change(**picked)
    # By itself: what a model can draw may take a while to find out, which the picker does not wait for.
    frame.session.change(suggest, [frame.session, suggested], fields, **INTERNAL)
    seen = [tabs.frames[page].shown.change for page in (LAYER, COMPARE)]
    gr.on(seen, look, [frame.session, last, openings], openings, trigger_mode="always_last", **INTERNAL)
    openings.change(**picked).then(**tabs.layer.open_args)


@dataclass(frozen=True)
class Basis:
    """What a layer that is open is of.

    Attributes:
        model: its number.
        calibration: names it.
        clustered: whether any layer is; a model that is loaded again begins without clusters.
    """

    model: int | None = None
    calibration: int | None = None
    clustered: bool = False

    @classmethod
    def of(cls, session: Session | None) -> Basis:
        """That of a session."""
        if session is None or session.model is None:
            return cls()
        return cls(session.model.number, session.calibration and id(session.calibration), bool(session.clusters))

    def opens_after(self, before: Basis) -> bool:
        """Whether a layer has to be opened anew: for another model or calibration, or where clusters are gone."""
        return self != before and self != replace(before, clustered=True)
