"""Answers to the unit plot's script, which asks past gradio's events about a dot or about the dots' heights.

Gradio hands such a function no session of its own, so that the page shows the token that the server made for it. A name
that is unknown, old or another visitor's is answered with nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from dit_prune_viz.app.pages.actions import Actions
from dit_prune_viz.app.pages.layer import captions
from dit_prune_viz.app.pages.layer.page_state import PageState, PageStates
from dit_prune_viz.app.session import layer_data
from dit_prune_viz.app.session.browser_values import read_whole
from dit_prune_viz.app.session.layer_subject import layer_of
from dit_prune_viz.app.session.session import Session


class UnitAnswers:
    """`asked` is what the browser sends: "owner", the page's token, "subject", and "id" of a unit or a count "dots"."""

    def __init__(self, actions: Actions, states: PageStates) -> None:
        self._actions, self._states = actions, states

    def details(self, asked: object) -> str:
        """A line about one unit."""
        about = self._about(asked)
        index = read_whole(asked.get("id")) if about else None
        if index is None:
            return ""
        _, session, layer = about
        return captions.describe_unit(session, layer, index)

    def frames(self, asked: object) -> str:
        """The heights of the dots that are drawn in every timestep bin, float32 in base64, bin after bin."""
        about = self._about(asked)
        if about is None:
            return ""
        state, session, layer = about
        unit = session.clusters[layer].unit
        drawn = layer_data.drawn_units(session, layer, unit, "plane", state.view.most)
        if read_whole(asked.get("dots")) != len(drawn):
            return ""  # the browser shows a drawing that has been replaced meanwhile
        return base64.b64encode(layer_data.frames(session, layer, unit, drawn).astype("<f4").tobytes()).decode()

    def _about(self, asked: object) -> tuple[PageState, Session, str] | None:
        """The page that asks, its session, and the layer it asks about; None unless the page owns all of that."""
        state = self._states.of_token(asked.get("owner")) if isinstance(asked, Mapping) else None
        if state is None:
            return None
        session = self._actions.newest_of(state.visitor) or self._actions.prepared()
        layer = layer_of(session, asked.get("subject"))
        return None if layer is None else (state, session, layer)
