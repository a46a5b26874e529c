"""What one visitor's Layer page shows: the view, the selection, and which pictures the browser has already."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from dit_prune_viz.app import formatting as words
from dit_prune_viz.app.pages.layer import captions as layer_words
from dit_prune_viz.app.pages.layer import view as layer_view
from dit_prune_viz.app.pages.layer.view import View
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import cluster_table
from dit_prune_viz.app.widgets import plot as scatter
from dit_prune_viz.clustering.edit import BY_HAND
from dit_prune_viz.figures.style import message

EMPTY = "A layer appears here once the model is calibrated."
NO_IMPORTANCE = "Where in the layer they lie."
NO_CUT = "Its saliencies, and where they are cut."
NO_LINES = "How its inputs change while a picture is denoised."
HINT = "Draw around dots, or drag over any other picture, to select; Shift adds, Alt takes away."
AUTOMATIC = "auto"
ALGORITHMS = [("k-means", "kmeans"), ("Gaussian mixture", "gmm"), ("HDBSCAN", "hdbscan")]
COUNTS = [("auto", AUTOMATIC), *((str(k), k) for k in range(1, 11))]


@dataclass(eq=False)
class LayerPage:
    """One visitor's, `owner`. `lock` is held while updates are worked out, so that they leave in order."""

    owner: str = ""
    view: View = field(default_factory=View)
    selection: Selection = field(default_factory=Selection)
    sent: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def select(self, session: Session | None, ids, mode: str, origin: str) -> None:
        """Change the selection of the layer that is shown."""
        now = self.selection.of(layer_view.subject(session, self.view.layer))
        self.selection = now.changed(ids, mode, origin)

    def updates(self, session: Session | None) -> list:
        """Updates for units, plane, cut, lines, table, the selection in words, unit, algorithm, k, how the clusters
        were found and how many; what has not changed since it was sent is skipped."""
        try:
            return self._updates(session)
        except BaseException:
            self.sent.clear()  # what was worked out so far will not arrive
            raise

    def in_words(self, session: Session | None) -> str:
        """The selection in words."""
        return describe(session, self.view.layer, self.selection)

    def _updates(self, session: Session | None) -> list:
        view, layer = self.view, self.view.layer
        if not layer_view.is_clustered(session, layer):
            return self._empty(session)
        self.selection = self.selection.of(layer_view.subject(session, layer))
        chosen = self.selection
        unit, algorithm, k = session.asked.get(layer, (session.clusters[layer].unit, "kmeans", 4))
        return [
            self._units(session),
            self._picture("plane", session, layer_view.plane_picture(session, view, chosen)),
            self._picture("cut", session, layer_view.cut_picture(session, view, chosen)),
            self._picture("lines", session, layer_view.lines_picture(session, view, chosen)),
            cluster_table.show(session, layer),
            describe(session, layer, chosen),
            self._once("unit", unit, lambda: unit),
            self._once("algorithm", algorithm, lambda: _algorithm(algorithm)),
            self._once("k", k, lambda: _count(k)),
            layer_words.how_chosen(session, layer),
            self._choice(layer_view.choice_picture(session, layer), session),
        ]

    def _empty(self, session: Session | None) -> list:
        self.selection = Selection()
        sentences = {"units": EMPTY, "plane": NO_IMPORTANCE, "cut": NO_CUT, "lines": NO_LINES}
        plots = [
            self._once(name, text, lambda text=text: scatter.show(message(text))) for name, text in sentences.items()
        ]
        return [
            *plots,
            cluster_table.show(session, self.view.layer),
            HINT,
            gr.skip(),
            gr.skip(),
            gr.skip(),
            "",
            self._choice(None),
        ]

    def _units(self, session: Session) -> Any:
        picture = layer_view.units_picture(session, self.view)
        marks = scatter.mark(self.selection)
        new = self.sent.get("units") != picture.key
        fresh = self.sent.get("marks") != marks
        self.sent |= {"units": picture.key, "marks": marks}
        if new:
            return gr.HTML(value=scatter.owned(picture.show(session), self.owner), **marks)
        return gr.HTML(**marks) if fresh else gr.skip()

    def _choice(self, picture: layer_view.Picture | None, session: Session | None = None) -> Any:
        """The curve of what was tried, where the number of clusters was not set."""
        if picture is None:
            return self._once("choice", (), lambda: gr.HTML(visible=False))
        return self._once("choice", picture.key, lambda: gr.HTML(value=picture.show(session), visible=True))

    def _picture(self, name: str, session: Session, picture: layer_view.Picture) -> Any:
        return self._once(name, picture.key, lambda: picture.show(session))

    def _once(self, name: str, key: Any, make) -> Any:
        if self.sent.get(name) == key:
            return gr.skip()
        self.sent[name] = key
        return make()


def _algorithm(algorithm: str) -> gr.Dropdown:
    choices = [*ALGORITHMS, (BY_HAND, BY_HAND)] if algorithm == BY_HAND else ALGORITHMS
    return gr.Dropdown(choices=choices, value=algorithm)


def _count(k: int | None) -> gr.Dropdown:
    more = [(str(k), k)] if k is not None and k > COUNTS[-1][1] else []
    return gr.Dropdown(choices=[*COUNTS, *more], value=AUTOMATIC if k is None else k)


def describe(session: Session | None, layer: str | None, selection: Selection) -> str:
    """What is selected holds and costs under the present masks, in words; the hint where nothing is."""
    if not len(selection) or selection.subject != layer_view.subject(session, layer):
        return HINT
    found = layer_words.figures_of_selection(session, layer, selection.ids)
    noun = session.clusters[layer].unit + ("" if found.units == 1 else "s")
    return (
        f"**{found.units:,} {noun} selected** · {words.count(found.weights)} weights · "
        f"{words.percent(found.energy)} of the layer's energy · sparsity {words.percent(found.sparsity)} · "
        f"predicted damage {words.percent(found.damage, 2)}"
    )
