"""The left column's fields as one value, and the way between them and `Settings`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dit_prune_viz.app.session.settings import METHOD_NAMES, OWN, Settings
from dit_prune_viz.calibration.timestep_weights import SCHEMES
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.methods.allocation.damage_aware import DamageAware
from dit_prune_viz.methods.allocation.find import find_allocation
from dit_prune_viz.methods.allocation.tempered import Tempered
from dit_prune_viz.methods.saliency.find import find_method
from dit_prune_viz.methods.saliency.stw import STW

BY_HAND = "hand"
BINS = 10
"""Timestep bins of a calibration."""

EVEN = ", ".join(["1"] * BINS)


@dataclass(frozen=True)
class Fields:
    """Values as the components hold them; a number field that was emptied holds None.

    score: a saliency's name or "own", with the exponents m and n. granularity: a mode or "N:M", with its pattern.
    sparsity, floor, ceiling: in percent. allocation: a name without numbers. timestep: a scheme or "hand", with ten
    numbers in one text, from the clean end of the trajectory to the noisy one.
    """

    score: str = "dit-pruning"
    m: float | None = find_method(OWN).m
    n: float | None = find_method(OWN).n
    granularity: str = "auto"
    pattern: str = "2:4"
    sparsity: float | None = 50
    allocation: str = "uniform"
    lam: float | None = Tempered().lam
    floor: float | None = 0
    ceiling: float | None = 100
    sensitivity: bool = False
    update: str = ""
    sequential: bool = False
    timestep: str = "uniform"
    weights: str = EVEN
    centred: bool = False
    exchange: bool = False
    distil: float | None = 0

    @property
    def fixed(self) -> bool:
        """Whether N:M leaves neither sparsity nor budget to choose."""
        return self.granularity == "N:M"

    @property
    def settings(self) -> Settings:
        """What the fields ask for; nothing is checked here."""
        return Settings(
            method=f"stw:{_text(self.m)},{_text(self.n)}" if self.score == "own" else self.score,
            granularity=(self.pattern or "").replace(" ", "") if self.granularity == "N:M" else self.granularity,
            sparsity=None if self.sparsity is None else self.sparsity / 100,
            allocation="uniform" if self.fixed else self.allocation + self._numbers(),
            update=self.update,
            timestep=spelled(self.weights) if self.timestep == BY_HAND else self.timestep,
            sensitivity=bool(self.sensitivity) and not self.fixed,
            sequential=bool(self.sequential),
            centred=bool(self.centred),
            exchange=bool(self.exchange),
            distil=int(self.distil or 0),
        )

    def _numbers(self) -> str:
        if self.allocation == "tempered":
            return f":{_text(self.lam)}"
        if self.allocation == "damage-aware" and (self.floor, self.ceiling) != (0, 100):
            return f":{_text(self.floor, 100)},{_text(self.ceiling, 100)}"
        return ""


def fields_of(settings: Settings, kept: Fields | None = None) -> Fields:
    """The fields that ask for `settings`; numbers that play no part in them stay as in `kept`.

    UserError for settings that no field can express, because their method or allocation does not exist.
    """
    kept = kept or Fields()
    switches = ("update", "sequential", "centred", "exchange", "distil")
    changes: dict[str, object] = {name: getattr(settings, name) for name in switches}
    changes |= {"sparsity": round(100 * settings.sparsity, 6)}
    saliency, share = find_method(settings.method), find_allocation(settings.allocation)
    if saliency.name in METHOD_NAMES:
        changes["score"] = saliency.name
    elif isinstance(saliency, STW):
        changes |= {"score": "own", "m": saliency.m, "n": saliency.n}
    else:
        changes["score"] = settings.method
    pattern = n_of_m(settings.granularity)
    changes |= (
        {"granularity": "N:M", "pattern": settings.granularity} if pattern else {"granularity": settings.granularity}
    )
    if not pattern:
        changes |= {"allocation": share.name.partition(":")[0], "sensitivity": settings.sensitivity}
    if isinstance(share, Tempered):
        changes["lam"] = share.lam
    if isinstance(share, DamageAware):
        changes |= {"floor": 100 * share.floor, "ceiling": 100 * share.ceiling}
    by_hand = settings.timestep not in SCHEMES
    changes |= {"timestep": BY_HAND, "weights": settings.timestep} if by_hand else {"timestep": settings.timestep}
    return Fields(**{**vars(kept), **changes})


def _text(value: float | None, divisor: float = 1) -> str:
    """A number as names of methods and allocations take it; an emptied field becomes what they refuse."""
    return "nothing" if value is None else f"{value / divisor:g}"


def spelled(weights: str | Sequence[float]) -> str:
    """Numbers by hand, however they are separated, with commas; a lone one too, so that they are counted."""
    parts = str(weights or "").replace(",", " ").replace(";", " ").split()
    return ",".join(parts) if len(parts) > 1 else f"{''.join(parts)},"
