"""What the endpoints and tools answer, as plain values that JSON can hold."""

from __future__ import annotations

import json
from dataclasses import asdict

from dit_prune_viz.app.session import layer_groups, unit_files
from dit_prune_viz.app.session.comparison_result import Comparison
from dit_prune_viz.app.session.group_rows import group_rows
from dit_prune_viz.app.session.layer_data import summary
from dit_prune_viz.app.session.selection import search
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.clustering.units import count_units
from dit_prune_viz.export.numbers import membership, units_csv, units_json
from dit_prune_viz.formatting import known


def describe_model(session: Session) -> dict:
    model = session.model
    return {
        "model": model.name,
        "family": model.family,
        "parameters": model.parameters,
        "prunable_parameters": model.prunable_parameters,
        "dense": [asdict(part) for part in model.dense_parts],
        "also_prune": list(model.also_prune),
        "offers": [asdict(offer) for offer in model.offers],
        "layers": [
            {"name": layer.name, "block": layer.block, "kind": layer.kind, "shape": list(layer.shape)}
            for layer in model.layers
        ],
    }


def describe_calibration(session: Session) -> dict:
    calibration = session.calibration
    return {
        "samples": calibration.samples,
        "seconds": calibration.seconds,
        "timesteps": [float(timestep) for timestep in calibration.timesteps],
    }


def describe_plan(session: Session) -> dict:
    report = session.report
    return {
        "target": report.target,
        "achieved": report.achieved,
        "remaining_parameters": report.remaining,
        "layers": [
            {
                "name": layer.name,
                "granularity": layer.granularity,
                "g_out": layer.g_out,
                "sparsity": layer.sparsity,
                "damage": layer.damage,
                "estimated": layer.estimated,
            }
            for layer in report.layers
        ],
    }


def describe_clusters(session: Session, layer: str) -> dict:
    return {
        "layer": layer,
        "unit": session.clusters[layer].unit,
        "clusters": [
            {
                "id": row.id,
                "units": row.units,
                "weights": row.weights,
                "sparsity": row.sparsity,
                "damage": row.damage,
            }
            for row in session.cluster_rows(layer)
        ],
    }


def describe_groups(session: Session) -> dict:
    """The groups of the model's layers, and what each holds and costs under the present masks."""
    groups = layer_groups.groups_of(session)
    return {
        "by": groups.algorithm.removeprefix("by "),
        "groups": [
            {
                "id": row.id,
                "name": tag.name,
                "layers": layer_groups.members(session, row.id),
                "weights": row.weights,
                "energy": row.energy,
                "sparsity": row.sparsity,
                "damage": row.damage,
                "packed_bytes": row.packed,
            }
            for row, tag in zip(group_rows(session), groups.tags, strict=True)
        ],
    }


def describe_membership(session: Session, layer: str) -> dict:
    """Which rows, columns or weights of a layer belong to which cluster, see `export.numbers.membership`."""
    found = membership(layer, session.need_model().layer(layer).shape, session.need_clusters(layer))
    for row, own in zip(found["clusters"], session.cluster_rows(layer), strict=True):
        row["sparsity"] = own.sparsity
    return found


def describe_neighbours(session: Session, layer: str, unit: str, index: float, k: float, space: str) -> dict:
    """The units nearest to one; distances are Euclidean in standardised features."""
    found = unit_files.neighbours(session, layer, unit, [index], k, space)
    width = session.model.layer(layer).shape[1]
    near = [
        {"index": at, **({"row": at // width, "column": at % width} if unit == "weight" else {}), "distance": distance}
        for at, distance in zip(found.found[0].tolist(), found.distances[0].tolist(), strict=True)
    ]
    return {"layer": layer, "unit": unit, "index": int(found.asked[0]), "space": space, "neighbours": near}


def describe_selection(session: Session, layer: str, unit: str, units: str) -> dict:
    """The units in a text such as "12, 40-60", what they hold and cost under the present mask, and the same as CSV."""
    shape = session.need_plan()[0].layer(layer).shape
    chosen = search(units, count_units(shape, unit))
    known = summary(session, layer, unit, chosen)
    figures = {name: getattr(known, name) for name in ("weights", "sparsity", "damage", "energy")}
    named = layer, shape, unit, chosen
    return {**json.loads(units_json(*named)), **figures, "csv": units_csv(*named)}


def describe_scores(result: Comparison) -> dict:
    """psnr is null where the pictures are identical, and so are CLIP scores of a class without a name; seconds is the
    time of the whole call. not_drawn and not_scored are there where the model or the CLIP does not read the prompt to
    its end, and hold that end. destroyed is there where a picture is: black, constant or not finite; its CLIP score is
    null."""
    ruined = {"dense": result.left.destroyed[0], "pruned": result.right.destroyed[0]}
    return {
        "clip": {
            "model": result.clip_name,
            "dense": known(result.left.clip),
            "pruned": known(result.right.clip),
            "delta": known(result.delta),
        },
        "ssim": result.ssim,
        "psnr": result.psnr,
        "seconds": result.seconds,
        **(result.unread[0].named if result.unread else {}),
        **({"destroyed": ruined} if any(ruined.values()) else {}),
    }
