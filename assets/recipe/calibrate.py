"""Calibrate the bundled model with default settings and write `assets/calibration.safetensors`, which the app opens
with instead of calibrating. In float32 on the CPU; run it again whenever the model or the calibration changes."""

from __future__ import annotations

import sys

from common import ASSETS, PIPELINE

sys.path.insert(0, str(ASSETS.parent))
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.stored import calibration_key, save_calibration
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.resources import BUNDLED_CALIBRATION

SAMPLES, SEED, BINS = 128, 0, 10


def main() -> None:
    model = load_model(PIPELINE, device="cpu", dtype="float32")
    calibration = calibrate(model, samples=SAMPLES, seed=SEED, bins=BINS)
    key = calibration_key(model, samples=SAMPLES, seed=SEED, steps=model.defaults.steps, bins=BINS)
    save_calibration(calibration, BUNDLED_CALIBRATION, key=key)
    print("wrote", BUNDLED_CALIBRATION, f"{BUNDLED_CALIBRATION.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
