"""Selections, clusters and neighbours of a layer's units as files for other programs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dit_prune_viz.app.session import layer_data
from dit_prune_viz.app.session.layer_selection import checked_units
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.checks import brief, whole
from dit_prune_viz.clustering.neighbours import Neighbours, nearest
from dit_prune_viz.clustering.profiles import profiles
from dit_prune_viz.clustering.units import check_unit, count_units
from dit_prune_viz.errors import UserError
from dit_prune_viz.export.numbers import (
    clusters_csv,
    clusters_json,
    neighbours_csv,
    neighbours_json,
    units_csv,
    units_json,
)

PLANE, PROFILE = "plane", "profile"
"""What units are compared by: their place in the weight–activation plane, or weight norm and activation norms over the
timesteps."""
K = 8
MOST_K, MOST_ASKED = 100, 1000
NOTHING = "Nothing is selected. Draw around some dots first."
SELECTION, CLUSTERS, NEIGHBOURS = "selection", "clusters", "neighbours"


def neighbours(
    session: Session, layer: str, unit: str, asked: Sequence[int], k: int = K, space: str = PLANE
) -> Neighbours:
    """The k nearest units of each asked one.

    Args:
        session: of a calibrated model.
        layer: its name.
        unit: "row", "column" or "weight".
        asked: indices of units, at most 1,000.
        k: 1–100.
        space: PLANE, or PROFILE for rows and columns.

    Raises:
        UserError: no calibration, an unknown layer, unit or space, units that the layer does not have, k out of range.
    """
    model = session.need_calibration()[0]
    shape = model.layer(layer).shape
    count, k = count_units(shape, check_unit(unit)), whole(k, "The number of neighbours k", 1, MOST_K)
    if space not in (PLANE, PROFILE):
        raise UserError(f"Neighbours are found by {PLANE} or {PROFILE}, not {brief(space)}.")
    if space == PROFILE and unit == "weight":
        raise UserError("A single weight has no profile of its own; find its neighbours in the plane.")
    if not 0 < len(asked) <= MOST_ASKED:
        raise UserError(f"Ask for the neighbours of 1 to {MOST_ASKED:,} units, not of {len(asked):,}; select fewer.")
    if count < 2:
        raise UserError(f"Layer {layer} has a single {unit}, which has no neighbours.")
    units = [whole(one, f"The {unit} of layer {layer}", 0, count - 1) for one in asked]
    if space == PLANE:
        features = layer_data.points(session, layer, unit)
    else:
        features = profiles(model.weight(layer), layer_data.norm_bins(session, layer), unit)
    return nearest(features, np.asarray(units), k)


def with_neighbours(session: Session, layer: str, selected: np.ndarray) -> np.ndarray:
    """Selected units together with the nearest of each, ascending. UserError where nothing is selected."""
    if not len(selected):
        raise UserError(NOTHING)
    found = neighbours(session, layer, session.need_clusters(layer).unit, selected.tolist())
    return np.union1d(selected, found.found.ravel())


def file_of(session: Session, layer: str, kind: str, form: str, selected: np.ndarray) -> tuple[str, str]:
    """A file's name and its text.

    Args:
        session: in which the layer has clusters.
        layer: its name.
        kind: SELECTION, CLUSTERS or NEIGHBOURS, the last those of the selected units.
        form: "json" or "csv".
        selected: indices of units.

    Raises:
        UserError: another kind or form, nothing selected, clusters of single weights as CSV.
    """
    if kind not in (SELECTION, CLUSTERS, NEIGHBOURS) or form not in ("json", "csv"):
        raise UserError(f"There is no file {brief(kind)} as {brief(form)}; choose from the list.")
    clusters, shape = session.need_clusters(layer), session.need_model().layer(layer).shape
    json = form == "json"
    name = f"{layer}-{kind}.{form}"
    if kind == CLUSTERS:
        if not json and clusters.unit == "weight":
            raise UserError("Clusters of single weights are millions of lines as CSV; save them as JSON.")
        return name, (clusters_json if json else clusters_csv)({layer: (shape, clusters)})
    if not len(selected):
        raise UserError(NOTHING)
    units = checked_units(session, layer, selected)
    if kind == SELECTION:
        return name, (units_json if json else units_csv)(layer, shape, clusters.unit, units)
    found = neighbours(session, layer, clusters.unit, units.tolist())
    return name, (neighbours_json if json else neighbours_csv)(layer, shape, clusters.unit, found)
