"""Damage to a packed folder, over and over: it has to be refused in one sentence, or to make no difference.

python tests/benchmarks/run.py --only packed_fuzz
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch
from tiny_models import build_flux

from dit_prune_viz.errors import UserError
from dit_prune_viz.export.load_packed import load_packed
from dit_prune_viz.export.pack import pack
from dit_prune_viz.export.sums import SUMS, write_sums
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.prune import prune

SECONDS = 120
HEADER = "transformer/packed.json"
ODD = (None, True, -1, 0, 1, 255, 1.5, 1e308, 10**30, 1 << 39, "", "rows", "zero", "../x", [], [1], {}, {"a": 1})


def flip(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def blank(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]


def repeat(data: bytes, chance: random.Random) -> bytes:
    at, size = chance.randrange(len(data)), chance.randrange(1, 300)
    return data[:at] + data[max(0, at - size) :]


def retell(data: bytes, chance: random.Random) -> bytes:
    """Another value somewhere in a header."""
    header = json.loads(data)
    holder, key = header, chance.choice(list(header))
    while isinstance(holder[key], dict | list) and holder[key] and chance.random() < 0.8:
        holder = holder[key]
        key = chance.choice(list(holder)) if isinstance(holder, dict) else chance.randrange(len(holder))
    holder[key] = chance.choice(ODD)
    return json.dumps(header).encode()


def digest(folder: Path) -> dict[str, bytes]:
    state = load_packed(folder).transformer.state_dict()
    return {name: value.contiguous().view(torch.uint8).numpy().tobytes() for name, value in state.items()}


def soak(seconds: float = SECONDS, seed: int = 0) -> dict:
    """Tries for some time; the value is how many of them ended in neither of the two ways."""
    chance, seen, wrong = random.Random(seed), Counter(), []
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as made:
        build_flux().save_pretrained(Path(made) / "dense")
        pruned = prune(load_model(Path(made) / "dense", device="cpu", dtype="float32"), "magnitude", sparsity=0.6)
        folders = [pack(pruned, Path(made) / values, values=values) for values in ("exact", "int8")]
        expected = {folder: digest(folder) for folder in folders}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            folder = chance.choice(folders)
            change = chance.choice((flip, cut, blank, repeat, retell, retell))
            files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
            path = folder / HEADER if change is retell else chance.choice(files)
            before, sums = path.read_bytes(), (folder / SUMS).read_bytes()
            path.write_bytes(change(before, chance))
            forged = path.name != SUMS and chance.random() < 0.5
            if forged:
                write_sums(folder)
            try:
                same = digest(folder) == expected[folder]
                seen["loaded"] += 1
                # Who makes up the digests as well may say what he likes of a scheduler, or of the weights.
                if not same and not forged:
                    wrong.append(f"{change.__name__} of {path.name}: other weights")
            except UserError as error:
                seen["refused"] += 1
                if "\n" in str(error) or len(str(error)) > 600:
                    wrong.append(f"{change.__name__} of {path.name}: {error!r}"[:500])
            except Exception:
                wrong.append(f"{change.__name__} of {path.name}: {traceback.format_exc()[-700:]}")
            finally:
                path.write_bytes(before)
                (folder / SUMS).write_bytes(sums)
    detail = {**seen, "wrong": wrong[:20]}
    return {"value": len(wrong), "unit": "failures", "goal": "0", "held": not wrong, "detail": detail}


BENCHMARKS = {"packed_fuzz": soak}
