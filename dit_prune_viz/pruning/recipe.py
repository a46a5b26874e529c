"""A recipe: everything that decides the masks and the weights of a pruned model, as one immutable value."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from typing import Any

from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.calibration.timestep_weights import timestep_weights
from dit_prune_viz.checks import brief, check_keys
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.counts import check_sparsity
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.methods.allocation.base import Allocation
from dit_prune_viz.methods.base import Method
from dit_prune_viz.methods.catalogue import find_method
from dit_prune_viz.methods.granularity.base import Granularity
from dit_prune_viz.methods.saliency.base import Saliency
from dit_prune_viz.methods.search.base import Search
from dit_prune_viz.methods.update.base import Update
from dit_prune_viz.pipelines.layer_patterns import read_layer_patterns
from dit_prune_viz.pruning.limits import Bounds, read_bounds
from dit_prune_viz.pruning.tuned_layer import TunedLayer, read_tuned

SCHEMA = 3
"""Version of the JSON form."""

_READ = (1, 2, 3)
"""Versions that can be read: the first has no layers of their own, in the second none makes up for those."""

_MOST_SEARCHES = 32

AUTO = "auto"

_ALIASES = {"exchange": "swap", "dit-pruning": "stw"}
"""Other names of methods that recipes may hold."""

_SWITCHES = ("sensitivity", "centred", "sequential", "rebalance")


@dataclass(frozen=True)
class Recipe:
    """How a model is pruned. Methods are named as they are registered; options may follow a colon: "stw:1.5,1".

    Attributes:
        saliency: what scores the weights; the smallest scores are pruned.
        granularity: the groups inside which scores are ranked: "layer", "row", "column", "cag", another registered one,
            N:M such as "2:4", which decides the sparsity by itself, or "auto", which is what the saliency's own paper
            does.
        sparsity: share of the prunable weights that goes, 0–1.
        threshold: the G_out above which CAG ranks a layer row by row; None finds it in the model's own values.
        allocation: how the budget is shared out among the layers.
        sensitivity: whether the allocation weighs layers by their measured sensitivity.
        search: searches for better masks than the ranked ones, in order.
        update: what moves the kept weights and biases; "" nothing.
        timestep: how the timestep bins are weighed: "uniform", "early", "late", "log", or numbers with commas.
        centred: whether scores and energies are of the inputs less their means, for updates that move the biases.
        sequential: whether later blocks see what earlier ones give when pruned, while layers are searched and updated.
        calibration: how the model's inputs are watched.
        ignore: layers that stay dense, weights and biases: patterns as in `layer_patterns.layers_of`; a text may hold
            several between commas. The other layers lose so much more that the sparsity of all holds, except under
            N:M, where each layer loses its own share.
        bounds: floors and ceilings of layers, several `Bounds` or {pattern: (least, greatest)}. Where layers may not
            have the sparsity that the allocation gives them, the others make up for it.
        tuned: layers set by hand, after all else.
        rebalance: whether the other layers make up for those set by hand, so that the sparsity of all holds; else these
            neither give to the others nor take from them. Under N:M it means nothing.

    Raises:
        UserError: an unknown method, options it does not take, a sparsity outside 0–1, or a value of the wrong kind.
    """

    saliency: str = "stw"
    granularity: str = AUTO
    sparsity: float = 0.5
    threshold: float | None = None
    allocation: str = "uniform"
    sensitivity: bool = False
    search: tuple[str, ...] = ()
    update: str = ""
    timestep: str = "uniform"
    centred: bool = False
    sequential: bool = False
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    ignore: tuple[str, ...] = ()
    bounds: tuple[Bounds, ...] = ()
    tuned: tuple[TunedLayer, ...] = ()
    rebalance: bool = False

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        for name in ("saliency", "granularity", "allocation", "update", "timestep"):
            if not isinstance(getattr(self, name), str):
                raise UserError(f"A recipe's {name} is a text, not {brief(getattr(self, name))}.")
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"A recipe's {name} is either true or false, not {brief(getattr(self, name))}.")
        set_(self, "search", tuple(_renamed(spec) for spec in _texts(self.search)))
        set_(self, "sparsity", check_sparsity(self.sparsity))
        set_(self, "threshold", _checked_threshold(self.threshold))
        if not isinstance(self.calibration, CalibrationSettings):
            raise UserError(f"A recipe's calibration is its settings, not {brief(self.calibration)}.")
        for name, kind in (("saliency", Saliency), ("allocation", Allocation)):
            set_(self, name, find_method(kind, _renamed(getattr(self, name))).spec)
        set_(self, "search", tuple(find_method(Search, spec).spec for spec in self.search))
        set_(self, "update", find_method(Update, self.update).spec if self.update else "")
        set_(self, "ignore", read_layer_patterns(self.ignore))
        set_(self, "bounds", read_bounds(self.bounds))
        set_(self, "tuned", read_tuned(self.tuned))
        bins = self.calibration.bins
        timestep_weights(self.timestep, [place / bins for place in range(bins + 1)])
        pattern = n_of_m(self.granularity)
        if not self.method.prunes:
            if pattern:
                raise UserError(f"The saliency {self.saliency} keeps all weights; choose another granularity than N:M.")
            set_(self, "sparsity", 0.0)
        if pattern:
            set_(self, "sparsity", 1 - pattern[0] / pattern[1])
            if self.allocation != "uniform":
                raise UserError(
                    f"{self.granularity} gives every layer the same sparsity; choose the allocation uniform with it."
                )
            if self.bounds:
                raise UserError(f"{self.granularity} gives every layer the same sparsity; leave the bounds out.")
        elif self.granularity != AUTO:
            set_(self, "granularity", find_method(Granularity, self.granularity).spec)

    @property
    def method(self) -> Saliency:
        """The saliency itself."""
        return find_method(Saliency, self.saliency)

    @property
    def resolved_granularity(self) -> str:
        """The granularity with "auto" replaced by what the saliency's own paper does."""
        return self.method.granularity if self.granularity == AUTO else self.granularity

    @property
    def searches(self) -> tuple[Search, ...]:
        """The searches themselves."""
        return tuple(find_method(Search, spec) for spec in self.search)

    @property
    def updater(self) -> Update | None:
        """The update itself, or None."""
        return find_method(Update, self.update) if self.update else None

    @property
    def methods(self) -> tuple[Method, ...]:
        """Every method that has a say."""
        own = [] if n_of_m(self.granularity) else [find_method(Granularity, self.resolved_granularity)]
        share = find_method(Allocation, self.allocation)
        return (self.method, *own, share, *self.searches, *filter(None, [self.updater]))

    @property
    def versions(self) -> dict[str, int]:
        """Every method's version; what was measured with another one is not valid any more."""
        return {f"{method.kind} {method.name}": method.version for method in self.methods}

    @property
    def finishes(self) -> bool:
        """Whether the ranked masks are not the last word: a search or an update follows."""
        return bool(self.search or self.update)

    @property
    def learns(self) -> bool:
        """Whether masks or weights of a layer depend on those of all others."""
        updater = self.updater
        return any(not one.layerwise for one in self.searches) or (updater is not None and not updater.layerwise)

    @property
    def takes_patterns(self) -> bool:
        """Whether N:M means something for it: its groups replace the granularity and leave no budget to share out.

        A search works inside the groups, and does without its budget there. Floors and ceilings mean nothing there.
        """
        free = bool(self.search) or (self.granularity == AUTO and self.allocation == "uniform")
        return free and not self.bounds and self.method.prunes

    @property
    def fixed(self) -> bool:
        """Whether it prunes as much as it does whatever sparsity is asked for: as a pattern says, or nothing."""
        return bool(n_of_m(self.granularity)) or not self.method.prunes

    @property
    def scoring(self) -> tuple[object, ...]:
        """Everything that decides the scores of the weights, and so G_out."""
        return self.saliency, self.timestep, self.centred, self.calibration

    @property
    def ranking(self) -> tuple[object, ...]:
        """Everything that decides which weights of a layer go before which."""
        return *self.scoring, self.resolved_granularity, self.threshold

    def at(self, sparsity: float | str) -> Recipe:
        """The same recipe at another sparsity, 0–1, or with an N:M pattern such as "2:4"; `fixed` ones keep theirs.

        Layers set by hand were set for the sparsity that there was: at another one the recipe is without them.

        Raises:
            UserError: neither of the two, or a pattern for a recipe that takes none.
        """
        if not isinstance(sparsity, str):
            other = replace(self, sparsity=sparsity)
            return other if other.sparsity == self.sparsity else replace(other, tuned=())
        if not n_of_m(sparsity):
            raise UserError(f"A sparsity is a number from 0 to 1 or a pattern such as 2:4, not {brief(sparsity)}.")
        if not self.takes_patterns:
            own = "has floors and ceilings" if self.bounds else "ranks weights in groups of its own"
            own = own if self.method.prunes else "keeps all weights"
            raise UserError(f"This recipe {own}, so {sparsity} means nothing for it.")
        tuned = self.tuned if self.granularity == sparsity else ()
        return replace(self, granularity=sparsity, allocation="uniform", sensitivity=False, threshold=None, tuned=tuned)

    @property
    def changes(self) -> dict[str, Any]:
        """Every field that is not at its default, in JSON's types."""
        plain = Recipe()
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: _plain(name, value) for name, value in own.items() if value != getattr(plain, name)}

    def to_dict(self) -> dict[str, Any]:
        """The recipe in JSON's types, all fields in full; `from_dict` gives an equal one."""
        return {"schema": SCHEMA, **{item.name: _plain(item.name, getattr(self, item.name)) for item in fields(self)}}

    def to_json(self, indent: int | None = 1) -> str:
        """The recipe as JSON, all fields in full; `from_json` gives an equal one."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Recipe:
        """The recipe that `to_json` wrote; fields that are left out keep their defaults.

        Raises:
            UserError: no JSON object, another schema, unknown keys or one that is there twice, NaN, values of the wrong
                kind.
        """
        return Recipe.from_dict(read_json(text))

    @staticmethod
    def from_dict(values: object, base: Recipe | None = None) -> Recipe:
        """The recipe in an object as JSON has it; what is left out is as in `base`, or at its default.

        Raises:
            UserError: as in `from_json`.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"A recipe is a JSON object such as {_EXAMPLE}, not {brief(values)}.")
        values = dict(values)
        schema = values.pop("schema", SCHEMA)
        if isinstance(schema, bool) or schema not in _READ:
            raise UserError(f"This recipe has schema {brief(schema)}, but this version reads {SCHEMA}; update the app.")
        check_keys(values, [item.name for item in fields(Recipe)], "recipe")
        if isinstance(values.get("timestep"), list):
            values["timestep"] = ",".join(map(str, values["timestep"])) + ","
        if "calibration" in values:
            values["calibration"] = _calibration(values["calibration"])
        return replace(base or Recipe(), **values)


def read_json(text: object) -> object:
    """What a recipe's JSON says.

    Raises:
        UserError: no JSON, NaN or infinity, or a key that is there twice.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except _TwiceError as twice:
        raise UserError(f"The key {brief(twice.args[0])} is there twice in one object; keep one of the two.") from None
    except (ValueError, TypeError, RecursionError):
        raise UserError(f"A recipe is a JSON object such as {_EXAMPLE}, not {brief(text)}.") from None


_EXAMPLE = '{"saliency": "wanda", "sparsity": 0.6}'


def _calibration(values: object) -> CalibrationSettings:
    if isinstance(values, CalibrationSettings):
        return values
    if not isinstance(values, Mapping):
        raise UserError(f"A recipe's calibration is a JSON object, not {brief(values)}.")
    check_keys(values, [item.name for item in fields(CalibrationSettings)], "calibration")
    return CalibrationSettings(**values)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


class _TwiceError(Exception):
    """A key that is there twice in one object; its name."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise _TwiceError(name)
        found[name] = value
    return found


def _texts(value: object) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else (None,)
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"A recipe's search is a list of texts, such as ['swap'], not {brief(value)}.")
    if len(texts) > _MOST_SEARCHES:
        raise UserError(f"A recipe has at most {_MOST_SEARCHES} searches, but here are {len(texts):,}; remove some.")
    return tuple(text for text in texts if text)


def _renamed(spec: str) -> str:
    name, colon, rest = spec.partition(":")
    return _ALIASES.get(name, name) + colon + rest


def _checked_threshold(value: object) -> float | None:
    if value is None:
        return None
    good = isinstance(value, Real) and not isinstance(value, bool)
    if not good or not 0 <= value < math.inf:
        raise UserError(f"The G_out threshold must be a number of 0 or more, but it is {brief(value)}.")
    return float(value)


def _plain(name: str, value: Any) -> Any:
    """The value of a field in JSON's types."""
    if name == "calibration":
        own = asdict(value)
        return own if own["prompts"] is None else {**own, "prompts": list(own["prompts"])}
    if name == "bounds":
        return {one.pattern: [one.least, one.greatest] for one in value}
    if name == "tuned":
        return [one.to_dict() for one in value]
    return list(value) if isinstance(value, tuple) else value
