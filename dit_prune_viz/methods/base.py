"""What every method a person can choose has in common: a name, words about itself, options, and what it needs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from typing import Any, ClassVar

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError


@dataclass(frozen=True)
class Option:
    """One number or choice of a method, as the page and the command line show it.

    Attributes:
        name: of the dataclass field.
        label: for people.
        default: a number or one of `choices`.
        low: least number, or None.
        high: greatest number, or None.
        step: of a slider.
        choices: the texts it may be; empty for a number.
        percent: whether people read the number as percent of it.
        slider: whether the page shows a slider, as it does of whole numbers; it takes `low`, `high` and `step`.
    """

    name: str
    label: str
    default: Any
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    percent: bool = False
    slider: bool = False


def option(
    default: Any,
    label: str,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    choices: tuple[str, ...] = (),
    percent: bool = False,
    slider: bool = False,
) -> Any:
    """A dataclass field that is an `Option` of its method; arguments as there."""
    about = {"label": label, "low": low, "high": high, "step": step, "choices": choices}
    return field(default=default, metadata={"option": about | {"percent": percent, "slider": slider}})


class Method:
    """A method a person can choose: `Saliency`, `Granularity`, `Allocation`, `Search` or `Update`.

    A method with options is a frozen dataclass whose fields are made with `option`.

    Attributes:
        kind: which of the five it is.
        name: what recipes call it; the class's own name in lower case unless given.
        label: what the page calls it.
        formula: one line.
        paper: where it was published; None for a method of one's own.
        needs: names of the statistics its work takes as arguments, see `calibration.statistics.STATISTICS`.
        version: to be raised whenever the method gives other bits, so that measurements of before are not reused.
    """

    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""
    label: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    paper: ClassVar[str | None] = None
    needs: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """The method's options in the order in which a recipe's text gives them."""
        if not dataclasses.is_dataclass(cls):
            return ()
        return tuple(
            Option(item.name, default=None if item.default is MISSING else item.default, **item.metadata["option"])
            for item in dataclasses.fields(cls)
            if "option" in item.metadata
        )

    @classmethod
    def parse(cls, text: str) -> Method:
        """The method with the options in a text such as "1.5,1"; an empty text leaves all at their defaults.

        Raises:
            UserError: too many options, no number, or a value that the method refuses.
        """
        known, parts = cls.options(), [part.strip() for part in text.split(",")] if text.strip() else []
        if len(parts) > len(known):
            takes = f"at most {len(known)} options" if known else "no options"
            raise UserError(f"{cls.name} takes {takes}, but {brief(text)} has {len(parts)}.")
        return cls(**{one.name: _value(cls.name, one, part) for one, part in zip(known, parts, strict=False)})

    @property
    def built_in(self) -> bool:
        """Whether it comes with this package. The code of any other may change without a word."""
        return type(self).__module__.partition(".")[0] == __name__.partition(".")[0]

    @property
    def spec(self) -> str:
        """The method as a recipe writes it: its name, and its options behind a colon unless all have their defaults."""
        values = [(getattr(self, one.name), one.default) for one in self.options()]
        if all(value == default for value, default in values):
            return self.name
        return f"{self.name}:{','.join(_text(value) for value, _ in values)}"

    @property
    def title(self) -> str:
        """The label, with the options that are not at their defaults."""
        changed = [
            f"{one.name} = {_text(getattr(self, one.name))}"
            for one in self.options()
            if getattr(self, one.name) != one.default
        ]
        return f"{self.label}, {', '.join(changed)}" if changed else self.label


def finite(value: float, what: str, low: float = 0.0, high: float = math.inf) -> None:
    """Check an option when its method is made.

    Raises:
        UserError: `value` is not a finite number between `low` and `high`.
    """
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high:
        bounds = f"between {low:g} and {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise UserError(f"{what} must be a finite number {bounds}, but it is {brief(value)}.")


def _value(name: str, one: Option, text: str) -> Any:
    if one.choices:
        if text not in one.choices:
            raise UserError(f"{one.label} of {name} is one of {', '.join(one.choices)}, not {brief(text)}.")
        return text
    make: Callable[[str], Any] = int if isinstance(one.default, int) and not isinstance(one.default, bool) else float
    try:
        return make(text)
    except ValueError:
        noun = "a whole number" if make is int else "a number"
        raise UserError(f"{one.label} of {name} is {noun}, not {brief(text)}.") from None


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
