"""What a person set in the left column or over the API: one frozen value that decides masks and weight update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

from dit_prune_viz.checks import brief, whole
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.groups import n_of_m
from dit_prune_viz.methods.allocation.find import find_allocation
from dit_prune_viz.methods.granularity.choose import resolve_mode
from dit_prune_viz.methods.saliency.find import METHODS, find_method
from dit_prune_viz.methods.search.distil import MOST_STEPS
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pruning.candidates import CANDIDATES, Candidate
from dit_prune_viz.pruning.update_model import TUNED

METHOD_NAMES = MappingProxyType(
    {"dit-pruning": "DiT-Pruning", "wanda": "Wanda", "magnitude": "Magnitude", "ria": "RIA", "obs": "OBS score"}
)
"""Label of every saliency that has a name, the paper's first."""

UPDATE_NAMES = MappingProxyType(
    {
        "": "None",
        "mean": "Biases for the mean",
        "obs": "OBS (SparseGPT)",
        "least-squares": "Least squares",
        TUNED: "Tuned on the dense answers",
    }
)
"""Label of every weight update."""

_SWITCHES = ("sequential", "sensitivity", "centred", "exchange")


@dataclass(frozen=True)
class Settings:
    """What `prune` was last asked for; `calibrate` prunes again with it. The fields are those of a `Candidate`.

    sparsity is a share of the prunable weights, 0–1; a granularity N:M decides it by itself.
    """

    method: str = "dit-pruning"
    granularity: str = "auto"
    sparsity: float = 0.5
    allocation: str = "uniform"
    update: str = ""
    timestep: str = "uniform"
    sensitivity: bool = False
    sequential: bool = False
    centred: bool = False
    exchange: bool = False
    distil: int = 0

    @property
    def candidate(self) -> Candidate:
        """The same as experiments take it, without the sparsity."""
        return Candidate("", **{field: value for field, value in vars(self).items() if field != "sparsity"})

    @property
    def finishes(self) -> bool:
        """Whether the masks are not the last word: before a picture is drawn better ones are looked for, or weights
        updated."""
        return bool(self.update) or self.searches

    @property
    def searches(self) -> bool:
        """Whether better masks than the ranked ones are looked for, by exchanges or by distillation."""
        return self.candidate.searches

    @property
    def scoring(self) -> tuple:
        """Everything that decides the scores of the weights, and so G_out."""
        return self.method, self.timestep, self.centred

    @property
    def ranking(self) -> tuple:
        """Everything that decides which weights of a layer go before which."""
        return *self.scoring, self.granularity

    @property
    def title(self) -> str:
        """The name of the ready-made way to prune that these settings are, else of their score."""
        name = name_of(self)
        return METHOD_NAMES.get(name) or (name if name in READY_MADE else f"Custom, {score_name(self.method)}")


DEFAULTS = Settings()


def settings_for(method: str, granularity: str = "auto", sparsity: float = 0.5, **options) -> Settings:
    """The settings a verb was asked for. A `method` that names a candidate stands for all of its fields, of which
    `options` and a granularity other than "auto" replace some. UserError for options of the wrong kind."""
    asked = {**options, **({} if granularity == "auto" else {"granularity": granularity})}
    if isinstance(method, str) and method in CANDIDATES and method not in METHODS:
        asked = {**CANDIDATES[method].settings, **asked}
    else:
        asked["method"] = method
    return _checked({**asked, "sparsity": sparsity})


def read_settings(given: object) -> Settings:
    """The settings in a JSON object such as {"method": "ria", "sparsity": 0.6}; what is left out keeps its default.

    UserError for anything but an object, unknown keys, and values of the wrong kind.
    """
    known = [field.name for field in fields(Settings)]
    if not isinstance(given, Mapping):
        raise UserError(f'Settings are a JSON object such as {{"method": "ria", "sparsity": 0.5}}, not {brief(given)}.')
    for key in given:
        if key not in known:
            raise UserError(f"There is no setting {brief(key)}; choose among {', '.join(known)}.")
    return settings_for(**{"method": DEFAULTS.method, **given})


def fitting(settings: Settings, layers: Sequence[Layer]) -> Settings:
    """The same settings for another model; an N:M that does not divide its layers' inputs becomes "auto"."""
    pattern = n_of_m(settings.granularity)
    if pattern and any(layer.shape[1] % pattern[1] for layer in layers):
        return replace(settings, granularity="auto")
    return settings


def _checked(asked: Mapping[str, object]) -> Settings:
    """Kinds only; what the values mean is checked where they are used, which is before anything changes."""
    asked = dict(asked)
    timestep = asked.get("timestep", "uniform")
    if isinstance(timestep, Sequence) and not isinstance(timestep, str):
        asked["timestep"] = ",".join(map(str, timestep)) if len(timestep) > 1 else str(list(timestep))
    for name in ("allocation", "update", "timestep"):
        if not isinstance(asked.get(name, ""), str):
            raise UserError(f"The setting {name} is a text, not {brief(asked[name])}.")
    asked["distil"] = whole(asked.get("distil", 0), "The number of distillation steps", 0, MOST_STEPS)
    for name in _SWITCHES:
        if not isinstance(asked.get(name, False), bool):
            raise UserError(f"The setting {name} is either true or false, not {brief(asked[name])}.")
    return Settings(**asked)


OWN = "stw:1.5,1"
"""Where exponents of one's own start."""

_SENTENCES = {
    "obs": "w² ÷ [H⁻¹]ⱼⱼ: the error left once the other weights make up for the lost one; needs the Hessians.",
    "own": "|W|^m · ‖X‖^n with exponents of your own; inside one group only m ÷ n decides the ranking.",
    "custom": "Your own combination of the fields below.",
}

READY_MADE = MappingProxyType(
    {
        **{name: Settings(name) for name in METHOD_NAMES},
        "own": Settings(OWN),
        **{
            name: Settings(**candidate.settings)
            for name, candidate in CANDIDATES.items()
            if name not in METHODS and (candidate.searches or candidate.allocation != "uniform")
        },
    }
)
"""The ways to prune a person picks by name: the paper's method, its peers, and the candidates that search for masks or
share a budget out over the layers."""


def label_of(name: str) -> str:
    """How a ready-made way to prune is called in the page."""
    return METHOD_NAMES.get(name) or {"own": "Own exponents m, n", "custom": "Custom"}.get(name, f"Ready-made: {name}")


def sentence_of(name: str) -> str:
    """One sentence that explains a ready-made way to prune, or "custom"."""
    words = CANDIDATES[name].words if name in CANDIDATES else ""
    return f"{words[:1].upper()}{words[1:]}." if words else _SENTENCES[name]


def name_of(settings: Settings) -> str:
    """Which of READY_MADE the settings are, whatever their sparsity; else "custom"."""
    meaning = _meaning(settings)
    for name, ready in READY_MADE.items():
        if name != "own" and _meaning(ready) == meaning:
            return name
    plain = Settings(settings.method, sparsity=settings.sparsity)
    return "own" if settings.method.startswith("stw:") and _meaning(plain) == meaning else "custom"


def score_name(method: str) -> str:
    """The score of a weight in a few words."""
    if method in METHOD_NAMES:
        return METHOD_NAMES[method]
    return find_method(method).name


def _meaning(settings: Settings) -> tuple | None:
    """The same for two ways to write the same; None for settings that mean nothing."""
    try:
        saliency, share = find_method(settings.method), find_allocation(settings.allocation)
        mode = resolve_mode(settings.granularity, saliency.name)
    except UserError:
        return None
    switches = (
        settings.sensitivity and share.name != "uniform",
        settings.sequential and settings.finishes,
        settings.centred,
        settings.exchange,
        settings.distil,
    )
    return saliency, n_of_m(mode) or mode, share, settings.update, settings.timestep, *switches
