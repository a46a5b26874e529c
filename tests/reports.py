"""Contents of reports: of real models with clusters by hand, and a made-up one that is larger than any model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from PIL import Image

from dit_prune_viz.calibration.layer_statistics import LayerStatistics
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.clustering.clusters import Clusters, Tag, cluster
from dit_prune_viz.clustering.plane import plane
from dit_prune_viz.export.report_parts.content import ClusterLine, Fact, RecipeContent, ReportContent, TunedLayer
from dit_prune_viz.export.report_parts.drawings import draw_maps, draw_scatters, draw_tradeoff, drawing
from dit_prune_viz.export.report_parts.pairs import make_pair
from dit_prune_viz.figures.unit_scatter import unit_scatter
from dit_prune_viz.generation.request import Request
from dit_prune_viz.masks.damage import ClusterDamage
from dit_prune_viz.masks.layer_plan import LayerPlan
from dit_prune_viz.pipelines.kinds import KINDS
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pruning.plan import PruningPlan
from dit_prune_viz.pruning.prune import calibrate_for, prune, rank_again
from dit_prune_viz.pruning.pruned_model import PrunedModel
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.report import LayerReport, PlanReport

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> & \"'"
"""A name that breaks out of a page that does not escape it."""


@dataclass(frozen=True)
class Score:
    mean: float
    spread: float = 0.0


@dataclass(frozen=True)
class Line:
    """A line of a trade-off, as `experiments.table.tabulate` gives it."""

    recipe: str
    level: str
    sparsity: float
    figures: Mapping[str, Score | None]
    seeds: int = 2
    prompts: int = 8
    nbytes: int | None = None


def lines(names=("dit-pruning", "wanda"), levels=(0.3, 0.5, 0.7)) -> list[Line]:
    """Scores of a few recipes, and of the dense model."""
    dense = Line("dense", "0 %", 0.0, {"clip": Score(30.0), "ssim": None, "psnr": None, "damage": Score(0.0)})
    return [dense] + [
        Line(
            name,
            f"{100 * level:g} %",
            level,
            {
                "clip": Score(30 - 5 * level - place, 0.2),
                "ssim": Score(1 - level / 2, 0.01),
                "psnr": Score(40 - 30 * level, 0.5),
                "damage": Score(level**3),
            },
        )
        for place, name in enumerate(names)
        for level in levels
    ]


def pruned_by_hand(
    model: Model, recipe: Recipe, layer: str, sparsities: Mapping[int, float], *, unit: str = "row", k: int = 3
) -> tuple[PrunedModel, Statistics, Clusters]:
    """A pruned model, some clusters of one of whose layers have sparsities of their own."""
    statistics = Statistics(model, calibrate_for(model, recipe))
    pruned = prune(model, recipe, statistics=statistics)
    points = plane(model.weight(layer), statistics.norm(layer), unit)
    clusters = cluster(points, unit=unit, k=k)
    plan = pruned.plan.with_clusters(layer, clusters)
    for one, sparsity in sparsities.items():
        plan = plan.with_cluster_sparsity(layer, one, sparsity)
    return rank_again(pruned, plan, statistics), statistics, clusters


def noise(width: int, height: int, seed: int) -> Image.Image:
    """A picture that no format makes much smaller."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def large_content(*, layers: int = 504, tuned: int = 14, rows: int = 12_288, pictures: int = 14) -> ReportContent:
    """A report as large as FLUX's with much tuned by hand, and larger."""
    random = np.random.default_rng(0)
    kinds = KINDS[:6]
    listed = tuple(
        Layer(
            f"transformer_blocks.{place * 57 // layers}.a_rather_long_name_of_a_module.to_{place}",
            "transformer_blocks",
            place * 57 // layers,
            kinds[place % len(kinds)],
            (3072, 12_288),
        )
        for place in range(layers)
    )
    reports = tuple(
        LayerReport(one.name, "row", random.uniform(0.1, 5), one.weights, one.weights // 2, random.uniform(0, 0.2))
        for one in listed
    )
    report = PlanReport(0.5, 12 * 10**9, reports)
    plan = PruningPlan(
        Recipe(), 1.0, {one.name: LayerPlan(one.name, "row", one.g_out, one.sparsity) for one in reports}
    )
    known = {one.name: LayerStatistics(random.uniform(0.01, 1), 0.1, random.uniform(1, 100)) for one in listed}
    return ReportContent(
        name="black-forest-labs/FLUX.1-dev",
        model=(Fact("Model", "FLUX.1-dev"),),
        recipe=RecipeContent("DiT-Pruning, 50.0 %", (Fact("Saliency", "STW"),), "{}" + " " * 300_000),
        headline=(Fact("Pruned", "50.00 %", "of it"),),
        report=report,
        layers=listed,
        maps=draw_maps(listed, report, known),
        scatters=draw_scatters(listed, plan, report, known),
        tuned=tuple(_tuned(one.name, rows, random) for one in listed[:tuned]),
        pairs=tuple(_pair(place) for place in range(pictures)),
        tradeoff=draw_tradeoff(lines([f"method {i}" for i in range(20)], np.linspace(0.1, 0.9, 40).tolist())),
        made=datetime(2026, 11, 29, 8, 0, tzinfo=UTC),
        version="1.2.3",
    )


def _pair(seed: int):
    return make_pair(noise(256, 256, seed), noise(256, 256, seed + 100), Request(f"picture {seed}", seed, 28))


def _tuned(name: str, rows: int, random: np.random.Generator) -> TunedLayer:
    points = random.normal(size=(rows, 2)).astype(np.float32)
    labels = random.integers(0, 6, rows)
    figure = unit_scatter(points, labels, np.arange(2_000), unit="row", x_label="x", y_label="y", title=name, svg=True)
    clusters = tuple(
        ClusterLine(Tag(f"cluster {i}", i), ClusterDamage(i, 2048, 2048 * 3072, 0.5, 0.01, 0.16)) for i in range(6)
    )
    return TunedLayer(name, "row", "kmeans", clusters, drawing(f"units-{name}", name, "Rows.", figure))


def hostile_content(content: ReportContent) -> ReportContent:
    """The same with names that try to break out of the page, wherever a person gives one."""
    tuned = tuple(
        replace(
            one,
            clusters=tuple(replace(line, tag=replace(line.tag, name=HOSTILE)) for line in one.clusters),
        )
        for one in content.tuned
    )
    pairs = tuple(replace(one, prompt=HOSTILE, names=(HOSTILE, "pruned")) for one in content.pairs)
    recipe = replace(content.recipe, words=HOSTILE, text='{"note": "' + HOSTILE + '"}')
    headline = (*content.headline, Fact(HOSTILE, HOSTILE, HOSTILE))
    return replace(content, name=HOSTILE, recipe=recipe, headline=headline, tuned=tuned, pairs=pairs, notes=(HOSTILE,))
