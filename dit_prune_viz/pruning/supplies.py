"""What pruning needs beside the norms, made when first asked for and kept for the next candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from dit_prune_viz.calibration.distillation_set import DistillationSet, record_distillation_set
from dit_prune_viz.calibration.recorded_inputs import RecordedInputs, record_inputs
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.second_moments import collect_hessians
from dit_prune_viz.calibration.timestep_weights import timestep_weights
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.methods.update.packages import package_layers
from dit_prune_viz.methods.update.solve import inverse_diagonal
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.sensitivity.measure import measure_sensitivity
from dit_prune_viz.sensitivity.result import Sensitivity

_PACKAGE_BYTES = 2 << 30
_ROWS = 16  # of a call that is learned from

MOST_EXAMPLES = 1 << 15
"""Inputs to learn from at most."""


@dataclass(eq=False)
class Kept:
    """What the supplies of one calibration have made: the watched inputs, more to learn from, and diagonals by timestep
    weighting."""

    inputs: RecordedInputs | None = None
    examples: dict[int, DistillationSet] = field(default_factory=dict)
    inverse: dict[str, dict[str, Tensor]] = field(default_factory=dict)


class Supplies:
    """The calibration of one model and what follows from it. Hessians are collected in packages of 2 GiB and only the
    diagonals of their inverses are kept.

    progress: is told about whatever has to be made. kept: what earlier supplies of the same calibration have made.
    UserError wherever calibration, Hessians and sensitivity refuse.
    """

    def __init__(
        self, model: Model, calibration: Calibration, progress: Progress | None = None, kept: Kept | None = None
    ) -> None:
        self.model, self.calibration = model, calibration
        self._progress = progress
        self._kept = Kept() if kept is None else kept

    @property
    def inputs(self) -> RecordedInputs:
        """The transformer inputs that the calibration watched."""
        if self._kept.inputs is None:
            self._kept.inputs = record_inputs(self.model, self.calibration, progress=self._progress)
        return self._kept.inputs

    def examples(self, steps: int) -> DistillationSet:
        """Transformer inputs to learn from in so many steps, none of them twice unless there are too many steps."""
        rows = _ROWS // 4 if self.model.large else _ROWS
        samples, kept = min(MOST_EXAMPLES, rows * steps), self._kept.examples
        if samples not in kept:
            kept.clear()  # they are large
            kept[samples] = record_distillation_set(
                self.model, self.calibration, samples, rows=rows, progress=self._progress
            )
        return kept[samples]

    def norm(self, timestep: str, *, centred: bool = False) -> Callable[[str], Tensor]:
        """Layer → ‖X_j‖₂ (d_in,), the timesteps weighed as asked; of the inputs less their means if `centred` and the
        layer has a bias, which alone can make up for the mean."""
        return self._centring(self.calibration.norm, timestep, centred)

    def mean_square(self, timestep: str, *, centred: bool = False) -> Callable[[str], Tensor]:
        """Layer → E[x_j²] (d_in,), the timesteps weighed as asked; the variance where `norm` is centred."""
        return self._centring(self.calibration.mean_square, timestep, centred)

    def mean(self, timestep: str) -> Callable[[str], Tensor]:
        """Layer → E[x_j] (d_in,), the timesteps weighed as asked."""
        weights = self.weights(timestep)
        return lambda layer: self.calibration.mean(layer, weights)

    def _centring(self, statistic: Callable[..., Tensor], timestep: str, centred: bool) -> Callable[[str], Tensor]:
        weights, transformer = self.weights(timestep), self.model.transformer

        def of(layer: str) -> Tensor:
            moves = centred and transformer.get_submodule(layer).bias is not None
            return statistic(layer, weights=weights, centred=moves)

        return of

    def weights(self, timestep: str) -> tuple[float, ...] | None:
        """One weight per timestep bin; None where all weigh the same. UserError as in `timestep_weights`."""
        return None if timestep == "uniform" else timestep_weights(timestep, self.calibration.edges)

    def inverse_hessian(self, timestep: str) -> Callable[[str], Tensor]:
        """Layer → diagonal of H⁻¹ (d_in,), of all layers at the first call."""

        def diagonal(layer: str) -> Tensor:
            if timestep not in self._kept.inverse:
                self._kept.inverse[timestep] = self._inverses(timestep)
            return self._kept.inverse[timestep][layer]

        return diagonal

    def sensitivity(self, plan: PruningPlan, norm: Callable[[str], Tensor] | None = None) -> Sensitivity:
        """Every layer alone, ranked as `plan` ranks by `norm`; figures that are known already take no time."""
        return measure_sensitivity(
            self.model,
            self.calibration,
            plan,
            norm=norm,
            inverse_hessian=self.inverse_hessian("uniform"),
            progress=self._progress,
        )

    def _inverses(self, timestep: str) -> dict[str, Tensor]:
        weights = timestep_weights(timestep, self.calibration.edges)
        found: dict[str, Tensor] = {}
        for package in package_layers(self.model.layers, _PACKAGE_BYTES):
            hessians: Mapping[str, Tensor] = collect_hessians(
                self.model,
                [layer.name for layer in package],
                like=self.calibration,
                weights=weights,
                inputs=self.inputs,
                progress=self._progress,
            )
            shared: dict[int, Tensor] = {}  # layers with the same input share their Hessian
            for name, hessian in hessians.items():
                if id(hessian) not in shared:
                    try:
                        shared[id(hessian)] = inverse_diagonal(hessian).cpu()
                    except UserError as error:
                        raise UserError(f"Layer {name}: {error}") from error
                found[name] = shared[id(hessian)]
        return found
