"""From a session's settings to masks, and what is measured about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from dit_prune_viz.app.session.ranking import statistic, supplies
from dit_prune_viz.app.session.settings import Settings
from dit_prune_viz.app.session.threshold import set_threshold
from dit_prune_viz.checks import whole
from dit_prune_viz.errors import Progress
from dit_prune_viz.experiments.convergence_table import find_convergence
from dit_prune_viz.masks.counts import check_sparsity
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.methods.saliency.find import find_method
from dit_prune_viz.pruning.build_masks import build_mask
from dit_prune_viz.pruning.levels import Level
from dit_prune_viz.pruning.prune import mask_model
from dit_prune_viz.sensitivity.measure import measure_sensitivity

if TYPE_CHECKING:
    from dit_prune_viz.app.session.session import Session
    from dit_prune_viz.experiments.convergence import Convergence

SENSITIVITY_AT = 0.5
"""The sparsity at which the map's sensitivity is measured."""


def prune(session: Session, settings: Settings, progress: Progress | None = None) -> Session:
    """Plan and mask the whole model. Sparsities set per cluster start anew; the clusters themselves stay, and so does a
    threshold moved by hand while the scores do.

    UserError as in `mask_model`, and for a sparsity outside 0–1.
    """
    session.need_calibration()
    level = Level(check_sparsity(settings.sparsity))
    needed = supplies(session, progress)
    with _turn_if_needed(session, settings, progress):
        plan, masks, report = mask_model(settings.candidate, needed, level, progress=progress)
    same = settings.ranking == session.settings.ranking
    comparable = settings.scoring == session.settings.scoring
    found = replace(
        session,
        settings=settings,
        plan=plan,
        masks=masks,
        report=report,
        sensitivity=session.sensitivity if same else {},
        threshold=None,
    )
    kept = session.threshold if comparable and plan.threshold is not None else None
    return found if kept is None else set_threshold(found, kept, progress)


def sense(session: Session, progress: Progress | None = None) -> Session:
    """Prune every layer alone at 50 %, ranked as in the plan: relative error of the transformer's output.

    Kept by content, so that what has been measured once takes no time. `progress` may raise Cancelled.
    """
    model, calibration, plan = session.need_plan()

    def ranking(layer: str, sparsity: float) -> PackedMask:
        alone = replace(plan.layer(layer), sparsity=sparsity, clusters=None, count=None)
        return pack(build_mask(alone, plan.saliency, model.weight(layer), statistic(session, layer)))

    with session.workspace.turn(progress):
        found = measure_sensitivity(model, calibration, ranking, sparsities=(SENSITIVITY_AT,), progress=progress)
    return replace(session, sensitivity={layer: errors[0] for layer, errors in found.errors.items()})


def converge(session: Session, seed: int = 0, progress: Progress | None = None) -> Convergence:
    """How much the masks of the session's settings still change between 16, 32, 64, 128 and 256 calibration samples.

    UserError as in `find_convergence`. `progress` may raise Cancelled.
    """
    model = session.need_plan()[0]
    seed = whole(seed, "The seed", 0, 2**32 - 1)
    settings = session.settings
    with session.workspace.turn(progress):
        return find_convergence(
            settings.candidate,
            model,
            Level(settings.sparsity),
            seed=seed,
            supplies=supplies(session, progress),
            progress=progress,
        )


@contextmanager
def _turn_if_needed(session: Session, settings: Settings, progress: Progress | None) -> Iterator[None]:
    """Hold the model while pruning, where that has to run it: for Hessians not known yet, for sensitivities, and
    for what exchanging saves."""
    method = find_method(settings.method)
    hessians = getattr(method, "statistic", "norm") == "inverse_hessian"
    unknown = settings.timestep not in session.workspace.kept(session.calibration).inverse
    measured = settings.sensitivity or settings.exchange
    runs = (hessians and unknown) or (measured and settings.allocation != "uniform")
    with session.workspace.turn(progress) if runs else nullcontext():
        yield
