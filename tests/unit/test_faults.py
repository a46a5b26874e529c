"""Faults of every kind at every stage, a short run; `tests/benchmarks/faults.py` has the long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COUNT = 16


def test_faults_leave_model_session_and_files_as_they_should_be():
    """In a process of its own with one thread, because it makes copies of itself that are killed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "tests/benchmarks/faults.py", "--count", str(COUNT), "--seed", "0"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["detail"]["broken"] == []
    assert found["detail"]["faults"] == COUNT
    kinds = [line.split(" | ") for line in found["markdown"].splitlines()[2:]]
    struck = {cells[0].removeprefix("| "): int(cells[-1].removesuffix(" |")) for cells in kinds}
    assert sum(struck.values()) == COUNT
    assert sum(count > 0 for count in struck.values()) >= 6, struck
