"""The bar that is always there: which model, how sparse, at what predicted damage, and what is going on."""

from __future__ import annotations

from html import escape

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session import packed
from dit_prune_viz.app.session.finishing import time_left
from dit_prune_viz.app.session.jobs import Busy
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.pruning.recipe_words import title_of

BRAND = '<h1 class="brand">DiT Pruning Explorer<span>where a diffusion transformer is redundant</span></h1>'
LONG = 16
"""Letters of a value from which on it gives way where the bar is narrow."""

LONG_SECONDS = 20
"""Work that has longer to go may be left to itself."""
KEEPS_GOING_HELP = "Work stops half a minute after the last page of its session was closed, unless it is to go on."

DAMAGE_HELP = (
    "Share of the layers' output energy that the masks remove, Σ pruned W²·E[x²] / Σ W²·E[x²], averaged over layers "
    "in proportion to their weights. It assumes independent inputs and needs no forward pass. With ≈ it is estimated "
    "to about 1 %: the masks of a large model are made when something needs them."
)

PACKED_HELP = (
    "Bytes of the pruned transformer in the packed format, without loss, against the dense one as it would be stored. "
    "With ≈ it is estimated, within 3 %. The page Take away writes it."
)

UPDATE_HELP = (
    "Images are drawn with the updated weights, or with the refined masks where weights are swapped or masks "
    "distilled. This is computed when an image needs it, for layers whose masks have changed; predicted damage "
    "ignores it."
)


def render(
    session: Session | None,
    busy: Busy | None = None,
    problem: str | None = None,
    *,
    notice: str | None = None,
    keeps_going: bool | None = None,
) -> str:
    """The bar as HTML.

    Args:
        session: whose model and plan it tells of.
        busy: what is going on.
        problem: shown in place of the state when nothing is going on.
        notice: the same, where there is no problem.
        keeps_going: whether long work goes on when nobody looks; None offers no choice.
    """
    facts = _facts(session)
    crowded = " crowded" if any(len(value) > LONG for _, value, *_ in facts) else ""
    shown = "".join(_fact(*fact) for fact in facts)
    state = _busy(busy, keeps_going) if busy else _state(session, problem, notice)
    return f'<div class="bar{crowded}">{BRAND}<div class="bar-facts">{shown}</div>{state}</div>'


def _facts(session: Session | None) -> list[tuple[str, str, str, str]]:
    """(label, value, detail, explanation) of everything that is known."""
    if session is None or session.model is None:
        return [("Model", "none yet", "", "")]
    model = session.model
    facts = [
        ("Model", model.name, model.family, f"loaded from {model.source}, {model.dtype} on {model.device}"),
        (
            "Parameters",
            formatting.count(model.parameters),
            f"{formatting.count(model.prunable_parameters)} prunable",
            "parameters of the transformer; Linear layers and pointwise convolutions inside its blocks can be pruned",
        ),
    ]
    if session.report is None:
        return facts
    report = session.report
    return [
        *facts,
        (
            "Sparsity",
            formatting.percent(report.achieved),
            f"target {formatting.percent(report.target)}",
            f"{title_of(session.recipe)}: {report.removed:,} of {report.weights:,} prunable weights are pruned",
        ),
        (
            "Remaining",
            formatting.count(report.remaining),
            "parameters",
            f"{report.remaining:,} of {report.parameters:,}",
        ),
        *_packed(session),
        ("Predicted damage", formatting.damage(report), "of output energy", DAMAGE_HELP),
        *_update(session),
    ]


def _packed(session: Session) -> list[tuple[str, str, str, str]]:
    """What the transformer takes in the packed format, as far as that is known."""
    found = packed.known(session)
    if found is None:
        return []
    size = f"{'' if found.exact else '≈ '}{formatting.size(found.nbytes)}"
    return [("Packed", size, f"{found.dense / max(1, found.nbytes):.2f}× smaller", PACKED_HELP)]


def _update(session: Session) -> list[tuple[str, str, str, str]]:
    """The searches and the weight update, where the recipe has any."""
    recipe = session.recipe
    if not recipe.finishes:
        return []
    left = time_left(session)
    detail = "current" if left is None else f"{left.words}, computed with the next image"
    value = " + ".join(method.title for method in (*recipe.searches, *filter(None, [recipe.updater])))
    parts = (recipe.search, "Mask search"), (recipe.update, "update" if recipe.search else "Weight update")
    label = " + ".join(part for has, part in parts if has)
    return [(label, value, detail, f"{value}. {UPDATE_HELP}")]


def _fact(label: str, value: str, detail: str, explanation: str) -> str:
    long = " long" if len(value) > LONG else ""
    return (
        f'<div class="fact{long}" data-fact="{escape(label)}" title="{escape(explanation)}">'
        f'<span class="fact-label">{escape(label)}</span>'
        f'<span class="fact-value">{escape(value)}</span><span class="fact-detail">{escape(detail)}</span></div>'
    )


def _busy(busy: Busy, keeps_going: bool | None) -> str:
    share = f"{round(100 * busy.share)} %" if busy.done else ""  # nothing is known of work that waits or just began
    left = f"about {formatting.seconds(busy.seconds_left)} left" if busy.seconds_left is not None else ""
    choice = ""
    if keeps_going is not None and (keeps_going or (busy.seconds_left or 0) > LONG_SECONDS):
        choice = (
            f'<button type="button" class="plain" data-keeps-going aria-pressed="{str(keeps_going).lower()}" '
            f'title="{KEEPS_GOING_HELP}">Keep going when I leave</button>'
        )
    return (
        f'<div class="bar-state busy" role="status"><span class="bar-what">{escape(busy.what)}</span>'
        f'<progress max="1" value="{busy.share:.3f}" aria-label="{escape(busy.what)}"></progress>'
        f'<span class="bar-left">{share} {left}</span>{choice}</div>'
    )


def _state(session: Session | None, problem: str | None, notice: str | None) -> str:
    if problem:
        return f'<div class="bar-state problem" role="alert">{escape(problem)}</div>'
    return f'<div class="bar-state" role="status">{escape(notice) if notice else _next_step(session)}</div>'


def _next_step(session: Session | None) -> str:
    if session is None or session.model is None:
        return "Load a model to begin."
    if session.report is None:
        return "Calibrate the model to see its map."
    calibration = session.calibration
    return f"Ready · calibrated on {calibration.samples} inputs in {formatting.seconds(calibration.seconds)}"
