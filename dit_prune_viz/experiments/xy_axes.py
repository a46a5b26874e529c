"""One side of a grid of pictures: which setting changes along it, and the values that it takes, read from text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

from dit_prune_viz.checks import brief, check_text
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.levels import Level, parse_level
from dit_prune_viz.pruning.named_recipes import DENSE
from dit_prune_viz.pruning.recipe_words import label_of

RECIPE, SPARSITY, PROMPT, SEED, STEPS, GUIDANCE, BLOCK = KINDS = (
    "recipe",
    "sparsity",
    "prompt",
    "seed",
    "steps",
    "guidance",
    "block",
)
PRESENT = "present"
"""The recipe at hand, with all that was set by hand."""
NONE = "none"
"""No block is dropped."""
MOST_VALUES = 32

EXAMPLES = MappingProxyType(
    {
        RECIPE: "dense, magnitude, dit-pruning",
        SPARSITY: "30-70 by 20, 2:4",
        PROMPT: "a cat\na red bus",
        SEED: "0-3",
        STEPS: "4, 8, 20",
        GUIDANCE: "1, 3.5, 7",
        BLOCK: "none, 0-3",
    }
)
"""Kind → how its values are written."""

_OTHER_NAMES = {"method": RECIPE, "methods": RECIPE, "step": STEPS, "guidance scale": GUIDANCE, "cfg": GUIDANCE}
_OTHER_NAMES |= {f"{kind}s": kind for kind in KINDS if kind != STEPS} | {"sparsities": SPARSITY}
_NUMBER = r"(-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
_RANGE = re.compile(rf"{_NUMBER}\s*(?:-|–|\.\.|\bto\b)\s*{_NUMBER}(?:\s*\b(?:by|step)\b\s*{_NUMBER})?")
_LONGEST = 60
"""Characters of a number or a range."""

Value = str | Level | int | float | None


@dataclass(frozen=True)
class Axis:
    """What changes along one side of a grid.

    Attributes:
        kind: one of `KINDS`.
        values: names of recipes or prompts; `Level`s; whole numbers of seeds, steps or blocks, None for no block;
            guidance scales.
    """

    kind: str
    values: tuple[Value, ...]

    @staticmethod
    def parse(text: str) -> Axis:
        """An axis from text such as "seed: 0-3", see `of`.

        Raises:
            UserError: another kind, or values that cannot be read.
        """
        kind, _, values = text.partition(":")
        return Axis.of(kind, values)

    @staticmethod
    def of(kind: str, text: str) -> Axis:
        """An axis from its kind and its values as a person writes them.

        Prompts are a line each. All other values stand between commas; where there are semicolons or several lines,
        these separate them instead, so that "stw:1.5,1" can be a value. "0-3" are four numbers and "30-70 by 20" three;
        sparsities go by 10, and all else by 1, unless that is said.

        Raises:
            UserError: another kind, no value, too many, or one that cannot be read.
        """
        name = " ".join(kind.lower().split())
        kind = _OTHER_NAMES.get(name, name)
        if kind not in KINDS:
            raise UserError(f"An axis of a grid is one of {', '.join(KINDS)}, not {brief(name)}.")
        parts = _parts(kind, text or "")
        if kind in (RECIPE, PROMPT):
            for part in parts:
                check_text(part, f"The {kind}")
            values: Sequence[Value] = parts
        else:
            values = [value for part in parts for value in _read(kind, part)]
        values = tuple(dict.fromkeys(values))
        if not values:
            raise UserError(f"The axis {kind} has no values; write them like {EXAMPLES[kind].splitlines()[0]!r}.")
        if len(values) > MOST_VALUES:
            raise _too_many(kind)
        return Axis(kind, values)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each row or column is called. Of a recipe's file it is the name without its folders."""
        return tuple(_label(self.kind, value) for value in self.values)


def _parts(kind: str, text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if kind == PROMPT:
        return lines
    parts = [part for line in lines for part in line.split(";")]
    if len(parts) == 1:
        parts = parts[0].split(",")
    return [part.strip() for part in parts if part.strip()]


def _read(kind: str, part: str) -> list[Value]:
    """The values of one part: one, or those of a range."""
    if len(part) > _LONGEST:
        raise _unknown(kind, part)
    if kind == BLOCK and part.lower() == NONE:
        return [None]
    found = _RANGE.fullmatch(part.replace("%", "").strip() if kind == SPARSITY else part)
    if found is None:
        return [_value(kind, part)]
    first, last, step = found.groups()
    return [_value(kind, str(number)) for number in _range(kind, Decimal(first), Decimal(last), step)]


def _range(kind: str, first: Decimal, last: Decimal, step: str | None) -> list[Decimal]:
    """From the first to the last, which is left out where no step ends there; downwards if that is smaller."""
    by = Decimal(step) if step else Decimal(10 if kind == SPARSITY else 1)
    if by <= 0:
        raise UserError(f"A range of the axis {kind} goes by a number above 0, not {by}.")
    count = int(abs(last - first) / by) + 1
    if count > MOST_VALUES:
        raise _too_many(kind)
    return [first + place * (by if last >= first else -by) for place in range(count)]


def _value(kind: str, text: str) -> Value:
    if kind == SPARSITY:
        return parse_level(text)
    if not re.fullmatch(_NUMBER, text):
        raise _unknown(kind, text)
    if kind == GUIDANCE:
        return float(text)
    number = Decimal(text)
    if number % 1:
        raise UserError(f"A value of the axis {kind} is a whole number, not {text}.")
    return int(number)


def _label(kind: str, value: Value) -> str:
    if kind == RECIPE:
        return label_of(value) if value != DENSE and not value.endswith(".json") else Path(value).stem
    if kind == SPARSITY:
        return value.label
    if kind == BLOCK:
        return "all blocks" if value is None else f"without block {value}"
    if kind == GUIDANCE:
        return f"guidance {value:g}"
    return {PROMPT: f"{value}", SEED: f"seed {value}", STEPS: f"{value} steps"}[kind]


def _unknown(kind: str, part: str) -> UserError:
    return UserError(f"The axis {kind} cannot be {brief(part)}; write it like {EXAMPLES[kind].splitlines()[0]!r}.")


def _too_many(kind: str) -> UserError:
    return UserError(f"The axis {kind} has more than {MOST_VALUES} values; leave some out.")
