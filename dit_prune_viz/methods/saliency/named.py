"""Things a person names with numbers behind a colon, such as "stw:1.5,1"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError

Made = TypeVar("Made")


def named(text: str, makers: Mapping[str, tuple[Callable[..., Made], int]]) -> Made | None:
    """`maker(*numbers)` for "name:number,…", with at most the number of arguments given beside the maker.

    None if `makers` has no such name. UserError for what is no number, or too many of them.
    """
    name, colon, rest = text.partition(":")
    if name not in makers:
        return None
    maker, most = makers[name]
    try:
        numbers = [float(part) for part in rest.split(",")] if colon else []
    except ValueError:
        raise UserError(f"Behind '{name}:' stand numbers with commas between them, not {brief(rest)}.") from None
    if len(numbers) > most:
        raise UserError(f"Behind '{name}:' stand at most {most} numbers, but there are {len(numbers)}.")
    return maker(*numbers)
