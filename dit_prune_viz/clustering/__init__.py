"""Clusters of a layer's rows, columns or single weights, and the planes in which they are found and drawn."""

from dit_prune_viz.clustering.algorithms import ALGORITHMS
from dit_prune_viz.clustering.clusters import Clusters, cluster
from dit_prune_viz.clustering.plane import plane
from dit_prune_viz.clustering.profiles import profiles
from dit_prune_viz.clustering.project import PROJECTIONS, project
from dit_prune_viz.clustering.sample import stratified_sample
from dit_prune_viz.clustering.units import UNITS, count_units, sum_units

__all__ = [
    "ALGORITHMS",
    "PROJECTIONS",
    "UNITS",
    "Clusters",
    "cluster",
    "count_units",
    "plane",
    "profiles",
    "project",
    "stratified_sample",
    "sum_units",
]
