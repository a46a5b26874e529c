"""The state behind one user, as immutable snapshots, and the verbs that lead from one to the next.

Every verb validates first, does its work on new objects and returns a new `Session`; if it raises, the old snapshot is
still whole and still in use. Nothing here knows about gradio.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.plan_name import PlanName, checked_name
from dit_prune_viz.app.session.work_time import PLAN, measuring
from dit_prune_viz.calibration.layer_statistics import LayerStatistics, layer_statistics, weight_statistics
from dit_prune_viz.calibration.result import Calibration
from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.checks import whole
from dit_prune_viz.clustering.clusters import MAX_K, Clusters
from dit_prune_viz.clustering.clusters import cluster as find_clusters
from dit_prune_viz.clustering.edit import BY_HAND, match
from dit_prune_viz.clustering.plane import plane
from dit_prune_viz.errors import Progress, UserError
from dit_prune_viz.masks.damage import ClusterDamage, Labelled, cluster_damage
from dit_prune_viz.masks.packed_mask import PackedMask
from dit_prune_viz.pipelines.also_prune import read_patterns
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.carry_over import carry
from dit_prune_viz.pruning.make_plan import check_layers
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.prune import rank
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.report import PlanReport
from dit_prune_viz.pruning.scores import Scores

MAX_SAMPLES = 4096


@dataclass(frozen=True, eq=False)
class Sensed:
    """What pruning every layer alone does to the transformer's output.

    Attributes:
        recipe: whose ranking says which weights go.
        errors: layer → relative squared error of the output with it alone pruned.
    """

    recipe: Recipe
    errors: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Session:
    """One moment of one user's work. Fields are empty until the verb that fills them has run.

    Attributes:
        store: the models that all users share.
        model: the dense model.
        statistics: of its inputs, once it is calibrated.
        layer_statistics: layer → the numbers that the map shows; before calibration those of the weights alone.
        recipe: what `prune` was last asked for; `calibrate` prunes again with it.
        pruned: the model as the recipe's scores rank it; searches and updates wait until a picture needs them.
        clusters: layer → the clusters of its units.
        asked: layer → (unit, algorithm, k) with which its clusters were asked for.
        sensed: every sensitivity that was measured, one per ranking, the last one measured last. They stay with the
            model, whatever the recipe.
        groups: of the model's layers; None until somebody groups them otherwise than the map does by itself.
        name: what a person called the plan, or the one it came from.
    """

    store: ModelStore
    model: Model | None = None
    statistics: Statistics | None = None
    layer_statistics: Mapping[str, LayerStatistics] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)
    pruned: PrunedModel | None = None
    clusters: Mapping[str, Clusters] = field(default_factory=dict)
    asked: Mapping[str, tuple[str, str, int | None]] = field(default_factory=dict)
    sensed: tuple[Sensed, ...] = ()
    groups: Clusters | None = None
    name: PlanName | None = None

    @property
    def calibration(self) -> Calibration | None:
        """What the statistics follow from."""
        return self.statistics.calibration if self.statistics else None

    @property
    def plan(self) -> PruningPlan | None:
        """What every layer loses, and in which groups."""
        return self.pruned.plan if self.pruned else None

    @property
    def report(self) -> PlanReport | None:
        """Counts and predicted damage of the ranked masks, estimated where they are not made yet."""
        return self.pruned.report if self.pruned else None

    @property
    def sensitivity(self) -> Sensed | None:
        """The one measured with the present ranking, else the last that was measured."""
        known = {one.recipe.ranking: one for one in self.sensed}
        return known.get(self.recipe.ranking, self.sensed[-1] if self.sensed else None)

    @property
    def output_errors(self) -> Mapping[str, float]:
        """Layer → its `sensitivity`; empty where none was measured."""
        return self.sensitivity.errors if self.sensitivity else {}

    @property
    def masks(self) -> Mapping[str, PackedMask]:
        """Layer → ranked mask, which a large model makes when it is asked for; empty before pruning."""
        return self.pruned.packed_masks if self.pruned else {}

    def load_model(
        self,
        source: str | LoadSettings,
        progress: Progress | None = None,
        *,
        also_prune: str | Iterable[str] = (),
        options: Mapping[str, object] | None = None,
    ) -> Session:
        """Load a folder, file or hub id. The new session starts without calibration, plan and clusters.

        Args:
            source: folder, file or hub id, or all settings of loading, which say what follows themselves.
            progress: called meanwhile; may raise `Cancelled`.
            also_prune: as in `pipelines.model.load_model`.
            options: of loading, see `load_settings.changed`.

        Raises:
            UserError: as in `pipelines.model.load_model`.
        """
        if isinstance(source, str):
            source = source.strip()
        if not isinstance(source, str | LoadSettings) or not source:
            raise UserError("Give a model: a Hugging Face id such as black-forest-labs/FLUX.1-dev, or a folder.")
        if isinstance(source, str):
            source = replace(self.store.settings(source, options), also_prune=read_patterns(also_prune))
        model = self.store.model(source, progress)
        return Session(self.store, model=model, recipe=carry(self.recipe, model.layers).recipe)

    def look(self, progress: Progress | None = None) -> Session:
        """The session with what the weights alone tell of every layer, to be shown before the inputs are measured.

        Raises:
            UserError: no model.
        """
        return replace(self, layer_statistics=weight_statistics(self.need_model(), progress))

    def also_prune(self, patterns: str | Iterable[str], progress: Progress | None = None) -> Session:
        """The same model with other layers that are prunable by request, calibrated and pruned as before.

        Raises:
            UserError: no model, or a pattern that matches no dense layer.
        """
        model, patterns = self.need_model(), read_patterns(patterns)
        if patterns == model.also_prune:
            return self
        source = model.source if model.settings is None else replace(model.settings, also_prune=patterns)
        session = replace(self.load_model(source, progress, also_prune=patterns), sensed=self.sensed)
        if self.pruned is None:
            return session
        return session.calibrate_as(session.recipe.calibration, progress).prune(session.recipe, progress)

    def calibrate(self, samples: int = 128, seed: int = 0, progress: Progress | None = None) -> Session:
        """Watch `samples` transformer inputs, then prune again with the present recipe.

        Raises:
            UserError: no model, or numbers out of range.
        """
        samples = whole(samples, "The number of calibration samples", 1, MAX_SAMPLES)
        settings = replace(self.recipe.calibration, samples=samples, seed=seed)
        return self.calibrate_as(settings, progress).prune(replace(self.recipe, calibration=settings), progress)

    def calibrate_as(self, settings: CalibrationSettings, progress: Progress | None = None) -> Session:
        """The session with statistics of these settings, without a plan."""
        model = self.need_model()
        recipe = replace(self.recipe, calibration=settings)
        disk = self.store.disk
        statistics = Statistics(model, self.store.work.calibrate(model, recipe, progress, disk), disk=disk)
        known = layer_statistics(model, statistics.calibration)
        return Session(
            self.store,
            model=model,
            statistics=statistics,
            layer_statistics=known,
            recipe=recipe,
            sensed=self.sensed,
            groups=self.groups,
        )

    def prune(self, recipe: Recipe, progress: Progress | None = None) -> Session:
        """Plan and mask the whole model. Sparsities set per cluster start anew; the clusters themselves stay.

        A recipe that sets layers by hand brings their sparsities, and its clusters with names and locks. A threshold
        moved by hand stays while the scores do, because another saliency's G_out are other numbers.

        Raises:
            UserError: no calibration, and whatever planning and masking refuse.
        """
        session = self
        check_layers(recipe, session.need_calibration()[0].layers)
        if recipe.calibration != session.recipe.calibration:
            session = session.calibrate_as(recipe.calibration, progress)
        before = session.recipe
        cag = recipe.resolved_granularity == "cag"
        if cag and recipe.threshold is None and not recipe.tuned and recipe.scoring == before.scoring:
            recipe = replace(recipe, threshold=before.threshold)
        with measuring(session.store.times, session.statistics, recipe, PLAN):
            pruned = rank(recipe, session.statistics.reporting(progress), later=True)
        clusters = clusters_of(pruned.plan)
        return replace(
            session,
            recipe=pruned.recipe,
            pruned=pruned,
            name=None,
            clusters={**session.clusters, **clusters},
            asked={**session.asked, **{name: (one.unit, BY_HAND, one.k) for name, one in clusters.items()}},
        )

    def named(self, text: str) -> Session:
        """The same plan with a name. UserError without a plan, and for no name or a long one."""
        plan = self.need_plan()[2]
        return replace(self, name=PlanName(checked_name(text), plan))

    def cluster(self, layer: str, unit: str = "row", algorithm: str = "kmeans", k: int | None = 4) -> Session:
        """Group a layer's units in the weight–activation plane; `k` None lets the algorithm choose. No mask changes.

        Raises:
            UserError: no plan, an unknown layer, unit or algorithm, k out of range.
        """
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

    def cluster_rows(self, layer: str, clusters: Labelled | None = None) -> tuple[ClusterDamage, ...]:
        """What each cluster of `layer`, the ones shown unless others are given, holds and costs under its mask."""
        model = self.need_plan()[0]
        clusters, mask = clusters or self.need_clusters(layer), self.masks[layer].unpack()
        return cluster_damage(model.weight(layer), self.mean_square(layer), mask, clusters)

    def scores(self, layer: str) -> Tensor:
        """The saliencies (d_out, d_in) that ranked the layer's weights, not to be changed."""
        self.need_plan()
        return Scores(self.recipe, self.statistics).kept(layer)

    def mean_square(self, layer: str) -> Tensor:
        """E[x_j²] (d_in,) as predicted damage counts it: the variance where the recipe is centred."""
        self.need_calibration()
        return self.statistics.mean_square(layer, centred=self.recipe.centred)

    def need_model(self) -> Model:
        """The model. UserError where none is loaded."""
        if self.model is None:
            raise UserError("No model is loaded; load one first.")
        if self.model.away:
            raise UserError(f"{self.model.name} left the memory for another model; load it again, the recipe stays.")
        return self.model

    def need_calibration(self) -> tuple[Model, Calibration]:
        """Model and calibration. UserError where one is missing."""
        model = self.need_model()
        if self.statistics is None:
            raise UserError(f"{model.name} is not calibrated; calibrate it first.")
        return model, self.statistics.calibration

    def need_plan(self) -> tuple[Model, Calibration, PruningPlan]:
        """Model, calibration and plan. UserError where one is missing."""
        model, calibration = self.need_calibration()
        if self.pruned is None:
            raise UserError(f"{model.name} is not pruned; prune it first.")
        return model, calibration, self.pruned.plan

    def need_clusters(self, layer: str) -> Clusters:
        """The clusters of a layer. UserError for an unknown layer, or one without clusters."""
        name = self.need_model().layer(layer).name
        if name not in self.clusters:
            raise UserError(f"Layer {name} has no clusters; cluster it first.")
        return self.clusters[name]

    def largest_heterogeneity(self) -> str | None:
        """The layer with the greatest G_out, a telling one to look at first."""
        if self.report is None or not self.report.layers:
            return None
        return max(self.report.layers, key=lambda layer: layer.g_out).name


def clusters_of(plan: PruningPlan) -> dict[str, Clusters]:
    """Layer → the clusters that a plan prunes it by, with their names, as far as a page has room for them."""
    ruling = {name: plan.layers[name].clusters for name in plan.layers if name in plan.by_hand}
    return {
        name: Clusters(one.unit, BY_HAND, one.labels, one.k, tags=one.tags)
        for name, one in ruling.items()
        if one is not None and one.k <= MAX_K
    }
