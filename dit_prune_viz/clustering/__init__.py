"""Clusters of a layer's rows, columns or single weights, and the planes in which they are found and drawn."""

from dit_prune_viz.clustering.algorithms import ALGORITHMS, Choice
from dit_prune_viz.clustering.clusters import Clusters, Tag, cluster
from dit_prune_viz.clustering.edit import BY_HAND, carry, carve, match, merge, split, with_tag
from dit_prune_viz.clustering.plane import plane
from dit_prune_viz.clustering.profiles import profiles
from dit_prune_viz.clustering.project import PROJECTIONS, project
from dit_prune_viz.clustering.sample import stratified_sample
from dit_prune_viz.clustering.stored import stored_projection
from dit_prune_viz.clustering.units import UNITS, count_units, sum_units

__all__ = [
    "ALGORITHMS",
    "BY_HAND",
    "PROJECTIONS",
    "UNITS",
    "Choice",
    "Clusters",
    "Tag",
    "carry",
    "carve",
    "cluster",
    "count_units",
    "match",
    "merge",
    "plane",
    "profiles",
    "project",
    "split",
    "stored_projection",
    "stratified_sample",
    "sum_units",
    "with_tag",
]
