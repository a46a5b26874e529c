"""All that needs a CUDA GPU in one go: each part in a process of its own, under a time limit, with random weights.

    python tests/benchmarks/run.py --only cuda --json cuda.json

takes eight minutes at most and writes cuda.json and cuda.md. A part that fails or takes too long does not stop the
others. `python tests/benchmarks/cuda.py --device cpu --scale small` shows anywhere that it runs from end to end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
PART_LIMITS = {
    "masks": 50,
    "calibration": 50,
    "kernels": 130,
    "step": 150,
    "placement": 50,
    "unpacking": 30,
    "resident": 20,
}
"""Part → seconds at most."""
TOTAL_LIMIT = 470
NEEDS = "needs a CUDA GPU"
TRIALS = "| d_out, d_in, tokens | kernel | dense, ms | 2:4, ms | × as fast | difference |"


def cuda() -> dict | str:
    """Every part on the GPU; the value is how many goals were met."""
    import torch

    return run() if torch.cuda.is_available() else NEEDS


def run(
    device: str = "cuda", scale: str = "full", limits: Mapping[str, float] = PART_LIMITS, total: float = TOTAL_LIMIT
) -> dict:
    """Run all parts, one after the other.

    Args:
        device: for the parts.
        scale: "full" or "small".
        limits: part → seconds at most.
        total: seconds for all of them; what does not fit is left out and said.

    Returns:
        A benchmark's answer, with the table as Markdown under "markdown".
    """
    deadline = time.monotonic() + total
    parts: dict[str, dict] = {}
    for name, limit in limits.items():
        start = time.monotonic()
        left = min(limit, deadline - start)
        command = [sys.executable, str(HERE / "cuda_parts.py"), name, "--device", device, "--scale", scale]
        parts[name] = _part(command, left) if left > 0 else _failed("no time was left")
        parts[name]["seconds"] = round(time.monotonic() - start, 1)
        shown = {key: parts[name][key] for key in ("value", "unit", "held", "seconds")}
        print(f"cuda, {name}: {json.dumps(shown, ensure_ascii=False)}", file=sys.stderr, flush=True)
    held = sum(part["held"] for part in parts.values())
    card = _card(device)
    return {
        "value": held,
        "unit": f"of {len(parts)} parts",
        "goal": "all",
        "held": held == len(parts),
        "detail": {"card": card, "parts": parts},
        "markdown": markdown(card, parts),
    }


def _part(command: Sequence[str], limit: float) -> dict:
    """The answer of one process, or why there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return _failed(f"took longer than {limit:.0f} s")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return _failed((done.stderr.strip().splitlines() or ["ended without a word"])[-1][:300])
    return json.loads(lines[-1])


def _failed(why: str) -> dict:
    return {"value": None, "unit": "", "goal": "", "held": False, "detail": why}


def _card(device: str) -> str:
    import torch

    return f"{torch.cuda.get_device_name() if device == 'cuda' else device}, torch {torch.__version__}"


def markdown(card: str, parts: Mapping[str, dict]) -> str:
    """The parts as a table, and the 2:4 trials as another."""
    lines = [f"{card}", "", "| part | value | goal | held | seconds | detail |", "|---|---|---|---|---|---|"]
    trials: list[dict] = []
    for name, part in parts.items():
        detail = part["detail"]
        if isinstance(detail, dict):
            trials += detail.get("trials", [])
            detail = ", ".join(f"{key} {value}" for key, value in detail.items() if key != "trials")
        value = "–" if part["value"] is None else f"{part['value']:.4g} {part['unit']}"
        held = "yes" if part["held"] else "no"
        lines.append(f"| {name} | {value} | {part['goal']} | {held} | {part['seconds']} | {_cell(detail)} |")
    if trials:
        lines += [
            "",
            "| d_out, d_in, tokens | kernel | dense, ms | 2:4, ms | × as fast | difference |",
            "|" + "---|" * 6,
        ]
        lines += [_trial(trial) for trial in trials]
    return "\n".join(lines) + "\n"


def _trial(trial: Mapping) -> str:
    start = f"| {trial['shape'].strip('()')} | {trial['kernel']} | {trial['dense_ms']:.3f}"
    if trial["ms"] is None:
        return f"{start} | – | – | {_cell(trial['failure'])} |"
    return f"{start} | {trial['ms']:.3f} | {trial['dense_ms'] / trial['ms']:.2f} | {trial['error']:.1e} |"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


BENCHMARKS = {"cuda": cuda}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the cuda benchmark's parts anywhere.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", choices=("full", "small"), default="full")
    options = parser.parse_args()
    print(run(options.device, options.scale)["markdown"])
