"""Calibrations on disk: read back bit for bit, found again by everything that decides them, shipped with the model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.stored import (
    calibration_key,
    load_calibration,
    save_calibration,
    shipped_calibration,
)
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.resources import BUNDLED_CALIBRATION


def assert_equal(first: Calibration, second: Calibration) -> None:
    for name in ("samples", "seed", "seconds", "timesteps", "edges", "draw", "steps"):
        assert getattr(first, name) == getattr(second, name), name
    for name in ("sum_squares", "sums", "tokens"):
        ours, theirs = getattr(first, name), getattr(second, name)
        assert list(ours) == list(theirs)
        assert all(ours[layer].dtype == theirs[layer].dtype for layer in ours)
        assert all(torch.equal(ours[layer], theirs[layer]) for layer in ours)


def test_a_calibration_is_read_back_bit_for_bit(flux, tmp_path):
    calibration = calibrate(flux, samples=9, seed=3, bins=4)
    path = tmp_path / "mine.safetensors"
    save_calibration(calibration, path)
    assert_equal(calibration, load_calibration(path))
    few = replace(calibration, sums={}, draw=None)
    save_calibration(few, path)
    assert_equal(few, load_calibration(path))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="does not hold a calibration"):
        load_calibration(path)
    with pytest.raises(UserError, match="does not hold a calibration"):
        load_calibration(tmp_path / "nothing")


def test_the_same_calibration_is_made_once(flux, tmp_path):
    cache, told = DiskCache(tmp_path), []
    first = calibrate(flux, samples=5, seed=1, cache=cache, progress=lambda *step: told.append(step))
    assert told
    told.clear()
    assert_equal(first, calibrate(flux, samples=5, seed=1, cache=cache, progress=lambda *step: told.append(step)))
    assert told == []
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"broken")
    again = calibrate(flux, samples=5, seed=1, cache=cache, progress=lambda *step: told.append(step))
    assert told
    assert all(torch.equal(again.norm(layer.name), first.norm(layer.name)) for layer in flux.layers)


def test_whatever_decides_a_calibration_is_part_of_its_key(flux, tiny_flux):
    usual = {"samples": 5, "seed": 1, "steps": 4, "bins": 10}
    key = calibration_key(flux, **usual)
    assert key == calibration_key(flux, **usual, prompts=flux.defaults.prompts)
    assert key == calibration_key(load_model(tiny_flux, device="cpu", dtype="float32"), **usual)
    others = [{**usual, name: value + 1} for name, value in usual.items()] + [{**usual, "prompts": ("a cat",)}]
    found = {calibration_key(flux, **other) for other in others}
    for name, value in (("guidance_scale", 1.0), ("height", 32), ("max_sequence_length", 8)):
        found.add(calibration_key(replace(flux, defaults=replace(flux.defaults, **{name: value})), **usual))
    found.add(calibration_key(load_model(tiny_flux, device="cpu", dtype="bfloat16"), **usual))
    moved = load_model(tiny_flux, device="cpu", dtype="float32")
    with torch.no_grad():
        moved.weight(moved.layers[0].name)[0, 0] += 1
    moved = replace(moved, fingerprint="of other weights")
    found.add(calibration_key(moved, **usual))
    assert len(found | {key}) == len(others) + 6


def test_the_shipped_calibration_fits_only_what_it_was_made_with(bundled, flux):
    assert BUNDLED_CALIBRATION.stat().st_size < 6e6
    assert shipped_calibration(bundled, samples=128, seed=0).samples == 128
    assert shipped_calibration(bundled, samples=64, seed=0) is None
    assert shipped_calibration(bundled, samples=128, seed=1) is None
    assert shipped_calibration(flux, samples=128, seed=0) is None
    assert shipped_calibration(replace(bundled, dtype=torch.bfloat16), samples=128, seed=0) is None
    assert shipped_calibration(replace(bundled, device=torch.device("meta")), samples=128, seed=0) is None


def test_the_shipped_calibration_is_what_calibrating_gives(bundled):
    """Other processors round otherwise, so masks may differ in a few weights."""
    shipped, made = shipped_calibration(bundled, samples=128, seed=0), calibrate(bundled, samples=128, seed=0)
    assert shipped.draw == made.draw
    assert shipped.timesteps == made.timesteps
    differing = 0
    for layer in bundled.layers:
        name = layer.name
        assert torch.equal(shipped.tokens[name], made.tokens[name])
        torch.testing.assert_close(shipped.sum_squares[name], made.sum_squares[name], rtol=1e-3, atol=1e-6)
        weight = bundled.weight(name)
        masks = [_half(weight.abs() ** 2 * calibration.norm(name)) for calibration in (shipped, made)]
        differing += int((masks[0] != masks[1]).sum())
    assert differing < 1e-5 * bundled.prunable_parameters


def _half(scores: torch.Tensor) -> torch.Tensor:
    """The greater half of a layer's scores, |W|²·‖X‖ as in DiT-Pruning."""
    keep = torch.zeros(scores.numel(), dtype=torch.bool)
    keep[scores.reshape(-1).sort(stable=True).indices[scores.numel() // 2 :]] = True
    return keep
