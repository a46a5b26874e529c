"""Checks of numbers and texts that come from people, sliders and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from numbers import Integral, Real

from dit_prune_viz.errors import UserError


def whole(value: object, what: str, low: int, high: int) -> int:
    """`value` as an int between `low` and `high`; 20.0, as JSON and sliders send it, counts as 20.

    UserError, naming `what`, for anything else: out of range, a fraction, NaN, a bool, a text, None.
    """
    good = isinstance(value, Real) and not isinstance(value, bool)
    if good and not isinstance(value, Integral):
        good = float(value).is_integer()
    if not good or not low <= value <= high:
        raise UserError(f"{what} must be a whole number from {low} to {high:,}, but it is {brief(value)}.")
    return int(value)


def check_switch(value: object, what: str) -> bool:
    """`value` itself. UserError, naming `what`, if it is neither true nor false."""
    if not isinstance(value, bool):
        raise UserError(f"{what} is either true or false, not {brief(value)}.")
    return value


def check_words(value: object, what: str) -> tuple[str, ...]:
    """A list of texts as a tuple, None as an empty one. UserError, naming `what`, for anything else."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise UserError(f"{what} is a list of texts, not {brief(value)}.")
    return tuple(value)


def check_text(text: str, what: str = "The prompt") -> None:
    """UserError, naming `what`, if `text` has half a character, as broken JSON does ("\\ud83d")."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} has a character that is none, at place {error.start + 1}; write it anew.") from error


def check_keys(values: Mapping[str, object], known: Iterable[str], what: str, *, needed: bool = False) -> None:
    """UserError, naming `what`, if a JSON object has a key that is not known, or, where all are `needed`, lacks one."""
    known = tuple(known)
    for key in values:
        if key not in known:
            raise UserError(f"A {what} has no {brief(key)}; choose among {', '.join(known)}.")
    for key in known if needed else ():
        if key not in values:
            raise UserError(f"A {what} needs {', '.join(known)}, but {key} is missing.")


def brief(value: object) -> str:
    """How a sentence quotes a value that may be anything: at most 40 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print a whole number of more than some thousand digits
        text = "a number of very many digits"
    except RecursionError:
        text = "something nested very deeply"
    return text if len(text) <= 40 else text[:39] + "…"


def unmarked(text: str) -> str:
    """A name from somebody's file as a sentence quotes it: short, and nothing in it could be read as markup."""
    return re.sub(r"[^\w .,:@/+*?-]", "?", text)[:60]


def first_sentence(error: Exception) -> str:
    """What a library says of an error, to be quoted: its first sentence, or whole words of it if that is long."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
    sentence = re.split(r"(?<=[.!?;])\s", text)[0].rstrip(".!?;: ")
    return sentence if len(sentence) <= 200 else sentence[:200].rpartition(" ")[0] + " …"
