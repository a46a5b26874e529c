"""How many denoising steps a calibration's runs take."""

from __future__ import annotations

import pytest

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.settings import FEW_STEPS, steps_of_run
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.model import Model


def test_a_small_model_runs_as_it_draws(flux):
    assert steps_of_run(flux) == flux.defaults.steps


def test_a_large_model_takes_few_steps_unless_asked(bundled, monkeypatch):
    usual = bundled.defaults.steps
    assert usual > FEW_STEPS
    assert steps_of_run(bundled) == usual
    monkeypatch.setattr(Model, "large", True)
    assert steps_of_run(bundled) == FEW_STEPS
    assert steps_of_run(bundled, usual) == usual


def test_a_large_model_that_draws_in_fewer_steps_takes_those(flux, monkeypatch):
    monkeypatch.setattr(Model, "large", True)
    assert flux.defaults.steps < FEW_STEPS
    assert steps_of_run(flux) == flux.defaults.steps


def test_few_steps_leave_few_calls_unwatched(bundled, monkeypatch):
    """Two runs for 16 inputs, each with a call per step with the prompt and one without."""
    monkeypatch.setattr(Model, "large", True)
    monkeypatch.setattr("dit_prune_viz.calibration.trajectory._BATCH", 1)
    calls = []
    handle = bundled.transformer.register_forward_pre_hook(lambda module, args: calls.append(1))
    try:
        found = calibrate(bundled, samples=16)
    finally:
        handle.remove()
    assert found.steps == FEW_STEPS
    assert len(found.timesteps) == 16
    assert len(calls) <= 2 * (1 + 2 * FEW_STEPS)  # the first step counts the steps


def test_impossible_steps_are_refused(flux):
    with pytest.raises(UserError, match="The number of steps"):
        steps_of_run(flux, 0)
