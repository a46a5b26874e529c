"""The state behind one user, as immutable snapshots, and the verbs that lead from one to the next.

Every verb validates first, does its work on new objects and returns a new `Session`; if it raises, the old snapshot is
still whole and still in use. Nothing here knows about gradio.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from dit_prune_viz.app.session import cluster_edits, pruning, ranking
from dit_prune_viz.app.session.layer_statistics import LayerStatistics, layer_statistics
from dit_prune_viz.app.session.settings import DEFAULTS, Settings, fitting, settings_for
from dit_prune_viz.app.session.shared import Workspace
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.checks import whole
from dit_prune_viz.clustering.clusters import MAX_K, Clusters
from dit_prune_viz.clustering.clusters import cluster as find_clusters
from dit_prune_viz.clustering.edit import match
from dit_prune_viz.clustering.plane import plane
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.damage import ClusterDamage, cluster_damage
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.report import PlanReport

MAX_SAMPLES = 4096


@dataclass(frozen=True, eq=False)
class Session:
    """One moment of one user's work. Fields are empty until the verb that fills them has run."""

    workspace: Workspace
    model: Model | None = None
    calibration: Calibration | None = None
    statistics: Mapping[str, LayerStatistics] = field(default_factory=dict)
    settings: Settings = DEFAULTS
    plan: PruningPlan | None = None
    masks: Mapping[str, PackedMask] = field(default_factory=dict)
    report: PlanReport | None = None
    clusters: Mapping[str, Clusters] = field(default_factory=dict)
    asked: Mapping[str, tuple[str, str, int | None]] = field(default_factory=dict)
    """(unit, algorithm, k) with which each layer's clusters were asked for."""
    sensitivity: Mapping[str, float] = field(default_factory=dict)
    """Layer → relative error of the transformer's output with it alone pruned; empty until `pruning.sense` has run."""
    threshold: float | None = None
    """CAG's threshold where it was moved by hand, see `ui.thresholds`."""

    def load_model(self, source: str, progress: Progress | None = None) -> Session:
        """Load a diffusers folder or hub id. The new session starts without calibration, plan and clusters."""
        source = source.strip() if isinstance(source, str) else ""
        if not source:
            raise UserError("Give a model: a Hugging Face id such as black-forest-labs/FLUX.1-dev, or a folder.")
        model = self.workspace.model(source, progress)
        return Session(self.workspace, model=model, settings=fitting(self.settings, model.layers))

    def calibrate(self, samples: int = 128, seed: int = 0, progress: Progress | None = None) -> Session:
        """Watch `samples` transformer inputs, then prune again with the present settings."""
        model = self.need_model()
        samples = whole(samples, "The number of calibration samples", 1, MAX_SAMPLES)
        seed = whole(seed, "The seed", 0, 2**32 - 1)
        calibration = self.workspace.calibration(model, samples, seed, progress)
        statistics = layer_statistics(model, calibration)
        settled = replace(self, calibration=calibration, statistics=statistics, clusters={}, asked={}, sensitivity={})
        return pruning.prune(settled, self.settings, progress)

    def prune(
        self,
        method: str,
        granularity: str,
        sparsity: float,
        *,
        progress: Progress | None = None,
        **options: str | bool,
    ) -> Session:
        """Plan and mask the whole model. Sparsities set per cluster start anew; the clusters themselves stay.

        A threshold moved by hand stays while the scores do, because another method's G_out are other numbers.
        `method` is a saliency's name ("ria", "stw:1.5,1") or that of a candidate ("exchange"), which stands for all of
        its settings; `options` are the fields of `Settings` beside these three.
        """
        return pruning.prune(self, settings_for(method, granularity, sparsity, **options), progress)

    def cluster(self, layer: str, unit: str = "row", algorithm: str = "kmeans", k: int | None = 4) -> Session:
        """Group a layer's units in the weight–activation plane; `k` None lets the algorithm choose. No mask changes."""
        model, calibration, _ = self.need_plan()
        weight = model.weight(layer)
        k = None if k is None else whole(k, "The number of clusters k", 1, MAX_K)
        found = find_clusters(plane(weight, calibration.norm(layer), unit), unit=unit, algorithm=algorithm, k=k)
        clusters = match(found, self.clusters.get(layer))
        return replace(
            self,
            clusters={**self.clusters, layer: clusters},
            asked={**self.asked, layer: (unit, algorithm, k)},
        )

    def set_cluster_sparsity(self, layer: str, cluster: int, sparsity: float) -> Session:
        """Give one cluster a sparsity of its own and rebuild the mask of its layer, of no other.

        Clusters that were given no sparsity keep the mask they have, bit for bit, even if the sparsities of another
        clustering of the layer made it.
        """
        return cluster_edits.set_sparsity(self, layer, cluster, sparsity)

    def cluster_rows(self, layer: str) -> tuple[ClusterDamage, ...]:
        """What each cluster of `layer` holds and costs under the present mask."""
        model = self.need_plan()[0]
        clusters, mask = self.need_clusters(layer), self.masks[layer].unpack()
        return cluster_damage(model.weight(layer), ranking.mean_square(self, layer), mask, clusters)

    def scores(self, layer: str) -> Tensor:
        """The saliencies (d_out, d_in) that ranked the layer's weights."""
        model, _, plan = self.need_plan()
        return plan.saliency.score(model.weight(layer), ranking.statistic(self, layer))

    def need_model(self) -> Model:
        if self.model is None:
            raise UserError("No model is loaded; load one first.")
        return self.model

    def need_calibration(self) -> tuple[Model, Calibration]:
        model = self.need_model()
        if self.calibration is None:
            raise UserError(f"{model.name} is not calibrated; calibrate it first.")
        return model, self.calibration

    def need_plan(self) -> tuple[Model, Calibration, PruningPlan]:
        model, calibration = self.need_calibration()
        if self.plan is None:
            raise UserError(f"{model.name} is not pruned; prune it first.")
        return model, calibration, self.plan

    def need_clusters(self, layer: str) -> Clusters:
        name = self.need_model().layer(layer).name
        if name not in self.clusters:
            raise UserError(f"Layer {name} has no clusters; cluster it first.")
        return self.clusters[name]

    def largest_heterogeneity(self) -> str | None:
        """The layer with the greatest G_out, a telling one to look at first."""
        if self.report is None or not self.report.layers:
            return None
        return max(self.report.layers, key=lambda layer: layer.g_out).name
