"""Ten thousand recipes that nobody would write in good faith: each is a recipe, or refused in one sentence.

python tests/benchmarks/run.py --only recipe_fuzz_cases
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hostile_recipes import outcome, recipes
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_edits import random_session

from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.recipe_io import save_recipe_text
from dit_prune_viz.app.session.session import Session

CASES = 10_000


def recipe_fuzz_cases() -> dict:
    """How many hostile recipes end as a recipe or as one sentence, by kind."""
    store = ModelStore(clip=ROOT / "assets/emoji-clip", device="cpu", dtype="float32")
    ready = Session(store).load_model(str(ROOT / "assets/emoji-flux")).calibrate()
    drawn = recipes(save_recipe_text(random_session(1, ready)))
    seen: Counter[str] = Counter()
    bad: list[str] = []

    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=drawn, carry_over=st.booleans())
    def survive(case: tuple[str, str], carry_over: bool) -> None:
        kind, text = case
        try:
            seen[f"{kind}: {outcome(text, ready.model, carry_over=carry_over)}"] += 1
        except Exception as error:  # counted, so that one does not hide the others
            seen[f"{kind}: failed"] += 1
            bad.append(f"{type(error).__name__}: {error} in {text}"[:300])

    survive()
    survived = sum(count for kind, count in seen.items() if not kind.endswith("failed"))
    for kind, count in sorted(seen.items()):
        print(f"{count:6,}  {kind}")
    detail = {"kinds": dict(sorted(seen.items())), "bad": bad[:20]}
    held = survived >= CASES and not bad
    return {"value": survived, "unit": "recipes", "goal": f"≥ {CASES:,}, none failed", "held": held, "detail": detail}


BENCHMARKS = {"recipe_fuzz_cases": recipe_fuzz_cases}
