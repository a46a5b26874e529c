"""Write what the app opens with: `assets/emoji-flux.json`, the layers of the bundled model, and
`assets/calibration.safetensors`, its calibration with default settings in float32 on the CPU.

Run it again whenever the model or the calibration changes.
"""

from __future__ import annotations

import json
import sys

from common import ASSETS, PIPELINE

sys.path.insert(0, str(ASSETS.parent))
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.stored import calibration_key, save_calibration
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.opening import facts_of
from dit_prune_viz.resources import BUNDLED_CALIBRATION, BUNDLED_FACTS

SAMPLES, SEED, BINS = 128, 0, 10


def main() -> None:
    model = load_model(PIPELINE, device="cpu", dtype="float32")
    BUNDLED_FACTS.write_text(json.dumps(facts_of(model, PIPELINE), indent=1) + "\n", encoding="utf-8")
    print("wrote", BUNDLED_FACTS)
    calibration = calibrate(model, samples=SAMPLES, seed=SEED, bins=BINS)
    key = calibration_key(model, samples=SAMPLES, seed=SEED, steps=model.defaults.steps, bins=BINS)
    save_calibration(calibration, BUNDLED_CALIBRATION, key=key)
    print("wrote", BUNDLED_CALIBRATION, f"{BUNDLED_CALIBRATION.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
