"""What is compared: named ways to prune, from the plain baselines to our best combination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError
from dit_prune_viz.methods.update.tune import TUNING_STEPS
from dit_prune_viz.pruning.update_model import TUNED


@dataclass(frozen=True)
class Candidate:
    """One way to prune a model, at whatever sparsity.

    method, granularity, allocation: as `make_plan` takes them. update: "" leaves the kept weights as they are, else
    one of UPDATES, see `update_model` and `tune_weights`. timestep: how the timesteps of the calibration are weighed,
    for saliency and update. sensitivity: whether measured sensitivities weigh the layers of the allocation. sequential:
    whether the update shows later blocks what the earlier ones give when pruned. centred: norms and energies are those
    of the inputs less their means, for candidates whose update moves the biases. exchange: whether pruned and kept
    weights change places while that lowers the output error, see `update.exchange`. distil: in how many steps the masks
    learn from the dense model's outputs, 0 for none, see `update.distil_masks`. words: an explanation for people.
    """

    name: str
    method: str = "dit-pruning"
    granularity: str = "auto"
    allocation: str = "uniform"
    update: str = ""
    timestep: str = "uniform"
    sensitivity: bool = False
    sequential: bool = False
    centred: bool = False
    exchange: bool = False
    distil: int = 0
    words: str = ""

    @property
    def settings(self) -> dict[str, str | bool | int]:
        """Everything that decides the result and is not as it is by default, without the name and the words."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("name", "words")}
        return {name: value for name, value in given.items() if value != getattr(_PLAIN, name)}

    @property
    def searches(self) -> bool:
        """Whether better masks than the ranked ones are looked for."""
        return self.exchange or self.distil > 0

    @property
    def learns(self) -> bool:
        """Whether masks or weights learn from the dense model's outputs, so that each layer depends on all others."""
        return self.distil > 0 or self.update == TUNED

    @property
    def tuning(self) -> int:
        """In how many steps weights learn: a quarter of the masks', which choose more."""
        if self.update != TUNED:
            return 0
        return max(1, self.distil // 4) if self.distil else TUNING_STEPS

    @property
    def takes_patterns(self) -> bool:
        """Whether N:M means something for it: its groups take the place of the granularity and leave no allocation.

        What searches does so inside the groups, and does without its budget there.
        """
        return self.searches or (self.granularity == "auto" and self.allocation == "uniform")


_PLAIN = Candidate("")

_ALL = (
    Candidate("magnitude", "magnitude", words="|W|, per layer"),
    Candidate("wanda", "wanda", words="|W|·‖X‖, per row (arXiv 2306.11695)"),
    Candidate("ria", "ria", words="relative importance and activations (ICLR 2024), per row"),
    Candidate("stw", "dit-pruning", "layer", words="|W|²·‖X‖ alone, every layer ranked as a whole"),
    Candidate("cag", "wanda", "cag", words="Wanda's score with the clustering-aware granularity alone"),
    Candidate("dit-pruning", "dit-pruning", words="STW + CAG, the paper's method (arXiv 2607.00927)"),
    Candidate("tempered", "stw:1.5,1", "cag", "tempered:0.6", words="between uniform and the energy threshold"),
    Candidate("damage-aware", "stw:1.5,1", "cag", "damage-aware", words="least predicted damage for the budget"),
    Candidate("obs-update", "dit-pruning", update="obs", words="DiT-Pruning's masks, kept weights updated (OBS)"),
    Candidate("mean", update="mean", words="DiT-Pruning's masks, biases make up for the lost mean output"),
    Candidate(
        "tempered-mean",
        "stw:2,1",
        "cag",
        "tempered:0.6",
        "mean",
        centred=True,
        words="tempered budget, biases make up for the lost mean",
    ),
    Candidate(
        "exchange-mask",
        exchange=True,
        words="DiT-Pruning's plan, then pruned and kept weights change places until their errors cancel; masks alone",
    ),
    Candidate(
        "exchange",
        "stw:2,1",
        "cag",
        "tempered:0.8",
        "mean",
        centred=True,
        exchange=True,
        words="exchanged masks on a tempered budget, and biases make up for the lost mean; no weight moves",
    ),
    Candidate(
        "exchange-update",
        "stw:2,1",
        "cag",
        "tempered:0.8",
        "least-squares",
        centred=True,
        exchange=True,
        words="exchanged masks on a tempered budget, kept weights and biases by least squares",
    ),
    Candidate(
        "distilled-mask",
        "stw:1.5,1",
        "cag",
        "tempered:0.6",
        distil=400,
        words="masks on a tempered budget that learn from the dense model's outputs; masks alone",
    ),
    Candidate(
        "distilled",
        "stw:2,1",
        "cag",
        "tempered:0.8",
        "mean",
        centred=True,
        distil=400,
        words="masks that learn from the dense model's outputs while biases make up for the lost mean; no weight moves",
    ),
    Candidate(
        "distilled-update",
        "stw:2,1",
        "cag",
        "tempered:0.8",
        "tuned",
        centred=True,
        distil=1600,
        words="masks that learn from the dense model's outputs for long, then kept weights and biases that do",
    ),
)
CANDIDATES = MappingProxyType({candidate.name: candidate for candidate in _ALL})
"""The candidates a person picks by name."""

_EXPONENTS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
SWEEPS = MappingProxyType(
    {
        "exponents": tuple(
            Candidate(f"m = {m:g}", f"stw:{m:g},1", "cag", words=f"|W|^{m:g}·‖X‖ + CAG (arXiv 2607.00927, Table 13)")
            for m in _EXPONENTS
        )
    }
)
"""Several candidates under one name."""

_SWITCHES = ("sensitivity", "sequential", "centred", "exchange")
DENSE = Candidate("dense", "magnitude", words="the model as it is")


def find_candidates(names: str | Sequence[str]) -> tuple[Candidate, ...]:
    """The candidates called so (a sequence, or one text with commas), each once; a sweep's name stands for all of it.

    UserError for an unknown name.
    """
    asked = names.split(",") if isinstance(names, str) else list(names)
    asked = [name.strip() if isinstance(name, str) else name for name in asked]
    chosen: dict[str, Candidate] = {}
    for name in filter(None, asked):
        if name not in CANDIDATES and name not in SWEEPS:
            known = ", ".join([*CANDIDATES, *SWEEPS])
            raise UserError(f"There is no method {brief(name)} to compare; choose from {known}.")
        found = SWEEPS[name] if name in SWEEPS else (CANDIDATES[name],)
        chosen |= {candidate.name: candidate for candidate in found}
    return tuple(chosen.values())


def parse_candidate(text: str) -> Candidate:
    """A candidate of one's own: "NAME: method=stw:1.5,1 granularity=cag allocation=tempered:0.6 update=obs".

    What is left out keeps its default; `sensitivity=yes`, `sequential=yes`, `centred=yes` and `exchange=yes` switch
    those on, and `distil=150` distils in 150 steps. UserError for another form.
    """
    name, found, rest = text.partition(": ")
    pairs = dict(part.partition("=")[::2] for part in rest.split())
    steps = pairs.get("distil", "0")
    known = {field.name for field in fields(Candidate)} - {"name", "words"}
    if (
        not (found and name.strip()[:1].isalnum() and pairs and all(pairs.values()))
        or set(pairs) - known
        or not steps.isdecimal()
    ):
        raise UserError(f"A candidate is written as 'NAME: method=wanda granularity=row', not {brief(text)}.")
    if name.strip() in [*CANDIDATES, *SWEEPS, DENSE.name]:
        raise UserError(f"{name.strip()} is the name of a built-in method; call yours otherwise.")
    switches = {switch: pairs[switch].lower() in ("yes", "true", "1") for switch in _SWITCHES if switch in pairs}
    return Candidate(name.strip(), **{**pairs, **switches, "distil": int(steps)})
