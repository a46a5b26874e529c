"""What the weights of a session are ranked and weighed by, for whatever has to do so the same way again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dit_prune_viz.errors import Progress
from dit_prune_viz.methods.saliency.base import needed_statistic
from dit_prune_viz.pruning.supplies import Supplies

if TYPE_CHECKING:
    from dit_prune_viz.app.session.session import Session


def supplies(session: Session, progress: Progress | None = None) -> Supplies:
    """Norms, energies, Hessians and sensitivities of the session's calibration, each made once for all sessions."""
    model, calibration = session.need_calibration()
    return Supplies(model, calibration, progress, session.workspace.kept(calibration))


def statistic(session: Session, layer: str) -> Tensor:
    """The statistic of the layer's inputs (d_in,) by which the session's plan ranks weights."""
    plan, settings, needed = session.need_plan()[2], session.settings, supplies(session)
    norm = needed.norm(settings.timestep, centred=settings.centred)
    return needed_statistic(plan.saliency, norm, needed.inverse_hessian(settings.timestep))(layer)


def mean_square(session: Session, layer: str) -> Tensor:
    """E[x_j²] (d_in,) as the session's predicted damage counts it: the variance where the settings are centred."""
    return supplies(session).mean_square("uniform", centred=session.settings.centred)(layer)
