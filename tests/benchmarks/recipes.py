"""Recipes of the bundled model: whether random work by hand replays, and what becomes of 10,000 broken files."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch
from random_edits import random_session

from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.recipe_io import save_recipe_text
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.errors import UserError
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.recipe_file import read_recipe

REPLAYS, BROKEN = 100, 10_000
_VALUES = (None, True, -1, 0, 1, 2**70, 1e308, float("nan"), "", "nowhere", "2:4", "<b>", "../up", [], {}, [[]], [0.5])


@cache
def _ready() -> Session:
    store = ModelStore(clip=ROOT / "assets/emoji-clip", device="cpu", dtype="float32")
    return Session(store).load_model(str(ROOT / "assets/emoji-flux")).calibrate()


def recipe_replays() -> dict:
    """Random recipes with random work by hand: how many give the same masks in a model that knows nothing of it."""
    ready, failed = _ready(), []
    fresh = ready.model.also_pruning(())
    statistics = Statistics(fresh, ready.calibration)
    for seed in range(REPLAYS):
        session = random_session(seed, ready)
        again = prune(fresh, read_recipe(save_recipe_text(session), fresh).recipe, statistics=statistics)
        if not all(torch.equal(mask.bits, again.packed_masks[name].bits) for name, mask in session.masks.items()):
            failed.append(seed)
    value = REPLAYS - len(failed)
    return {"value": value, "unit": "recipes", "goal": f"{REPLAYS}", "held": not failed, "detail": failed}


def recipe_fuzz() -> dict:
    """Texts with a value, a byte or a piece changed: how many end as a recipe or as one sentence."""
    ready = _ready()
    texts = [save_recipe_text(random_session(seed, ready)) for seed in range(8)]
    generator, bad, recipes = random.Random(0), [], 0
    for number in range(BROKEN):
        text = _broken(generator, generator.choice(texts))
        try:
            read_recipe(text, ready.model, carry_over=generator.random() < 0.5)
            recipes += 1
        except UserError as error:
            sentence = str(error)
            if not sentence.endswith(".") or "\n" in sentence or len(sentence) > 400:
                bad.append([number, sentence])
        except Exception as error:
            bad.append([number, f"{type(error).__name__}: {error}"])
    detail = {"recipes": recipes, "bad": bad[:20]}
    return {"value": BROKEN - len(bad), "unit": "texts", "goal": f"{BROKEN}", "held": not bad, "detail": detail}


def _broken(generator: random.Random, text: str) -> str:
    way = generator.randrange(4)
    at, end = sorted(generator.randrange(len(text)) for _ in range(2))
    if way == 0:
        return text[:at] + chr(generator.randrange(256)) + text[at + 1 :]
    if way == 1:
        return text[:at] + text[end:]
    values = json.loads(text)
    *path, last = generator.choice(list(_places(values)))
    place = values
    for step in path:
        place = place[step]
    if way == 2:
        place[last] = generator.choice(_VALUES)
    else:
        del place[last]
    return json.dumps(values)


def _places(values: object, path: tuple = ()) -> Iterator[tuple]:
    steps = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for step, inner in steps:
        yield (*path, step)
        yield from _places(inner, (*path, step))


BENCHMARKS = {"recipe_replays": recipe_replays, "recipe_fuzz": recipe_fuzz}
