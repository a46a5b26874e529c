"""Map: where in the model is what. A heat map of blocks × kinds, a list of layers, and every layer as a dot below the
line that decides how it is ranked; all three show one selection, and each opens a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import gradio as gr

from dit_prune_viz.figures import Figure
from dit_prune_viz.figures.layer_map import layer_map
from dit_prune_viz.figures.layer_scatter import layer_scatter
from dit_prune_viz.figures.style import message
from dit_prune_viz.ui import layer_list, pruning, scatter, threshold_line
from dit_prune_viz.ui.actions import INTERNAL, Actions, Frame, done
from dit_prune_viz.ui.jobs import Reporter, Result
from dit_prune_viz.ui.session import Session
from dit_prune_viz.ui.statistics import activation_norm_at
from dit_prune_viz.ui.thresholds import own_threshold, set_threshold

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
    "weights": Statistic("Weights", "how many weights the layer has", log=True),
    "weight_scale": Statistic("Weight scale", "root mean square of the weights", log=True),
    "activation_norm": Statistic(
        "Activation norm",
        "root mean square of ‖X_j‖₂ over input channels; of one timestep bin, as if all tokens were watched in it",
        log=True,
    ),
    "ratio": Statistic("Activation ÷ weight", "activation norm divided by weight scale", log=True),
}
ACTIVATIONS = ("activation_norm", "ratio")
"""Statistics that a single timestep bin has, too."""
BINS = 10
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
        timestep = gr.Slider(
            0, BINS, value=0, step=1, label="Timestep bin (0: all)", scale=1, min_width=180, visible=False
        )
        help = gr.Markdown(_help("g_out"), elem_classes="note grow")
    with gr.Row(elem_classes="map-row"):
        with gr.Column(scale=5, min_width=340):
            heat = scatter.plot(message(EMPTY), height=400, elem_id="layer-map")
        with gr.Column(scale=4, min_width=340):
            layers = layer_list.layers(EMPTY)
    with gr.Column(elem_classes="card layer-dots-card"):
        line = threshold_line.line("layer-dots")
        dots = scatter.plot(message(EMPTY), height=400, elem_id="layer-dots")

    with gr.Row(elem_classes="tab-controls"):
        sense = gr.Button("Measure sensitivity", size="sm", scale=0, min_width=180, elem_id="sense")
        gr.Markdown(SENSE, elem_classes="note grow")

    def measure(session: Session, request: gr.Request) -> Iterator[tuple]:
        yield from actions.run(request, session, pruning.sense)

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
    chosen = [frame.session, statistic, y, timestep]
    views = [heat, layers, line, dots]
    # The map shows the statistic first, so that it is drawn when the session changes.
    sense.click(_show_sensitivity, frame.session, [statistic, help, heat], **INTERNAL).then(
        measure, frame.session, frame.outputs, **INTERNAL
    )
    gr.on([frame.session.change, timestep.change], draw, chosen, views, trigger_mode="always_last", **INTERNAL)
    gr.on([statistic.input, y.input], draw, chosen, views, **INTERNAL)
    gr.on([statistic.input, y.input], _timestep, [statistic, y], timestep, **INTERNAL)
    statistic.input(_help, statistic, help, **INTERNAL)
    return MapTab(heat, dots, layers)


def _show_sensitivity(session: Session | None) -> tuple[str, str, str]:
    return "sensitivity", _help("sensitivity"), scatter.show(heat_figure(session, "sensitivity"))


def draw(session: Session | None, statistic: str, y: str, timestep: int) -> tuple[str, str, str, str]:
    """The heat map, the list, the line and the dots."""
    heat, dots = heat_figure(session, statistic, timestep), dots_figure(session, y, timestep)
    line = threshold_line.show(session, drawn=y == "g_out")
    return scatter.show(heat), layer_list.show(session), line, scatter.show(dots)


def heat_figure(session: Session | None, key: str, timestep: int = 0) -> Figure:
    """`timestep` is the number of a bin, counted from 1 at the least noise, for what is known of one; 0 is all."""
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
        _values(session, key, timestep),
        title=statistic.label + _when(session, key, timestep),
        unit=statistic.unit,
        log=statistic.log,
        limits=_limits(session, key, timestep),
    )


def dots_figure(session: Session | None, y: str, timestep: int = 0) -> Figure:
    if session is None or session.report is None:
        return message(EMPTY)
    layers, plan = session.model.layers, session.plan
    threshold = plan.threshold if y == "g_out" else None
    return layer_scatter(
        [layer.name for layer in layers],
        [layer.kind for layer in layers],
        _values(session, "weight_scale"),
        _values(session, y, timestep),
        x_label=STATISTICS["weight_scale"].label,
        y_label=STATISTICS[y].label + _when(session, y, timestep),
        threshold=threshold,
        own=None if threshold is None else own_threshold(session),
        by_row=[plan.layer(layer.name).granularity == "row" for layer in layers],
        y_limits=_limits(session, y, timestep),
    )


def _values(session: Session, key: str, timestep: int = 0) -> list[float]:
    if key == "sensitivity":
        return [session.sensitivity[layer.name] for layer in session.model.layers]
    if timestep and key in ACTIVATIONS:
        statistics = {
            name: replace(known, activation_norm=activation_norm_at(session.calibration, name, timestep - 1))
            for name, known in session.statistics.items()
        }
        return [getattr(statistics[layer.name], key) for layer in session.model.layers]
    reports = {report.name: report for report in session.report.layers}
    source = reports if key in REPORTED else session.statistics
    return [getattr(source[layer.name], key) for layer in session.model.layers]


def _limits(session: Session, key: str, timestep: int) -> tuple[float, float] | None:
    """The least and the greatest value in any bin, so that colours and heights compare while the bins go by."""
    if not timestep or key not in ACTIVATIONS:
        return None
    bins = range(1, len(session.calibration.edges))
    values = [value for bin in bins for value in _values(session, key, bin) if value > 0]
    return (min(values), max(values)) if values else None


def _when(session: Session, key: str, timestep: int) -> str:
    if not timestep or key not in ACTIVATIONS:
        return ""
    low, high = session.calibration.edges[timestep - 1 : timestep + 1]
    return f" at timesteps {low:.2g}–{high:.2g}"


def _timestep(statistic: str, y: str) -> gr.Slider:
    """The slider is there while something is shown that differs between timesteps."""
    return gr.Slider(visible=bool({statistic, y} & set(ACTIVATIONS)))


def _help(key: str) -> str:
    statistic = STATISTICS[key]
    return (
        f"**{statistic.label}**: {statistic.help}. Click a layer anywhere on this page to open it; with the keyboard, "
        "arrow keys walk through a picture and Enter opens a layer."
    )
