"""Which half under guidance knows no prompt: the first pair of inputs that can tell, found without looking at all."""

from __future__ import annotations

from itertools import combinations

import torch
from hypothesis import given
from hypothesis import strategies as st

from dit_prune_viz.calibration import batch_rows
from dit_prune_viz.calibration.distillation_set import _empty_half
from dit_prune_viz.calibration.recorded_inputs import Call


def by_looking_at_every_pair(pieces, prompts):
    single = {piece.places[0]: piece.arguments for piece in pieces if len(piece.rows) == 1}
    for (run, step, half), (other, when, which) in combinations(single, 2):
        if half or which or step != when or prompts[run] == prompts[other]:
            continue
        both = [((run, step, number), (other, step, number)) for number in (0, 1)]
        if all(place in single for pair in both for place in pair):
            equal = [batch_rows.equal_leaves(single[a], single[b]) for a, b in both]
            return None if equal[0] == equal[1] else equal.index(max(equal))
    return None


def piece(place, *values, rows=1) -> Call:
    arguments = {f"argument {index}": torch.tensor([value]) for index, value in enumerate(values)}
    return Call(arguments, rows, tuple(range(rows)), (0,) * rows, (place,) * rows)


@st.composite
def recordings(draw):
    prompts = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
    places = st.tuples(st.integers(0, len(prompts) - 1), st.integers(0, 3), st.integers(0, 1))
    order = draw(st.lists(places, unique=True, max_size=48))
    values = st.tuples(*[st.integers(0, 1)] * 3)
    rows = st.sampled_from([1, 1, 1, 1, 2])
    return [piece(place, *draw(values), rows=draw(rows)) for place in order], prompts


@given(recordings())
def test_it_compares_the_same_two_inputs_as_a_look_at_every_pair(recording):
    assert _empty_half(*recording) == by_looking_at_every_pair(*recording)


def test_every_input_is_looked_at_once(monkeypatch):
    """A pair of the same prompt at every step, and none that can tell: the longest way."""
    asked = 0

    class Prompts(list):
        def __getitem__(self, index):
            nonlocal asked
            asked += 1
            return super().__getitem__(index)

    runs, steps = 200, 10
    pieces = [piece((run, step, half), run) for step in range(steps) for run in range(runs) for half in (0, 1)]
    assert _empty_half(pieces, Prompts(["a cat"] * runs)) is None
    assert asked <= 2 * runs * steps
