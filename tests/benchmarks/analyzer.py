"""How long "Which part does what?" takes: all blocks of the bundled model, one after another, at 8 steps on the CPU.

The process's CPU seconds say how much a busy machine has added.
"""

from __future__ import annotations

import time

GOAL = 60.0
STEPS = 8


def blocks_ablated() -> dict:
    """Every block taken away alone: pictures, scores and the measured error of the transformer's output."""
    from dit_prune_viz.app.session.analyzer import analyze
    from dit_prune_viz.app.session.comparison import check_prompts
    from dit_prune_viz.app.session.drawing_inputs import example_prompts
    from dit_prune_viz.app.session.model_store import ModelStore
    from dit_prune_viz.app.session.parts import BLOCKS, parts_of
    from dit_prune_viz.app.session.session import Session
    from dit_prune_viz.resources import BUNDLED_CLIP, BUNDLED_MODEL

    session = Session(ModelStore(clip=BUNDLED_CLIP, device="cpu")).load_model(str(BUNDLED_MODEL)).calibrate()
    session.store.clip()
    _ = session.model.pipeline  # a person has drawn a picture before
    requests = check_prompts(session.model, example_prompts(session.model, 1)[0], 0, STEPS)
    start, used = time.perf_counter(), time.process_time()
    first: list[float] = []
    parts = parts_of(session, BLOCKS)
    found = analyze(session, parts, requests, emit=lambda _: first.append(time.perf_counter() - start))
    seconds = time.perf_counter() - start
    return {
        "value": seconds,
        "unit": "s",
        "goal": f"≤ {GOAL:g}",
        "held": seconds <= GOAL,
        "detail": {
            "parts": {one.part.name: [one.comparison.ssim, one.error, one.damage] for one in found},
            "first_s": first[0],
            "cpu_s": time.process_time() - used,
            "steps": STEPS,
        },
    }


BENCHMARKS = {"blocks_ablated_s": blocks_ablated}
