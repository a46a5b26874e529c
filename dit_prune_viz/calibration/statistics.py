"""What is known of the inputs of a model's layers, each made when first asked for and kept with the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType

from torch import Tensor

from dit_prune_viz.calibration.damped_inverse import inverse_diagonal
from dit_prune_viz.calibration.distillation_set import DistillationSet, record_distillation_set
from dit_prune_viz.calibration.packages import package_layers
from dit_prune_viz.calibration.recorded_inputs import RecordedInputs, held_out_inputs, record_inputs
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.second_moments import collect_hessians
from dit_prune_viz.calibration.timestep_weights import timestep_weights
from dit_prune_viz.checks import brief
from dit_prune_viz.disk_cache import DiskCache, content_key, kept
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.pipelines.model import Model

STATISTICS = MappingProxyType(
    {
        "norm": "‖X_j‖₂ of each input channel, (d_in,)",
        "mean": "E[x_j] of each input channel, (d_in,)",
        "mean_square": "E[x_j²] of each input channel, (d_in,)",
        "inverse_hessian": "diagonal of H⁻¹, H = Σ_t α_t·X_tᵀX_t, damped, (d_in,)",
        "hessian": "H = Σ_t α_t·X_tᵀX_t itself, (d_in, d_in) float32",
    }
)
"""Name → meaning of every statistic of a layer's inputs that a method may ask for."""

MOST_EXAMPLES = 1 << 15
"""Inputs of a distillation set at most."""

_VERSION = 1
"""Raised whenever the same inputs would give other inverses."""

_PACKAGE_BYTES = 2 << 30
_ROWS = 16  # of one call of a distillation set


def check_needs(needs: Iterable[str], method: str) -> None:
    """Refuse a method that asks for a statistic nobody can make.

    Raises:
        UserError: naming the first such statistic.
    """
    for name in needs:
        if name not in STATISTICS:
            raise UserError(f"{method} needs {brief(name)}, which is no known statistic; known are {_known()}.")


class Statistics:
    """The calibration of one model and what follows from it.

    Whatever takes long is kept in `model.cache`, by the content of the calibration, so that it is made once for all who
    ask, is bounded in bytes and is freed with the model. What is small and took over ten seconds is kept on disk too.
    The model runs while something is made.

    Args:
        model: the calibrated model, dense.
        calibration: of that model.
        progress: is told about whatever has to be made; may raise `Cancelled`.
        disk: where it is kept beyond this process, and so are pruned models that took long; None keeps nothing.

    Raises:
        UserError: any method, wherever calibration, Hessians and recording refuse.
    """

    def __init__(
        self,
        model: Model,
        calibration: Calibration,
        progress: Progress | None = None,
        disk: DiskCache | None = None,
    ) -> None:
        self.model, self.calibration, self.progress, self.disk = model, calibration, progress, disk

    def reporting(self, progress: Progress | None) -> Statistics:
        """The same statistics, which tell another `progress` about what they make."""
        return Statistics(self.model, self.calibration, progress, self.disk)

    def get(self, name: str, layer: str, *, timestep: str = "uniform", centred: bool = False) -> Tensor:
        """A statistic by its name.

        Args:
            name: one of STATISTICS.
            layer: the layer's name.
            timestep: how the timestep bins are weighed, see `timestep_weights`.
            centred: of the inputs less their means, for norm and mean_square of layers with a bias, which can make up
                for the mean.

        Returns:
            As STATISTICS says.

        Raises:
            UserError: an unknown name.
        """
        makers: dict[str, Callable[[], Tensor]] = {
            "norm": lambda: self.norm(layer, timestep, centred=centred),
            "mean": lambda: self.mean(layer, timestep),
            "mean_square": lambda: self.mean_square(layer, timestep, centred=centred),
            "inverse_hessian": lambda: self.inverse_hessian(layer, timestep),
            "hessian": lambda: self.hessian(layer, timestep),
        }
        if name not in makers:
            raise UserError(f"Nobody can make the statistic {brief(name)}; known are {_known()}.")
        return makers[name]()

    def norm(self, layer: str, timestep: str = "uniform", *, centred: bool = False) -> Tensor:
        """‖X_j‖₂, (d_in,) float32; arguments as in `get`."""
        return self.calibration.norm(layer, self.weights(timestep), centred=centred and self._has_bias(layer))

    def mean_square(self, layer: str, timestep: str = "uniform", *, centred: bool = False) -> Tensor:
        """E[x_j²], or the variance if centred, (d_in,) float32; arguments as in `get`."""
        return self.calibration.mean_square(layer, self.weights(timestep), centred=centred and self._has_bias(layer))

    def mean(self, layer: str, timestep: str = "uniform") -> Tensor:
        """E[x_j], (d_in,) float32; arguments as in `get`."""
        return self.calibration.mean(layer, self.weights(timestep))

    def inverse_hessian(self, layer: str, timestep: str = "uniform") -> Tensor:
        """Diagonal of H⁻¹, (d_in,) float32 on the CPU; those of all layers are made at the first call."""
        found = self.model.cache.find(self._key("inverse_hessian", timestep, layer))
        if found is None:
            self._make_inverses(timestep)
            found = self.model.cache.find(self._key("inverse_hessian", timestep, layer))
        return found

    def hessian(self, layer: str, timestep: str = "uniform") -> Tensor:
        """H = Σ_t α_t·X_tᵀX_t, (d_in, d_in) float32; those of a package of 2 GiB are made together."""
        found = self.model.cache.find(self._key("hessian", timestep, layer))
        if found is None:
            packages = package_layers(self.model.layers, _PACKAGE_BYTES)
            package = next(p for p in packages if any(one.name == layer for one in p))
            made = self._hessians([one.name for one in package], timestep)
            self.model.cache.put_all({self._key("hessian", timestep, name): table for name, table in made.items()})
            found = made[layer]
        return found

    def weights(self, timestep: str) -> tuple[float, ...] | None:
        """One weight per timestep bin; None where all weigh the same.

        Raises:
            UserError: an unknown scheme, or numbers that do not fit the bins.
        """
        return None if timestep == "uniform" else timestep_weights(timestep, self.calibration.edges)

    @property
    def inputs(self) -> RecordedInputs:
        """The transformer inputs that the calibration watched."""
        return self.model.cache.get(
            self._key("inputs"), lambda: record_inputs(self.model, self.calibration, progress=self.progress)
        )

    def held_out(self, samples: int) -> RecordedInputs:
        """`samples` transformer inputs that the calibration did not watch, see `held_out_inputs`."""
        return self.model.cache.get(
            self._key("held out", samples),
            lambda: held_out_inputs(self.model, self.calibration, samples, progress=self.progress),
        )

    def distillation_set(self, steps: int) -> DistillationSet:
        """Transformer inputs to learn from in so many steps, none of them twice unless there are too many steps."""
        rows = _ROWS // 4 if self.model.large else _ROWS
        samples = min(MOST_EXAMPLES, rows * steps)
        return self.model.cache.get(
            self._key("distillation set", samples),
            lambda: record_distillation_set(self.model, self.calibration, samples, rows=rows, progress=self.progress),
        )

    def _key(self, *what: object) -> tuple[object, ...]:
        return ("statistics", self.calibration.key, *what)

    def _has_bias(self, layer: str) -> bool:
        return self.model.transformer.get_submodule(layer).bias is not None

    def _hessians(self, names: list[str], timestep: str) -> dict[str, Tensor]:
        return collect_hessians(
            self.model,
            names,
            like=self.calibration,
            weights=timestep_weights(timestep, self.calibration.edges),
            inputs=self.inputs,
            progress=self.progress,
        )

    def _make_inverses(self, timestep: str) -> None:
        weights = timestep_weights(timestep, self.calibration.edges)
        parts = self.calibration.key, weights
        key = content_key("inverses", _VERSION, self.model.signature, *parts) if self.disk else ""
        found = kept(self.disk, key, lambda: self._inverses(timestep))
        self.model.cache.put_all({self._key("inverse_hessian", timestep, name): one for name, one in found.items()})

    def _inverses(self, timestep: str) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for package in package_layers(self.model.layers, _PACKAGE_BYTES):
            shared: dict[int, Tensor] = {}  # layers with the same input share their Hessian
            hessians = self._hessians([layer.name for layer in package], timestep)
            for name, hessian in hessians.items():
                if id(hessian) not in shared:
                    try:
                        shared[id(hessian)] = inverse_diagonal(hessian).cpu()
                    except UserError as error:
                        raise UserError(f"Layer {name}: {error}") from error
                found[name] = shared[id(hessian)]
        return found


def _known() -> str:
    return ", ".join(STATISTICS)
