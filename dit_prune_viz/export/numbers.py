"""Layers and clusters as tables for other programs: CSV and JSON."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dit_prune_viz.clustering.clusters import Clusters
from dit_prune_viz.clustering.neighbours import Neighbours
from dit_prune_viz.clustering.units import check_unit, count_units
from dit_prune_viz.csv_text import csv_text
from dit_prune_viz.errors import UserError
from dit_prune_viz.export.folders import new_folder
from dit_prune_viz.masks.layer_plan import ClusterPlan
from dit_prune_viz.pruning.pruned_model import PrunedModel

LAYER_FIELDS = (
    "name",
    "block",
    "kind",
    "d_out",
    "d_in",
    "granularity",
    "g_out",
    "weights",
    "removed",
    "sparsity",
    "damage",
    "estimated",
)
"""Columns of the table of layers; damage is a share of the layer's output energy, estimated whether it was not counted
from the mask."""
_PLACE = ("row", "column")


def layer_rows(pruned: PrunedModel) -> list[dict[str, object]]:
    """A row per prunable layer in the model's order, with the `LAYER_FIELDS`; None for a number that is not finite."""
    rows = []
    for report in pruned.report.layers:
        layer = pruned.model.layer(report.name)
        values = (
            layer.name,
            layer.block,
            layer.kind,
            *layer.shape,
            report.granularity,
            report.g_out,
            report.weights,
            report.removed,
            report.sparsity,
            report.damage,
            report.estimated,
        )
        rows.append(dict(zip(LAYER_FIELDS, map(_finite, values), strict=True)))
    return rows


def layers_csv(pruned: PrunedModel) -> str:
    """The rows of `layer_rows`, with a line of names above them."""
    return csv_text(LAYER_FIELDS, (row.values() for row in layer_rows(pruned)))


def layers_json(pruned: PrunedModel) -> str:
    """Counts of the whole model, and the rows of `layer_rows` under "layers"."""
    report = pruned.report
    content = {
        "model": pruned.model.name,
        "fingerprint": pruned.model.fingerprint,
        "target": report.target,
        "sparsity": report.achieved,
        "removed": report.removed,
        "prunable": report.weights,
        "parameters": report.parameters,
        "remaining": report.remaining,
        "damage": _finite(report.damage),
        "layers": layer_rows(pruned),
    }
    return _json(content)


def membership(layer: str, shape: tuple[int, int], clusters: Clusters | ClusterPlan) -> dict[str, object]:
    """Which units of a layer belong to which cluster, in JSON's types.

    Args:
        layer: its name.
        shape: (d_out, d_in).
        clusters: of its rows, columns or weights.

    Returns:
        {layer, shape, unit, clusters: [{id, name, locked, sparsity, count, units}]}; units are indices of rows or
        columns, ascending. Of single weights, which may be millions, `units` is None, and `labels` holds the cluster of
        each one, row by row: little-endian int32, compressed by zlib, in base64. Names and locks are those of
        `Clusters`, sparsities those of `ClusterPlan`; None where they are not known.

    Raises:
        UserError: the clusters are of a layer of another shape.
    """
    labels = clusters.labels
    if len(labels) != count_units(shape, clusters.unit):
        raise UserError(f"The clusters of {layer} belong to a layer of another shape; cluster again.")
    single = clusters.unit == "weight"
    tags, sparsities = getattr(clusters, "tags", ()), getattr(clusters, "sparsity", ())
    counts = np.bincount(labels, minlength=clusters.k)
    rows = [
        {
            "id": one,
            "name": tags[one].name if tags else f"cluster {one}",
            "locked": tags[one].locked if tags else None,
            "sparsity": sparsities[one] if sparsities else None,
            "count": int(counts[one]),
            "units": None if single else np.flatnonzero(labels == one).tolist(),
        }
        for one in range(clusters.k)
    ]
    found = {"layer": layer, "shape": list(shape), "unit": clusters.unit, "clusters": rows}
    if single:
        found["labels"] = base64.b64encode(zlib.compress(labels.astype("<i4").tobytes())).decode()
    return found


def clusters_json(layers: Mapping[str, tuple[tuple[int, int], Clusters | ClusterPlan]]) -> str:
    """What `membership` says of each layer, from layer → (shape, clusters)."""
    return _json([membership(name, shape, clusters) for name, (shape, clusters) in layers.items()])


def clusters_csv(layers: Mapping[str, tuple[tuple[int, int], Clusters | ClusterPlan]]) -> str:
    """A line per clustered row or column, from layer → (shape, clusters); single weights are in the JSON alone."""
    lines = []
    for name, (shape, clusters) in layers.items():
        for row in membership(name, shape, clusters)["clusters"]:
            lines += [(name, clusters.unit, unit, row["id"], row["name"]) for unit in row["units"] or ()]
    return csv_text(("layer", "unit", "index", "cluster", "name"), sorted(lines, key=lambda line: (line[0], line[2])))


def units_json(layer: str, shape: tuple[int, int], unit: str, units: Sequence[int]) -> str:
    """A selection of a layer's units: {layer, shape, unit, units}; single weights as [row, column]."""
    chosen = [list(place) for place in _places(shape, unit, units)]
    plain = chosen if unit == "weight" else [place[0] for place in chosen]
    return _json({"layer": layer, "shape": list(shape), "unit": unit, "units": plain})


def units_csv(layer: str, shape: tuple[int, int], unit: str, units: Sequence[int]) -> str:
    """A line per selected unit: the layer and its row, its column, or both."""
    names = _PLACE if unit == "weight" else (unit,)
    return csv_text(("layer", *names), ((layer, *place) for place in _places(shape, unit, units)))


def neighbours_json(layer: str, shape: tuple[int, int], unit: str, found: Neighbours) -> str:
    """{layer, shape, unit, neighbours: [{of, nearest: [{at, distance}]}]}, nearest first; single weights as
    [row, column]."""
    rows = [
        {"of": of, "nearest": [{"at": at, "distance": distance} for at, distance in nearest]}
        for of, nearest in _neighbours(shape, unit, found)
    ]
    return _json({"layer": layer, "shape": list(shape), "unit": unit, "neighbours": rows})


def neighbours_csv(layer: str, shape: tuple[int, int], unit: str, found: Neighbours) -> str:
    """A line per unit and neighbour: the layer, both places, and their distance in the standardised plane."""
    names = _PLACE if unit == "weight" else (unit,)
    lines = []
    for of, nearest in _neighbours(shape, unit, found):
        place = of if unit == "weight" else (of,)
        lines += [(layer, *place, *(at if unit == "weight" else (at,)), distance) for at, distance in nearest]
    return csv_text(("layer", *names, *(f"neighbour_{name}" for name in names), "distance"), lines)


def write_numbers(
    pruned: PrunedModel,
    folder: str | Path,
    *,
    clusters: Mapping[str, Clusters | ClusterPlan] | None = None,
    selection: tuple[str, str, Sequence[int]] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write layers.csv, layers.json and, where layers have clusters, clusters.csv and clusters.json.

    Args:
        pruned: its masks are made.
        folder: to be made; complete or not there at all.
        clusters: layer → clusters with their names; None takes those of the plan, which have none.
        selection: (layer, unit, indices) of units that are selected, for selection.csv and selection.json.
        overwrite: whether it may replace one that is there.

    Returns:
        The folder.

    Raises:
        UserError: it exists or cannot be written to, or the selection is of units that the layer does not have.
    """
    texts = number_texts(pruned, clusters)
    if selection is not None:
        layer, unit, units = selection
        chosen = layer, pruned.model.layer(layer).shape, unit, units
        texts |= {"selection.csv": units_csv(*chosen), "selection.json": units_json(*chosen)}
    with new_folder(folder, needs=sum(len(text.encode()) for text in texts.values()), overwrite=overwrite) as new:
        for name, text in texts.items():
            (new / name).write_text(text, encoding="utf-8")
    return Path(folder)


def number_texts(pruned: PrunedModel, clusters: Mapping[str, Clusters | ClusterPlan] | None = None) -> dict[str, str]:
    """File name → what `write_numbers` writes into it."""
    if clusters is None:
        plans = pruned.plan.layers
        clusters = {name: plan.clusters for name, plan in plans.items() if plan.clusters is not None}
    known = {name: (pruned.model.layer(name).shape, one) for name, one in clusters.items()}
    texts = {"layers.csv": layers_csv(pruned), "layers.json": layers_json(pruned)}
    return texts | ({"clusters.csv": clusters_csv(known), "clusters.json": clusters_json(known)} if known else {})


def _neighbours(shape: tuple[int, int], unit: str, found: Neighbours) -> Iterator[tuple[object, list]]:
    """Every asked unit with its neighbours and their distances; rows and columns as numbers, weights as pairs."""

    def named(units: np.ndarray) -> list:
        places = _places(shape, unit, units)
        return [list(place) if unit == "weight" else place[0] for place in places]

    for of, near, distances in zip(named(found.asked), found.found, found.distances, strict=True):
        yield of, list(zip(named(near), map(float, distances), strict=True))


def _places(shape: tuple[int, int], unit: str, units: Sequence[int]) -> list[tuple[int, ...]]:
    found = np.asarray(units, dtype=np.int64)
    if found.size and not (found.min() >= 0 and found.max() < count_units(shape, check_unit(unit))):
        raise UserError("The selection belongs to another layer; select again.")
    if unit == "weight":
        return [(int(one) // shape[1], int(one) % shape[1]) for one in found]
    return [(int(one),) for one in found]


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
