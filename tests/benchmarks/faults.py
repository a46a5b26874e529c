"""Faults at random places of all work: how many leave the model, the session and every file as they should be.

python tests/benchmarks/run.py --only faults_survived
python tests/benchmarks/faults.py --count 40
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COUNT = 520


def measure(count: int, seed: int, bundled: bool) -> dict:
    """Strike in this process, which has to be young: it makes copies of itself, which threads would not survive."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import torch
    from faults.soak import soak
    from faults.work import save_small

    from dit_prune_viz.resources import BUNDLED_CLIP, BUNDLED_MODEL

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        source = BUNDLED_MODEL if bundled else save_small(Path(made) / "small")
        found = soak(source, BUNDLED_CLIP, count, seed, lambda text: print(text, file=sys.stderr, flush=True))
    survived = 1 - len(found.broken) / max(1, found.count)
    return {
        "value": survived,
        "unit": "share",
        "goal": "1 of ≥ 500",
        "held": survived == 1 and found.count >= count,
        "detail": {"faults": found.count, "broken": found.broken[:20]},
        "markdown": found.table(),
    }


def faults_survived() -> dict:
    """The same in a process of its own, on a small pipeline, whose work is done in a moment."""
    command = [sys.executable, __file__, "--count", str(COUNT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "DIT_PRUNE_VIZ_CACHE": "off"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


BENCHMARKS = {"faults_survived": faults_survived}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundled", action="store_true", help="the bundled model, which takes longer")
    options = parser.parse_args()
    print(json.dumps(measure(options.count, options.seed, options.bundled)))
