"""The part of the left column that says how to prune: a ready-made way, and the fields that it sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.controls.fields import BINS, BY_HAND, Fields, fields_of, spelled
from dit_prune_viz.app.session import pruning
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.settings import (
    DEFAULTS,
    METHOD_NAMES,
    READY_MADE,
    UPDATE_NAMES,
    Settings,
    label_of,
    name_of,
    sentence_of,
)

CUSTOM = "custom"
METHODS = [(label_of(name), name) for name in (*READY_MADE, CUSTOM)]
SCORES = [*((label, name) for name, label in METHOD_NAMES.items()), ("Own exponents", "own")]
GRANULARITIES = [
    ("As the score's paper", "auto"),
    ("CAG: by heterogeneity", "cag"),
    ("Whole layer", "layer"),
    ("Each output row", "row"),
    ("Each input column", "column"),
    ("N:M, such as 2:4", "N:M"),
]
ALLOCATIONS = [
    ("Uniform", "uniform"),
    ("OWL: outliers lose less", "owl"),
    ("Tempered by energy", "tempered"),
    ("Damage-aware", "damage-aware"),
    ("Global ranking", "global"),
]
TIMESTEPS = [
    ("Uniform", "uniform"),
    ("Early: the noisy half", "early"),
    ("Late: the clean half", "late"),
    ("Log: 1.2 falling to 0.8", "log"),
    ("By hand", BY_HAND),
]
_NAMES = tuple(field.name for field in fields(Fields))
_PENDING = 8
"""Requests that the column remembers at most while they are being done."""

_TYPED = ("m", "n", "pattern", "lam", "floor", "ceiling", "weights")
"""Fields that take effect with Enter or when they are left, not with every key."""


def build(frame: Frame, actions: Actions) -> None:
    """Lay the fields out inside the current gradio context and wire them."""
    start = Fields()
    field: dict[str, gr.components.Component] = {}
    with gr.Group():
        method = gr.Dropdown(METHODS, value=name_of(DEFAULTS), label="Method", elem_id="method")
        words = gr.Markdown(sentence_of(name_of(DEFAULTS)), elem_id="method-words", elem_classes="note")
        with gr.Row(visible=False, equal_height=True) as exponents:
            field["m"] = gr.Number(start.m, label="m, of |W|", step=0.25, min_width=90, elem_id="exponent-m")
            field["n"] = gr.Number(start.n, label="n, of ‖X‖", step=0.25, min_width=90, elem_id="exponent-n")
        field["granularity"] = gr.Dropdown(
            GRANULARITIES, value=start.granularity, label="Weights are ranked inside", elem_id="granularity"
        )
        field["pattern"] = gr.Textbox(
            start.pattern, label="N:M, of M inputs N stay", max_lines=1, visible=False, elem_id="pattern"
        )
        field["sparsity"] = gr.Slider(
            0, 100, value=start.sparsity, step=1, label="Global sparsity, %", elem_id="sparsity"
        )
    with gr.Accordion("Score, budget, update, timesteps", open=False, elem_id="finer"):
        field["score"] = gr.Dropdown(SCORES, value=start.score, label="Weights are scored by", elem_id="score")
        field["allocation"] = gr.Dropdown(
            ALLOCATIONS, value=start.allocation, label="Budget over layers", elem_id="allocation"
        )
        field["lam"] = gr.Slider(0, 1, value=start.lam, step=0.05, label="Tempering λ", visible=False, elem_id="lam")
        with gr.Row(visible=False, equal_height=True) as bounds:
            field["floor"] = gr.Number(start.floor, label="Floor, %", min_width=90, elem_id="floor")
            field["ceiling"] = gr.Number(start.ceiling, label="Ceiling, %", min_width=90, elem_id="ceiling")
        field["sensitivity"] = gr.Checkbox(
            start.sensitivity,
            label="Weigh layers by measured sensitivity",
            info="Measures every layer alone first",
            visible=False,
            elem_id="weigh",
        )
        field["exchange"] = gr.Checkbox(
            start.exchange,
            label="Exchange pruned for kept weights",
            info="While that lowers a layer's output error; every count stays",
            elem_id="exchange",
        )
        field["distil"] = gr.Slider(
            0,
            2000,
            value=start.distil,
            step=50,
            label="Distil masks, steps",
            info="Masks learn from the dense model's outputs; layers, clusters and N:M keep their counts",
            elem_id="distil",
        )
        field["update"] = gr.Dropdown(
            [(label, name) for name, label in UPDATE_NAMES.items()],
            value=start.update,
            label="Weight update",
            elem_id="update",
        )
        field["sequential"] = gr.Checkbox(
            start.sequential,
            label="Sequential",
            info="Later blocks see what earlier ones give when pruned",
            visible=False,
            elem_id="sequential",
        )
        field["timestep"] = gr.Dropdown(TIMESTEPS, value=start.timestep, label="Timesteps weigh", elem_id="timestep")
        field["weights"] = gr.Textbox(
            start.weights,
            label=f"{BINS} weights, from clean to noisy",
            lines=2,
            max_lines=2,
            visible=False,
            elem_id="timestep-weights",
        )
        with gr.Column(visible=False) as picking:
            bins = gr.CheckboxGroup(
                [(f"{bin / BINS:.1f}–{(bin + 1) / BINS:.1f}", bin) for bin in range(BINS)],
                value=list(range(BINS)),
                label="Timesteps that calibrate, from clean to noisy",
                elem_id="timestep-bins",
            )
            use = gr.Button("Use these timesteps", size="sm", elem_id="use-bins")
        field["centred"] = gr.Checkbox(
            start.centred,
            label="Centred inputs",
            info="‖X‖ less its mean, for updates that move the biases",
            elem_id="centred",
        )
    gr.Markdown("A change prunes the whole model anew.", elem_classes="note")
    components = [field[name] for name in _NAMES]
    # What the column asked for and has not seen done, the last of it for good: a session with other settings was
    # changed elsewhere.
    asked = gr.State((DEFAULTS,))
    seen = gr.State(DEFAULTS)  # the settings of the session that came last
    shown = [method, words, exponents, bounds, picking, bins, *components]

    def prune(session: Session, request: gr.Request, last: tuple[Settings, ...], *values) -> Iterator[tuple]:
        yield from prune_with(session, request, last, Fields(*values).settings)

    def prune_named(
        session: Session, request: gr.Request, last: tuple[Settings, ...], name: str, *values
    ) -> Iterator[tuple]:
        # By the name, not by the fields that it sets: the browser may not have filled them in yet.
        yield from prune_with(session, request, last, _chosen(name, Fields(*values)).settings)

    def prune_with(
        session: Session, request: gr.Request, last: tuple[Settings, ...], settings: Settings
    ) -> Iterator[tuple]:
        if settings == last[-1] and session is not None and settings == session.settings:
            yield (*(gr.skip() for _ in frame.outputs), last)
            return

        def verb(session: Session, report) -> Session:
            return session if session.settings == settings else pruning.prune(session, settings, report)

        yield (*(gr.skip() for _ in frame.outputs), (*last[1 - _PENDING :], settings))
        for update in actions.run(request, session, verb):
            yield (*update, gr.skip())

    def choose(name: str, *values) -> tuple:
        return _show(_chosen(name, Fields(*values)), name, values=name != CUSTOM)

    def follow(*values) -> tuple:
        present = Fields(*values)
        return _show(present, name_of(present.settings), values=False)

    def named(*values) -> tuple[str, str]:
        name = name_of(Fields(*values).settings)
        return name, sentence_of(name)

    def sync(session: Session | None, last: tuple[Settings, ...], before: Settings, *values) -> tuple:
        # A session that has the settings of the one before says nothing new, whatever was asked for meanwhile.
        if session is None or session.settings == before:
            return (gr.skip(),) * (2 + len(shown))
        if session.settings in last:  # done as asked, and more may have been asked for since
            done = session.settings == last[-1]
            return (last[-1:] if done else gr.skip()), session.settings, *(gr.skip() for _ in shown)
        fields = _show(fields_of(session.settings, Fields(*values)), name_of(session.settings))
        return (session.settings,), session.settings, *fields

    pruning_with = {
        "fn": prune,
        "inputs": [frame.session, asked, *components],
        "outputs": [*frame.outputs, asked],
        "trigger_mode": "always_last",
        **INTERNAL,
    }
    chosen = [field[name].input for name in _NAMES if name not in _TYPED or name == "lam"]
    typed = [event for name in _TYPED if name != "lam" for event in (field[name].submit, field[name].blur)]
    gr.on([*chosen, *typed], follow, components, shown, queue=False, trigger_mode="always_last", **INTERNAL)
    gr.on([*chosen, *typed], **pruning_with)
    weights = field["weights"]
    gr.on([weights.submit, weights.blur], _bins_of, weights, bins, queue=False, **INTERNAL)
    # Boxes are ticked faster than answers come back, so that nothing happens before all are.
    picked = use.click(_weights_of, bins, weights, **INTERNAL)
    picked.then(**pruning_with).then(named, components, [method, words], **INTERNAL)
    method.input(choose, [method, *components], shown, queue=False, **INTERNAL)
    method.input(
        prune_named,
        [frame.session, asked, method, *components],
        [*frame.outputs, asked],
        trigger_mode="always_last",
        **INTERNAL,
    )
    frame.session.change(sync, [frame.session, asked, seen, *components], [asked, seen, *shown], **INTERNAL)


def _chosen(name: str, present: Fields) -> Fields:
    """The fields once a person has picked a method by name: its own, at the sparsity there is."""
    if name == CUSTOM:
        return present
    return replace(fields_of(READY_MADE[name], present), sparsity=present.sparsity)


def _show(present: Fields, name: str, *, values: bool = True) -> tuple:
    """Updates for method, words, the rows of exponents and bounds, the bins twice, all fields; values where asked."""
    visible = {
        "pattern": present.fixed,
        "sparsity": not present.fixed,
        "allocation": not present.fixed,
        "lam": present.allocation == "tempered" and not present.fixed,
        "sensitivity": present.allocation != "uniform" and not present.fixed,
        "sequential": present.settings.finishes,
        "weights": present.timestep == BY_HAND,
    }
    updates = []
    for field in _NAMES:
        change = {"visible": visible[field]} if field in visible else {}
        if values:
            change["value"] = getattr(present, field)
        updates.append(gr.update(**change) if change else gr.skip())
    return (
        gr.update(value=name),
        sentence_of(name),
        gr.update(visible=present.score == "own"),
        gr.update(visible=present.allocation == "damage-aware" and not present.fixed),
        gr.update(visible=present.timestep == BY_HAND),
        gr.update(value=_bins_of(present.weights)) if values else gr.skip(),
        *updates,
    )


def _weights_of(bins: Sequence[int]) -> str:
    """1 for every bin that calibrates, 0 for the others, as text."""
    return ", ".join("1" if bin in bins else "0" for bin in range(BINS))


def _bins_of(weights: str) -> list[int]:
    """The bins that have any weight in the text, none in a text that says something else."""
    try:
        return [bin for bin, part in enumerate(spelled(weights).split(",")[:BINS]) if part and float(part)]
    except ValueError:
        return []
