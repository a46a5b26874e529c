"""Whether the calibration samples suffice: how much a candidate's masks change with more of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.experiments.convergence import SIZES, Convergence, measure_convergence
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.methods.saliency.find import find_method
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.candidates import Candidate
from dit_prune_viz.pruning.levels import Level
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.prune import mask_model
from dit_prune_viz.pruning.supplies import Supplies
from dit_prune_viz.sensitivity.result import Sensitivity


def find_convergence(
    candidate: Candidate,
    model: Model,
    level: Level,
    *,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
    supplies: Supplies | None = None,
    progress: Progress | None = None,
) -> Convergence:
    """Calibrate with `sizes` samples, each containing the one before, and mask the model with each by the candidate;
    what it exchanges, learns or updates afterwards is left aside.

    supplies: measure the sensitivities, where the candidate weighs layers by them; the same for all sizes. UserError
    as in `measure_convergence` and `mask_model`, for a candidate that ranks by Hessians, which the smaller sizes do not
    collect, for one that needs sensitivities without supplies, and for N:M with one that has groups of its own.
    """
    if getattr(find_method(candidate.method), "statistic", "norm") == "inverse_hessian":
        raise UserError("Convergence is measured for methods that rank by activation norms; choose another than OBS.")
    candidate = replace(candidate, exchange=False, distil=0)  # a search for better masks takes recorded inputs
    if level.pattern and not candidate.takes_patterns:
        raise UserError(f"{candidate.name} leaves no choice of {level.pattern}; give a sparsity in percent.")
    if candidate.sensitivity and supplies is None:
        raise UserError("Weighing layers by sensitivity takes a calibrated model; switch it off.")

    def build(calibration: Calibration) -> Mapping[str, PackedMask]:
        lent = Supplies(model, calibration) if supplies is None else _Lent(model, calibration, supplies.sensitivity)
        return mask_model(candidate, lent, level)[1]

    return measure_convergence(model, build, sizes=sizes, seed=seed, progress=progress)


class _Lent(Supplies):
    """Norms and energies of one calibration, sensitivities measured with another."""

    def __init__(self, model: Model, calibration: Calibration, sensitivity: Callable[..., Sensitivity]) -> None:
        super().__init__(model, calibration)
        self._sensitivity = sensitivity

    def sensitivity(self, plan: PruningPlan, norm: Callable[[str], Tensor] | None = None) -> Sensitivity:
        return self._sensitivity(plan, norm)


def convergence_table(found: Convergence) -> str:
    """The figures as a Markdown table, a line per number of samples."""
    lines = ["| samples | weights that differ from the size before | from the largest |", "|---|---|---|"]
    for size, before, largest in zip(found.sizes, (None, *found.changed), found.to_largest, strict=True):
        earlier = "–" if before is None else f"{100 * before:.2f} %"
        lines.append(f"| {size} | {earlier} | {100 * largest:.2f} % |")
    return "\n".join(lines)
