"""What a report shows, as one immutable value; how it looks is up to the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dit_prune_viz.clustering.clusters import Tag
from dit_prune_viz.masks.damage import ClusterDamage
from dit_prune_viz.pipelines.layers import Layer
from dit_prune_viz.pruning.report import PlanReport


@dataclass(frozen=True)
class Fact:
    """One thing to know: what it is called, the value with its unit, and a word more."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Attributes:
        key: unlike that of any other drawing of the report.
        label: for people, where one of several can be chosen.
        help: what it shows, in a sentence.
        figure: Plotly's JSON.
        alt: what is read out in its place.
    """

    key: str
    label: str
    help: str
    figure: str
    alt: str


@dataclass(frozen=True)
class ClusterLine:
    """A cluster of a layer: its name, look and lock, what it holds and costs, the sparsity that was set by hand."""

    tag: Tag
    damage: ClusterDamage
    asked: float | None = None


@dataclass(frozen=True)
class TunedLayer:
    """A layer whose units were clustered.

    Attributes:
        name: of the layer.
        unit: "row", "column" or "weight".
        found: how the clusters were found.
        clusters: in order of ids. Energy and damage are NaN where the layer's inputs are not known.
        drawing: of the units; None where they are not drawn.
    """

    name: str
    unit: str
    found: str
    clusters: tuple[ClusterLine, ...]
    drawing: Drawing | None = None


@dataclass(frozen=True)
class Pair:
    """The dense and the pruned model's picture from the same noise.

    Attributes:
        prompt: that both were asked for.
        seed: of the noise.
        steps: denoising steps.
        dense: an image file's bytes, PNG, WebP or JPEG.
        pruned: the same.
        size: (width, height) in pixels, as they were drawn.
        names: of the two sides.
        clip: CLIP scores of the two sides, 100·cos; None where no CLIP scored them.
        clip_name: of the checkpoint.
        ssim: between the two, at most 1.
        psnr: between the two in dB; None where the pictures are equal, or too small to tell.
        destroyed: what has become of either picture, such as "black picture"; "" where both are pictures.
    """

    prompt: str
    seed: int
    steps: int
    dense: bytes
    pruned: bytes
    size: tuple[int, int]
    names: tuple[str, str] = ("dense", "pruned")
    clip: tuple[float, float] | None = None
    clip_name: str = ""
    ssim: float | None = None
    psnr: float | None = None
    destroyed: str = ""


class Score(Protocol):
    """A score's mean, and its spread over seeds."""

    @property
    def mean(self) -> float: ...
    @property
    def spread(self) -> float: ...


class TradeoffLine(Protocol):
    """One recipe at one level, as `experiments.table.tabulate` gives it."""

    @property
    def recipe(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def sparsity(self) -> float: ...
    @property
    def seeds(self) -> int: ...
    @property
    def prompts(self) -> int: ...
    @property
    def figures(self) -> Mapping[str, Score | None]: ...


@dataclass(frozen=True)
class Tradeoff:
    """What sparsity costs: a drawing per score, and the lines that they are drawn from."""

    drawings: tuple[Drawing, ...]
    lines: tuple[TradeoffLine, ...]


@dataclass(frozen=True)
class RecipeContent:
    """A recipe in words, its settings one by one, and the file that replays it."""

    words: str
    settings: tuple[Fact, ...]
    text: str


@dataclass(frozen=True, eq=False)
class ReportContent:
    """All that a report shows.

    Attributes:
        name: of the model.
        model: facts about it.
        recipe: what it was pruned by.
        headline: the numbers of the first screen.
        report: exact counts and predicted damage, per layer and in all.
        layers: of the model, in the order of the report's.
        maps: blocks × kinds, one drawing per statistic.
        scatters: all layers as dots, one drawing per choice of axes.
        tuned: the layers that were clustered.
        pairs: dense and pruned pictures.
        tradeoff: None where nothing was measured.
        notes: what was sampled, left out or estimated, a sentence each.
        made: when.
        version: of this package.
    """

    name: str
    model: tuple[Fact, ...]
    recipe: RecipeContent
    headline: tuple[Fact, ...]
    report: PlanReport
    layers: tuple[Layer, ...]
    maps: tuple[Drawing, ...] = ()
    scatters: tuple[Drawing, ...] = ()
    tuned: tuple[TunedLayer, ...] = ()
    pairs: tuple[Pair, ...] = ()
    tradeoff: Tradeoff | None = None
    notes: tuple[str, ...] = ()
    made: datetime | None = None
    version: str = ""
