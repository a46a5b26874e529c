"""A method whose results change must raise its `version`, or measurements of before would be taken for new ones.

tests/data/golden_methods.json holds the version of every built-in method and what it makes of a small fixed problem.

    python -m tests.golden_methods --renew

writes the file anew. It refuses to where a result has changed and the version has not.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from dit_prune_viz.calibration.distillation_set import DistillationSet
from dit_prune_viz.calibration.recorded_inputs import Call, RecordedInputs
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.masks.packed_mask import PackedMask, pack
from dit_prune_viz.masks.pruned_layer import PrunedLayer
from dit_prune_viz.methods.allocation.cost import layer_cost
from dit_prune_viz.methods.base import Method
from dit_prune_viz.methods.problem import ModelProblem
from dit_prune_viz.methods.registry import KINDS, registered
from dit_prune_viz.methods.saliency.base import layer_scores
from dit_prune_viz.methods.search.distil import Distil
from dit_prune_viz.methods.update.tune import Tune
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning import recipe as _all_built_in_methods  # noqa: F401
from dit_prune_viz.pruning.solve_layers import Solved, solve_layers, update_weights

FILE = Path(__file__).resolve().parent / "data/golden_methods.json"
RENEW = "python -m tests.golden_methods --renew"
STEPS = 40
G_OUT = {"a": 0.011, "b": 0.017, "c": 0.72, "d": 0.023, "e": 1.31}


class Small(nn.Module):
    """Two Linear layers; weights and inputs come from Python's generator, which is the same everywhere."""

    def __init__(self, numbers: Callable[..., Tensor]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.ModuleDict({"first": nn.Linear(12, 10), "second": nn.Linear(10, 8)})])
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            parameter.copy_(numbers(*parameter.shape))

    def forward(self, hidden_states: Tensor) -> tuple[Tensor]:
        block = self.blocks[0]
        return (block["second"](torch.tanh(block["first"](hidden_states))),)


class Problem:
    """What all methods are tried on. `shaken` moves every number by up to a millionth of itself."""

    def __init__(self, shaken: int = 0) -> None:
        values, shake = random.Random(1), random.Random(shaken)

        def numbers(*shape: int) -> Tensor:
            found = [round(values.uniform(-1, 1), 4) for _ in range(int(np.prod(shape)))]
            return torch.tensor([v * (1 + bool(shaken) * shake.uniform(-1e-6, 1e-6)) for v in found]).view(shape)

        transformer = Small(numbers)
        mix = numbers(12, 12)
        inputs = [(numbers(4, 5, 12) @ mix + 0.3) for _ in range(4)]
        names = ("blocks.0.first", "blocks.0.second")
        layers = tuple(
            Layer(name, "blocks", 0, "other", tuple(transformer.get_submodule(name).weight.shape)) for name in names
        )
        count = sum(parameter.numel() for parameter in transformer.parameters())
        plain = SimpleNamespace(transformer=transformer)
        device = torch.device("cpu")
        self.model = Model("", "small", "small", plain, layers, count, None, device, torch.float32, "small")
        calls = tuple(
            Call({"hidden_states": one}, 4, (0, 1, 2, 3), (0,) * 4, output=transformer(one)[0]) for one in inputs
        )
        seen = {names[0]: torch.cat(inputs), names[1]: torch.tanh(transformer.blocks[0]["first"](torch.cat(inputs)))}
        seen = {name: one.double().flatten(0, 1) for name, one in seen.items()}
        calibration = Calibration(
            16,
            0,
            0.0,
            (0.5,),
            (0.0, 1.0),
            {name: one.square().sum(0)[None] for name, one in seen.items()},
            {name: torch.tensor([len(one)]) for name, one in seen.items()},
            {name: one.sum(0)[None] for name, one in seen.items()},
        )
        self.statistics = Statistics(self.model, calibration)
        self.model.cache.put(self.statistics._key("inputs"), RecordedInputs(calls, (0.0, 1.0), 0))
        self.examples = DistillationSet(calls, (0.0, 1.0), ((),) * 4, 1.0)
        self.plans = {layer.name: LayerPlan(layer.name, "row", 1.0, 0.5) for layer in layers}
        chooser = random.Random(2)
        self.masks: dict[str, PackedMask] = {}
        for layer in layers:
            rows, columns = layer.shape
            keep = [chooser.sample([True] * (columns // 2) + [False] * (columns // 2), columns) for _ in range(rows)]
            self.masks[layer.name] = pack(torch.tensor(keep))

    def result(self, kind: type[Method]) -> dict[str, object]:
        """What the method makes of it, in JSON's types."""
        return getattr(self, f"_{kind.kind}")(kind)

    def _saliency(self, kind) -> dict[str, object]:
        layer = self.model.layers[0].name
        known = {name: self.statistics.get(name, layer) for name in kind.needs}
        scores = _numbers(layer_scores(kind(), layer, self.model.weight(layer), known))
        return {"scores": scores} if kind.prunes else {"scores": scores, "prunes": False}

    def _granularity(self, kind) -> dict[str, object]:
        return kind().choose(G_OUT)

    def _allocation(self, kind) -> dict[str, object]:
        method, costs = kind(), []
        for number, layer in enumerate(self.model.layers):
            weight, square = self.model.weight(layer.name), self.statistics.mean_square(layer.name)
            scores = (weight.abs() * self.statistics.norm(layer.name)) ** 6  # so that some stand out
            options = {"sensitivity": (1.0, 1.7)[number], "outlier_level": method.outlier_level}
            costs.append(layer_cost(layer.name, scores, weight, square, "row", **options))
        return method.counts(costs, 97)

    def _search(self, kind) -> dict[str, object]:
        method = Distil(STEPS) if kind is Distil else kind()
        if method.layerwise:
            solved = self._solved(searches=[method])
            return {name: rows_of(layer.mask) for name, layer in solved.layers.items()}
        found = method.improve(self._whole(), self.masks)
        return {name: rows_of(mask) for name, mask in found.items()}

    def _update(self, kind) -> dict[str, object]:
        method = Tune(STEPS) if kind is Tune else kind()
        if not method.needs_inputs:
            return {name: self._values(one) for name, one in update_weights(self.model, self.masks, method).items()}
        if method.layerwise:
            return {name: self._values(layer) for name, layer in self._solved(update=method).layers.items()}
        return {name: self._values(layer) for name, layer in method.update(self._whole(), self.masks).items()}

    def _solved(self, **options) -> Solved:
        return solve_layers(self.statistics, self.plans, self.masks, **options)

    def _whole(self) -> ModelProblem:
        return ModelProblem(self.statistics, self.plans, moves_biases=True, steps=STEPS, examples=self.examples)

    def _values(self, layer: PrunedLayer) -> dict[str, object]:
        return {"values": _numbers(layer.values), "bias": _numbers(layer.bias)}


def _numbers(values: Tensor | None) -> list | None:
    return None if values is None else np.vectorize(lambda v: float(f"{v:.6g}"))(values.double().numpy()).tolist()


def rows_of(mask: PackedMask) -> list[str]:
    return ["".join(map(str, row)) for row in mask.unpack().int().tolist()]


def built_in() -> Iterator[tuple[str, type[Method]]]:
    """("saliency wanda", its class) for every method that comes with the package."""
    for kind in KINDS:
        for name, method in registered(kind).items():
            if method.__module__.startswith("dit_prune_viz.methods."):
                yield f"{kind} {name}", method


def same(found: object, golden: object) -> bool:
    """Numbers within what processors differ by, everything else exactly."""
    if isinstance(found, dict) and isinstance(golden, dict):
        return found.keys() == golden.keys() and all(same(value, golden[name]) for name, value in found.items())
    if isinstance(found, list) and isinstance(golden, list) and found and not isinstance(found[0], str):
        a, b = np.array(found), np.array(golden)
        return a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-5)
    return found == golden


def renew() -> None:
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    record = {}
    for name, method in sorted(built_in()):
        result = Problem().result(method)
        before = known.get(name)
        if before and before["version"] == method.version:
            if not same(result, before["result"]):
                sys.exit(f"{name} gives other results: raise `version` in {method.__module__} first.")
            result = before["result"]
        record[name] = {"version": method.version, "result": result}
    FILE.parent.mkdir(exist_ok=True)
    entries = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in record.items())
    FILE.write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="utf-8")
    print(f"{FILE}: {len(record)} methods")


if __name__ == "__main__":
    if sys.argv[1:] != ["--renew"]:
        sys.exit(f"usage: {RENEW}")
    renew()
