"""How much is pruned in one cell: a share of the weights, or an N:M pattern."""

from __future__ import annotations

from dataclasses import dataclass

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.pruning.recipe import Recipe

_LONGEST = 20


@dataclass(frozen=True, order=True)
class Level:
    """sparsity: share of the prunable weights, 0–1. pattern: "2:4" and the like, "" where any weight may go. own: it is
    what came of a recipe as it is, which it leaves alone."""

    sparsity: float
    pattern: str = ""
    own: bool = False

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe at this level. UserError for a pattern that means nothing for it."""
        return recipe if recipe.fixed or self.own else recipe.at(self.pattern or self.sparsity)

    @property
    def label(self) -> str:
        """ "50 %" or "2:4"."""
        return self.pattern or f"{100 * self.sparsity:g} %"


def level_of(recipe: Recipe) -> Level:
    """The one level of a recipe that prunes as much as it does whatever is asked for."""
    return Level(recipe.sparsity, recipe.granularity if n_of_m(recipe.granularity) else "")


def parse_level(text: str | float) -> Level:
    """A level from percent ("50", "62.5 %", 50) or from N:M ("2:4": of every 4 consecutive inputs 2 stay).

    UserError for anything else; a share such as 0.5 is refused, because 0.5 would mean half a percent.
    """
    if isinstance(text, bool) or not isinstance(text, (str, int, float)) or len(str(text)) > _LONGEST:
        raise _unknown(text)
    stripped = str(text).strip()
    if ":" in stripped:
        n, _, m = stripped.partition(":")
        if not (n.isdecimal() and m.isdecimal() and 1 <= int(n) < int(m)):
            raise _unknown(text)
        return Level(1 - int(n) / int(m), f"{int(n)}:{int(m)}")
    try:
        percent = float(stripped.removesuffix("%"))
    except ValueError:
        raise _unknown(text) from None
    if 0 < percent < 1:
        raise UserError(f"Sparsities are in percent: write {100 * percent:g} instead of {stripped}.")
    if not 0 <= percent <= 100:
        raise _unknown(text)
    return Level(round(percent / 100, 12))


def parse_levels(text: str) -> tuple[Level, ...]:
    """Levels separated by commas, each once, in order. UserError as in `parse_level`, and if there is none."""
    levels = tuple(dict.fromkeys(parse_level(part) for part in text.split(",") if part.strip()))
    if not levels:
        raise UserError("Choose at least one sparsity, such as 50 or 2:4.")
    return levels


def _unknown(text: object) -> UserError:
    return UserError(f"A sparsity is a number of percent from 0 to 100 or a pattern like 2:4, not {brief(text)}.")
