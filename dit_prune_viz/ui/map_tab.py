"""Map: where in the model is what. A heat map of blocks × kinds, a list of layers, and every layer as a dot below the
line that decides how it is ranked; all three show one selection, and each opens a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.layer_map import layer_map
from dit_prune_viz.figures.layer_scatter import layer_scatter
from dit_prune_viz.figures.style import message
from dit_prune_viz.ui import layer_list, scatter, threshold_line
from dit_prune_viz.ui.actions import INTERNAL, Actions, Frame, done
from dit_prune_viz.ui.jobs import Reporter, Result
from dit_prune_viz.ui.session import Session
from dit_prune_viz.ui.thresholds import own_threshold, set_threshold

EMPTY = "The layers appear here once the model is calibrated."


@dataclass(frozen=True)
class Statistic:
    label: str
    help: str
    unit: str = ""
    log: bool = False


STATISTICS = {
    "g_out": Statistic("G_out", "heterogeneity of the output rows' mean saliency, Var / Mean²", log=True),
    "sparsity": Statistic("Sparsity", "share of the layer's weights that are pruned", unit="%"),
    "damage": Statistic("Predicted damage", "share of the layer's output energy that the mask removes", unit="%"),
    "weights": Statistic("Weights", "how many weights the layer has", log=True),
    "weight_scale": Statistic("Weight scale", "root mean square of the weights", log=True),
    "activation_norm": Statistic("Activation norm", "root mean square of ‖X_j‖₂ over input channels", log=True),
    "ratio": Statistic("Activation ÷ weight", "activation norm divided by weight scale", log=True),
}
REPORTED = ("g_out", "sparsity", "damage", "weights")
CHOICES = [(statistic.label, key) for key, statistic in STATISTICS.items()]
Y_CHOICES = [(STATISTICS[key].label, key) for key in ("g_out", "damage", "activation_norm")]


@dataclass(frozen=True)
class MapTab:
    """The three views; their `click` events carry the `id` of a layer to open."""

    heat: gr.HTML
    dots: gr.HTML
    list: gr.HTML


def build(frame: Frame, actions: Actions) -> MapTab:
    """Lay out the tab and keep it up to date with the session. Its views' clicks are wired by the page."""
    with gr.Row(elem_classes="tab-controls"):
        statistic = gr.Dropdown(CHOICES, value="g_out", label="Colour of the map", scale=1, min_width=180)
        y = gr.Dropdown(Y_CHOICES, value="g_out", label="Height of the dots", scale=1, min_width=180)
        help = gr.Markdown(_help("g_out"), elem_classes="note grow")
    with gr.Row(elem_classes="map-row"):
        with gr.Column(scale=5, min_width=340):
            heat = scatter.plot(message(EMPTY), height=400, elem_id="layer-map")
        with gr.Column(scale=4, min_width=340):
            layers = layer_list.layers(EMPTY)
    with gr.Column(elem_classes="card layer-dots-card"):
        line = threshold_line.line("layer-dots")
        dots = scatter.plot(message(EMPTY), height=400, elem_id="layer-dots")

    def move_line(session: Session, request: gr.Request, event: gr.EventData) -> Iterator[tuple]:
        changed = False

        def work(session: Session, report: Reporter) -> Session:
            nonlocal changed
            after = set_threshold(session, event.threshold, report)
            changed = True
            return after

        refused = (*(gr.skip() for _ in frame.outputs), threshold_line.answer(event.number, changed=False))
        try:
            for update in actions.watch(request, session, work):
                if isinstance(update, Result):
                    yield (*done(update.value), threshold_line.answer(event.number, changed=changed))
                    return
                yield (*update, gr.skip())
        except Exception:
            yield refused
            raise
        yield refused

    line.input(move_line, frame.session, [*frame.outputs, line], trigger_mode="multiple", **INTERNAL)
    frame.session.change(draw, [frame.session, statistic, y], [heat, layers, line, dots], **INTERNAL)
    statistic.input(draw_heat, [frame.session, statistic], heat, **INTERNAL)
    statistic.input(_help, statistic, help, **INTERNAL)
    y.input(draw_dots, [frame.session, y], [line, dots], **INTERNAL)
    return MapTab(heat, dots, layers)


def draw(session: Session | None, statistic: str, y: str) -> tuple[str, str, str, str]:
    """The heat map, the list, the line and the dots."""
    return draw_heat(session, statistic), layer_list.show(session), *draw_dots(session, y)


def draw_heat(session: Session | None, key: str) -> str:
    return scatter.show(heat_figure(session, key))


def draw_dots(session: Session | None, y: str) -> tuple[str, str]:
    return threshold_line.show(session, drawn=y == "g_out"), scatter.show(dots_figure(session, y))


def heat_figure(session: Session | None, key: str) -> Figure:
    if session is None or session.report is None:
        return message(EMPTY)
    statistic, layers = STATISTICS[key], session.model.layers
    return layer_map(
        [layer.name for layer in layers],
        [layer.block for layer in layers],
        [layer.kind for layer in layers],
        [layer.stack for layer in layers],
        _values(session, key),
        title=statistic.label,
        unit=statistic.unit,
        log=statistic.log,
    )


def dots_figure(session: Session | None, y: str) -> Figure:
    if session is None or session.report is None:
        return message(EMPTY)
    layers, plan = session.model.layers, session.plan
    threshold = plan.threshold if y == "g_out" else None
    return layer_scatter(
        [layer.name for layer in layers],
        [layer.kind for layer in layers],
        _values(session, "weight_scale"),
        _values(session, y),
        x_label=STATISTICS["weight_scale"].label,
        y_label=STATISTICS[y].label,
        threshold=threshold,
        own=None if threshold is None else own_threshold(session),
        by_row=[plan.layer(layer.name).granularity == "row" for layer in layers],
    )


def _values(session: Session, key: str) -> list[float]:
    reports = {report.name: report for report in session.report.layers}
    source = reports if key in REPORTED else session.statistics
    return [getattr(source[layer.name], key) for layer in session.model.layers]


def _help(key: str) -> str:
    statistic = STATISTICS[key]
    return (
        f"**{statistic.label}**: {statistic.help}. Click a layer anywhere on this page to open it; with the keyboard, "
        "arrow keys walk through a picture and Enter opens a layer."
    )
