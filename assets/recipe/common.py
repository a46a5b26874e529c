"""What every stage of the recipe shares: folders, the picture set, seeds, logs and resumable checkpoints."""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

ASSETS = Path(__file__).resolve().parent.parent
PIPELINE = ASSETS / "emoji-flux"
CLIP = ASSETS / "emoji-clip"
IMAGE_SIZE = 128


def work_dir() -> Path:
    """Folder for data, logs and checkpoints: `$RECIPE_WORK`, else a cache folder outside the repository."""
    path = Path(os.environ.get("RECIPE_WORK", Path.home() / ".cache" / "dit_prune_viz" / "recipe"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def arguments(description: str, **defaults) -> argparse.Namespace:
    """Command-line options of one stage; every default is an option of the same name and type."""
    parser = argparse.ArgumentParser(description=description)
    for name, value in {"seed": 0, **defaults}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, numpy and torch; returns a torch generator of its own for data order and noise."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def load_pictures() -> tuple[torch.Tensor, list[dict]]:
    """The rendered set: uint8 pictures (n, 3, 128, 128) and their records (name, keywords, group)."""
    records = json.loads((work_dir() / "captions.json").read_text())
    pictures = np.load(work_dir() / "pictures.npy", allow_pickle=False)
    return torch.from_numpy(pictures), records


class Log:
    """Appends one JSON line per call to `<stage>.log.jsonl` and prints it."""

    def __init__(self, stage: str):
        self.path = work_dir() / f"{stage}.log.jsonl"
        self.start = time.time()

    def __call__(self, **values) -> None:
        row = {"seconds": round(time.time() - self.start, 1)}
        row |= {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)


def save_checkpoint(path: Path, tensors: dict[str, torch.Tensor], step: int) -> None:
    """Write tensors and the step atomically, so that a kill leaves the previous checkpoint whole."""
    partial = path.with_suffix(".partial")
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, partial, metadata={"step": str(step)})
    partial.replace(path)


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], int] | None:
    """The tensors and step of a checkpoint, or None where there is none."""
    if not path.exists():
        return None
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    return load_file(path), step


def load_weights(stage: str) -> dict[str, torch.Tensor]:
    """The weights a finished stage left behind, without its optimizer state."""
    return without_prefix("model", load_checkpoint(work_dir() / f"{stage}.safetensors")[0])


def prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{k}": v for k, v in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + ".")}


def moments(optimizers: list[torch.optim.Optimizer], named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Optimizer state by parameter name, under "state.", for a checkpoint without pickle."""
    names = {id(v): k for k, v in named.items()}
    return {
        f"state.{key}.{names[id(p)]}": value
        for optimizer in optimizers
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if torch.is_tensor(value) and value.ndim
    }


def restore_moments(
    optimizers: list[torch.optim.Optimizer], named: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor], step: int
) -> None:
    """Put back what `moments` stored; parameters it does not hold start afresh."""
    names = {id(v): k for k, v in named.items()}
    stored = without_prefix("state", tensors)
    for optimizer in optimizers:
        keys = ("momentum_buffer",) if isinstance(optimizer, torch.optim.Muon) else ("exp_avg", "exp_avg_sq")
        for group in optimizer.param_groups:
            for p in group["params"]:
                found = {key: stored[f"{key}.{names[id(p)]}"] for key in keys if f"{key}.{names[id(p)]}" in stored}
                if len(found) == len(keys):
                    optimizer.state[p] = found | ({} if len(keys) == 1 else {"step": torch.tensor(float(step))})


class Mean:
    """Means of named numbers since the last call of `take`, however many were added."""

    def __init__(self):
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, **values: torch.Tensor) -> None:
        for name, value in values.items():
            if value.numel():
                self.sums[name] = self.sums.get(name, 0.0) + float(value.detach().sum())
                self.counts[name] = self.counts.get(name, 0) + value.numel()

    def take(self) -> dict[str, float]:
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


class EMA:
    """Exponential moving average of parameters, warmed up so that early steps are forgotten."""

    def __init__(self, named: dict[str, torch.Tensor], decay: float):
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in named.items()}

    @torch.no_grad()
    def update(self, named: dict[str, torch.Tensor], step: int) -> None:
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        keys = list(self.values)
        torch._foreach_lerp_([self.values[k] for k in keys], [named[k].detach() for k in keys], weight)


def learning_rate(step: int, total: int, peak: float, *, warmup: int, decay_from: float) -> float:
    """Linear warm-up, a plateau, then a linear fall to 2 % over the last part of training."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = step / total
    if done < decay_from:
        return peak
    return peak * max(0.02, (1 - done) / (1 - decay_from))
