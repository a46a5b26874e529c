"""Which units an event of one of the Layer page's views means."""

from __future__ import annotations

import gradio as gr
import numpy as np

from dit_prune_viz.app.pages.events import value_of
from dit_prune_viz.app.pages.layer.page_state import PageState
from dit_prune_viz.app.session import layer_selection
from dit_prune_viz.app.session.browser_values import read_range, read_whole
from dit_prune_viz.app.session.selection import unpack
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.errors import UserError


def units_of_dots(event: gr.EventData, state: PageState, session: Session) -> np.ndarray:
    """The units whose dots were drawn around or clicked. UserError where they cannot be read."""
    return unpack(value_of(event, "packed"))


def units_of_plane_box(event: gr.EventData, state: PageState, session: Session) -> np.ndarray:
    """The units in a box of the importance plane."""
    drawn, view = value_of(event, "range"), state.view
    x, y = read_range(drawn, "x"), read_range(drawn, "y")
    return layer_selection.units_in_plane(session, view.layer, x, y, view.order, overlay=view.overlay)


def units_of_saliencies(event: gr.EventData, state: PageState, session: Session) -> np.ndarray:
    """The units that have half of their weights in a range of the histogram. UserError where there is none."""
    units = layer_selection.units_in_range(session, state.view.layer, *read_range(value_of(event, "range"), "x"))
    if not len(units):
        raise UserError("No unit has half of its weights in this range; drag across a wider one.")
    return units


def units_of_table_row(event: gr.EventData, state: PageState, session: Session) -> np.ndarray:
    """The units of the cluster whose name was clicked in the table."""
    return _units_of_cluster(value_of(event, "cluster"), state, session)


def units_of_line(event: gr.EventData, state: PageState, session: Session) -> np.ndarray:
    """The units of the cluster whose line was clicked."""
    return _units_of_cluster(value_of(event, "id"), state, session)


def _units_of_cluster(cluster: object, state: PageState, session: Session) -> np.ndarray:
    number = read_whole(cluster)
    if number is None:
        return np.zeros(0, dtype=np.int64)
    return layer_selection.units_of_cluster(session, state.view.layer, number)
