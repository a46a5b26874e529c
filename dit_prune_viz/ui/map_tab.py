"""Map: where in the model is what. A heat map of blocks × kinds, and every layer as a dot; both open a layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.layer_map import layer_map
from dit_prune_viz.figures.layer_scatter import layer_scatter
from dit_prune_viz.figures.style import message
from dit_prune_viz.ui import pruning, scatter
from dit_prune_viz.ui.actions import INTERNAL, Actions, Frame
from dit_prune_viz.ui.session import Session

SENSE = "Prunes every layer alone to 50 % and measures what becomes of the transformer's output; it can be cancelled."
UNMEASURED = "Press “Measure sensitivity” below: every layer is pruned alone, ranked as the present plan does."
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
    "sensitivity": Statistic(
        "Measured sensitivity",
        "relative squared error of the transformer's output on held-out inputs with this layer alone pruned to 50 %",
        log=True,
    ),
    "weight_scale": Statistic("Weight scale", "root mean square of the weights", log=True),
    "activation_norm": Statistic("Activation norm", "root mean square of ‖X_j‖₂ over input channels", log=True),
    "ratio": Statistic("Activation ÷ weight", "activation norm divided by weight scale", log=True),
}
CHOICES = [(statistic.label, key) for key, statistic in STATISTICS.items()]
Y_CHOICES = [(STATISTICS[key].label, key) for key in ("g_out", "activation_norm")]


@dataclass(frozen=True)
class MapTab:
    heat: gr.HTML
    dots: gr.HTML


def build(frame: Frame, actions: Actions) -> MapTab:
    """Lay out the tab and keep it up to date with the session. Its plots' clicks are wired by the page."""
    with gr.Row(elem_classes="tab-controls"):
        statistic = gr.Dropdown(CHOICES, value="g_out", label="Colour of the map", scale=1, min_width=180)
        y = gr.Dropdown(Y_CHOICES, value="g_out", label="Height of the dots", scale=1, min_width=180)
        help = gr.Markdown(_help("g_out"), elem_classes="note grow")
    heat = scatter.plot(message(EMPTY), height=350, elem_id="layer-map")
    dots = scatter.plot(message(EMPTY), height=380, elem_id="layer-dots")

    with gr.Row(elem_classes="tab-controls"):
        sense = gr.Button("Measure sensitivity", size="sm", scale=0, min_width=180, elem_id="sense")
        gr.Markdown(SENSE, elem_classes="note grow")

    def measure(session: Session, request: gr.Request) -> Iterator[tuple]:
        yield from actions.run(request, session, pruning.sense)

    # The map shows the statistic first, so that it is drawn when the session changes.
    sense.click(_show_sensitivity, frame.session, [statistic, help, heat], **INTERNAL).then(
        measure, frame.session, frame.outputs, **INTERNAL
    )
    frame.session.change(draw, [frame.session, statistic, y], [heat, dots], **INTERNAL)
    statistic.input(draw_heat, [frame.session, statistic], heat, **INTERNAL)
    statistic.input(_help, statistic, help, **INTERNAL)
    y.input(draw_dots, [frame.session, y], dots, **INTERNAL)
    return MapTab(heat, dots)


def _show_sensitivity(session: Session | None) -> tuple[str, str, str]:
    return "sensitivity", _help("sensitivity"), draw_heat(session, "sensitivity")


def draw(session: Session | None, statistic: str, y: str) -> tuple[str, str]:
    return draw_heat(session, statistic), draw_dots(session, y)


def draw_heat(session: Session | None, key: str) -> str:
    return scatter.show(heat_figure(session, key))


def draw_dots(session: Session | None, y: str) -> str:
    return scatter.show(dots_figure(session, y))


def heat_figure(session: Session | None, key: str) -> Figure:
    if session is None or session.report is None:
        return message(EMPTY)
    if key == "sensitivity" and not session.sensitivity:
        return message(UNMEASURED)
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
    layers = session.model.layers
    return layer_scatter(
        [layer.name for layer in layers],
        [layer.kind for layer in layers],
        _values(session, "weight_scale"),
        _values(session, y),
        x_label=STATISTICS["weight_scale"].label,
        y_label=STATISTICS[y].label,
        threshold=session.plan.threshold if y == "g_out" else None,
    )


def _values(session: Session, key: str) -> list[float]:
    if key == "sensitivity":
        return [session.sensitivity[layer.name] for layer in session.model.layers]
    reports = {report.name: report for report in session.report.layers}
    source = reports if key in ("g_out", "sparsity", "damage") else session.statistics
    return [getattr(source[layer.name], key) for layer in session.model.layers]


def _help(key: str) -> str:
    statistic = STATISTICS[key]
    return (
        f"**{statistic.label}**: {statistic.help}. Click a layer, in either picture, to open it; with the keyboard, "
        "arrow keys walk through the layers and Enter opens one."
    )
