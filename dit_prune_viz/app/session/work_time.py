"""How long a recipe will take, before it starts: remembered from the last time, else estimated.

Two stretches of work are told apart: planning, which a choice starts at once, and finishing (searches and update),
which waits for the next image. What was measured is kept on disk by model, methods and number of calibration inputs.
What never ran is estimated from the bundled model's times, scaled by the work and by the speed of this machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dit_prune_viz import formatting
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.disk_cache import DiskCache, content_key
from dit_prune_viz.pruning.recipe import Recipe

PLAN, FINISH = "plan", "finish"
SHORT = 2.0
"""Seconds that nobody has to be told of."""
LONG = 30.0
"""Seconds from which on a recipe says in the list how long it takes."""

BUNDLED_SOLVING, BUNDLED_CALL, BUNDLED_WEIGHTS = 3.01e11, 8.90e8, 2.03e7
"""Of the bundled model: multiplications of `_solving` with 128 calibration inputs, those of one input's pass through
the layers that can be pruned, and their weights."""
_SOLVING = {"search swap": 50.0, "update obs": 45.0, "update least-squares": 45.0, "update mean": 2.0}
_STEP, _ROUNDING, _UNIFORM, _SHARED, _SENSED = 2.0, 2.0, 0.5, 3.0, 300.0
"""Seconds for the bundled model on two CPU cores: medians of assets/measured. A learning step, rounding, planning with
and without an allocation, and measuring the sensitivity of all layers."""
_PROBE = 768
_PROBE_SECONDS = 0.012
"""Of a product of two float32 matrices with so many rows and columns, on the machine that measured the above."""
_SPREAD = 2.0
"""An estimate may be off by this factor either way."""


@dataclass(frozen=True)
class WorkTime:
    """seconds: None where nothing is known to judge by; measured: whether it is the time of the same work here."""

    seconds: float | None
    measured: bool = False

    @property
    def words(self) -> str:
        """Such as "at once", "about 3 min 20 s", "roughly 1–4 min" or "not measured yet"."""
        if self.seconds is None:
            return "not measured yet"
        if self.short:
            return "at once"
        if self.measured:
            return f"about {formatting.seconds(_rounded(self.seconds))}"
        return f"roughly {_range(self.seconds / _SPREAD, self.seconds * _SPREAD)}"

    @property
    def short(self) -> bool:
        """Whether nobody has to be told."""
        return self.seconds is not None and self.seconds < SHORT

    @property
    def long(self) -> bool:
        """Whether a person should know before it starts; what is unknown may be long."""
        return self.seconds is None or self.seconds >= LONG

    def __add__(self, other: WorkTime) -> WorkTime:
        if self.seconds is None or other.seconds is None:
            return WorkTime(None)
        surely = all(one.measured or one.short for one in (self, other))
        return WorkTime(self.seconds + other.seconds, surely)


class WorkTimes:
    """What was measured, shared by all users of an app; on disk where there is a cache."""

    def __init__(self, disk: DiskCache | None = None) -> None:
        self._disk = disk
        self._known: dict[str, float | None] = {}
        self._speeds: dict[str, float] = {}
        self._lock = threading.Lock()

    def find(self, key: str) -> float | None:
        """The seconds kept under a key, None if there are none."""
        with self._lock:
            if key not in self._known:
                entry = self._disk.find(key) if self._disk else None
                found = entry.about.get("seconds") if entry else None
                self._known[key] = float(found) if isinstance(found, int | float) and found >= 0 else None
            return self._known[key]

    def put(self, key: str, seconds: float) -> None:
        """Keep the seconds that the work took last."""
        with self._lock:
            self._known[key] = seconds
        if self._disk:
            self._disk.put(key, {}, {"seconds": seconds})

    def slowness(self, device: torch.device) -> float:
        """How many times as long as the machine that measured the bundled model's times this one takes, 1/50 to 4."""
        name = str(device)
        with self._lock:
            if name not in self._speeds:
                self._speeds[name] = min(4.0, max(0.02, _probe(device) / _PROBE_SECONDS))
            return self._speeds[name]


@contextmanager
def measuring(
    times: WorkTimes, statistics: Statistics, recipe: Recipe, stage: str, share: float = 1.0
) -> Iterator[None]:
    """Remember how long the body takes, unless it fails or is cancelled.

    Args:
        times: where it is kept.
        statistics: of the model.
        recipe: that the body plans or finishes.
        stage: PLAN or FINISH.
        share: of the work that the body does, 0–1.
    """
    begin = time.perf_counter()
    yield
    seconds, key = (time.perf_counter() - begin) / max(share, 1e-6), _key(statistics, recipe, stage)
    if seconds >= SHORT or times.find(key) is not None:
        times.put(key, seconds)


def plan_time(times: WorkTimes, statistics: Statistics, recipe: Recipe) -> WorkTime:
    """How long it takes to plan and rank a calibrated model by a recipe."""
    return _time(times, statistics, recipe, PLAN, _plan_parts(recipe))


def finish_time(times: WorkTimes, statistics: Statistics, recipe: Recipe) -> WorkTime:
    """How long the recipe's searches and update take; nothing where it has none."""
    if not recipe.finishes:
        return WorkTime(0.0, True)
    return _time(times, statistics, recipe, FINISH, _finish_parts(recipe))


def recipe_time(times: WorkTimes, statistics: Statistics, recipe: Recipe) -> WorkTime:
    """Both together: from the choice to a model that can draw."""
    return plan_time(times, statistics, recipe) + finish_time(times, statistics, recipe)


@dataclass(frozen=True)
class _Parts:
    """Seconds of a recipe on the bundled model: per layer on second moments, learning, and all else by weights.

    known: whether it is made of methods whose times are known.
    """

    solving: float = 0.0
    learning: float = 0.0
    other: float = 0.0
    known: bool = True


def _plan_parts(recipe: Recipe) -> _Parts:
    shared = recipe.allocation != "uniform"
    other = (_SHARED if shared else _UNIFORM) + (_SENSED if shared and recipe.sensitivity else 0.0)
    layerwise = [f"search {one.name}" for one in recipe.searches if one.layerwise] if shared else []
    known = recipe.method.built_in and all(one in _SOLVING for one in layerwise)
    return _Parts(sum(_SOLVING.get(one, 0.0) for one in layerwise), 0.0, other, known)


def _finish_parts(recipe: Recipe) -> _Parts:
    updater = recipe.updater
    searched = sum(one.learning_steps for one in recipe.searches)
    steps = searched + (updater.learning_steps(searched) if updater else 0)
    layerwise = [f"search {one.name}" for one in recipe.searches if one.layerwise]
    other, known = 0.0, all(one.built_in for one in recipe.searches)
    if updater is not None and not updater.needs_inputs:
        other, known = _ROUNDING, known and updater.built_in
    elif updater is not None and updater.layerwise:
        layerwise.append(f"update {updater.name}")
    elif updater is not None:
        known = known and updater.built_in
    known = known and all(one in _SOLVING for one in layerwise)
    return _Parts(sum(_SOLVING.get(one, 0.0) for one in layerwise), _STEP * steps, other, known)


def _time(times: WorkTimes, statistics: Statistics, recipe: Recipe, stage: str, parts: _Parts) -> WorkTime:
    measured = times.find(_key(statistics, recipe, stage))
    if measured is not None:
        return WorkTime(measured, True)
    if not parts.known:
        return WorkTime(None)
    solving, call, weights = work_of(statistics)
    seconds = (
        parts.solving * solving / BUNDLED_SOLVING
        + parts.learning * call / BUNDLED_CALL
        + parts.other * weights / BUNDLED_WEIGHTS
    )
    return WorkTime(seconds * times.slowness(statistics.model.device))


def work_of(statistics: Statistics) -> tuple[float, float, float]:
    """The model's counterparts to BUNDLED_SOLVING, BUNDLED_CALL and BUNDLED_WEIGHTS."""
    model, calibration = statistics.model, statistics.calibration

    def count() -> tuple[float, float, float]:
        tokens = {layer.name: float(calibration.tokens[layer.name].sum()) for layer in model.layers}
        solving = sum(_solving(layer.shape, tokens[layer.name]) for layer in model.layers)
        passed = sum(layer.weights * tokens[layer.name] for layer in model.layers)
        return solving, passed / calibration.samples, float(model.prunable_parameters)

    return model.cache.get(("work", calibration.samples, calibration.seed), count)


def _solving(shape: Sequence[int], tokens: float) -> float:
    """Multiplications for a layer's second moments, their inverse, and once all weights against them."""
    d_out, d_in = shape
    return float(d_in) ** 2 * (tokens + d_in + d_out)


def _key(statistics: Statistics, recipe: Recipe, stage: str) -> str:
    model = statistics.model
    methods = [recipe.search, recipe.update, recipe.sequential, recipe.versions]
    if stage == PLAN:
        methods += [recipe.saliency, recipe.resolved_granularity, recipe.allocation, recipe.sensitivity]
    where = [model.fingerprint, model.prunable_parameters, str(model.dtype), model.device.type]
    return content_key("seconds", stage, where, statistics.calibration.samples, methods)


def _probe(device: torch.device) -> float:
    """Seconds that one product of two matrices takes, the least of several."""
    one = torch.ones(_PROBE, _PROBE, device=device)
    taken = []
    for _ in range(8):  # others may be at work
        begin = time.perf_counter()
        float((one @ one)[0, 0])  # reading a number waits for a GPU
        taken.append(time.perf_counter() - begin)
    return min(taken)


def _rounded(seconds: float) -> float:
    step = next((step for limit, step in ((10, 1), (60, 5), (600, 10)) if seconds < limit), 60)
    return max(step, round(seconds / step) * step)


def _range(low: float, high: float) -> str:
    """Such as "5–20 s", "1–4 min" or "2–9 h", in round numbers."""
    unit, name = next(one for one in ((3600, "h"), (60, "min"), (1, "s")) if high >= 2 * one[0] or one[0] == 1)
    if unit == 3600 and low < 0.75 * unit:
        unit, name = 60, "min"
    first, last = (_round(value / unit) for value in (low, high))
    return f"{last} {name}" if first == last else f"{first}–{last} {name}"


def _round(value: float) -> int:
    step = next((step for limit, step in ((10, 1), (30, 5), (100, 10)) if value < limit), 20)
    return max(1, round(value / step) * step)
