from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.figures import style
from dit_prune_viz.figures.clip_curve import clip_curve
from dit_prune_viz.figures.cluster_choice import cluster_choice
from dit_prune_viz.figures.convergence import convergence
from dit_prune_viz.figures.evidence import Dot, evidence
from dit_prune_viz.figures.importance_plane import MAX_BINS, bin_plane, importance_plane, make_plane
from dit_prune_viz.figures.layer_map import layer_map
from dit_prune_viz.figures.layer_scatter import kind_group, layer_scatter
from dit_prune_viz.figures.saliency_histogram import saliency_histogram
from dit_prune_viz.figures.tradeoff import Point
from dit_prune_viz.figures.unit_scatter import unit_scatter

LAYERS = {
    "names": ["blocks.0.to_q", "blocks.0.ff", "single.0.to_q"],
    "blocks": [0, 0, 1],
    "kinds": ["q", "mlp in", "q"],
    "stacks": ["blocks", "blocks", "single"],
}


def test_map_has_one_cell_per_layer_and_leaves_the_others_empty():
    figure = layer_map(**LAYERS, values=[0.1, 0.2, 0.3], title="Damage", unit="%")
    (heat,) = figure.data
    assert list(heat.y) == ["q", "mlp in"]
    assert heat.z[0].tolist() == [0.1, 0.3]
    assert heat.z[1][0] == 0.2
    assert math.isnan(heat.z[1][1])
    assert heat.customdata[1, 0].tolist() == ["blocks.0.ff", "20 %", "mlp in, block 0", ""]
    assert heat.customdata[1, 1][0] == ""


def test_layers_that_share_a_cell_are_all_in_it_and_the_greatest_is_shown():
    names, values = [f"blocks.0.experts.{i}.w1" for i in range(4)], [0.2, math.nan, 0.7, 0.1]
    layers = {"names": names, "blocks": [0] * 4, "kinds": ["mlp in"] * 4, "stacks": ["blocks"] * 4}
    for log in (False, True):
        heat = layer_map(**layers, values=values, title="Damage", log=log).data[0]
        assert heat.z.tolist() == [[math.log10(0.7) if log else 0.7]]
        assert heat.customdata[0, 0].tolist() == [names[2], "0.7", "mlp in, block 0, greatest of 4", "\n".join(names)]


def test_layers_outside_the_blocks_are_marked_on_both_sides():
    blocks, stacks = [-1, 0, 1, 2], ["outside the blocks", "blocks", "blocks", "outside the blocks"]
    figure = layer_map(list("abcd"), blocks, ["q"] * 4, stacks, [1, 2, 3, 4], title="x")
    marks = [(note.text, note.x) for note in figure.layout.annotations]
    assert marks == [("outside the blocks", -1.5), ("blocks", -0.5), ("outside the blocks", 1.5)]
    assert [line.x0 for line in figure.layout.shapes] == [-0.5, 1.5]


@pytest.mark.parametrize(
    ("blocks", "ticks"),
    [
        (range(1), [0]),
        (range(9), [0, 2, 4, 6, 8]),
        (range(57), [0, 10, 20, 30, 40, 50, 56]),
        ([-1, 0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_map_numbers_the_first_and_the_last_block(blocks, ticks):
    stacks = ["blocks" if block >= 0 else "outside the blocks" for block in blocks]
    count = len(stacks)
    figure = layer_map([f"{i}" for i in range(count)], list(blocks), ["q"] * count, stacks, [1.0] * count, title="x")
    assert list(figure.layout.xaxis.tickvals) == ticks


def test_map_on_a_log_scale_leaves_zeros_empty_and_says_the_value_itself():
    heat = layer_map(**LAYERS, values=[0.01, 0.0, 1.0], title="G_out", log=True).data[0]
    assert heat.z[0].tolist() == [-2.0, 0.0]
    assert math.isnan(heat.z[1][0])
    assert heat.customdata[0, 0][1] == "0.01"


def test_map_draws_a_line_between_stacks_only_where_there_are_two():
    two = layer_map(**LAYERS, values=[1, 2, 3], title="x")
    one = layer_map(**{**LAYERS, "stacks": ["blocks"] * 3}, values=[1, 2, 3], title="x")
    assert [shape.x0 for shape in two.layout.shapes] == [0.5]
    assert len({note.yshift for note in two.layout.annotations}) == 2  # the names never lie on each other
    assert not one.layout.shapes


def test_map_names_the_stacks_of_two_transformers_as_the_model_does():
    stacks = ["transformer.blocks", "transformer.blocks", "single_blocks"]
    figure = layer_map(**{**LAYERS, "stacks": stacks}, values=[1, 2, 3], title="x")
    assert [note.text for note in figure.layout.annotations] == ["transformer.blocks", "single_blocks"]


def test_layer_scatter_writes_as_many_digits_as_tell_its_ticks_apart():
    figure = layer_scatter(LAYERS["names"], LAYERS["kinds"], [0.101, 0.108, 0.121], [1, 2, 3], x_label="x", y_label="y")
    assert list(figure.layout.xaxis.ticktext) == ["0.101", "0.106", "0.111", "0.116", "0.121"]


@pytest.mark.parametrize(("threshold", "lines"), [(0.2, 1), (None, 0), (math.inf, 0)])
def test_layer_scatter_draws_the_threshold_where_it_exists(threshold, lines):
    figure = layer_scatter(
        LAYERS["names"], LAYERS["kinds"], [1, 2, 3], [0.1, 1, 0.0], x_label="x", y_label="y", threshold=threshold
    )
    assert len(figure.layout.shapes) == lines
    if lines:
        assert figure.layout.shapes[0].y0 == pytest.approx(math.log10(threshold))


def test_layer_scatter_tells_kinds_apart_by_symbol_and_names_every_layer():
    figure = layer_scatter(LAYERS["names"], LAYERS["kinds"], [1, 2, 3], [0.1, 1, 0.0], x_label="x", y_label="y")
    assert {trace.name for trace in figure.data} == {"attention", "MLP"}
    assert len({trace.marker.symbol for trace in figure.data}) == 2
    assert {row[0] for trace in figure.data for row in trace.customdata} == set(LAYERS["names"])
    assert min(y for trace in figure.data for y in trace.y) == pytest.approx(-1)  # the zero lies at the least positive


def test_every_kind_has_a_group():
    kinds = ["adaLN context", "context q", "context mlp out", "fused out", "other"]
    assert [kind_group(kind) for kind in kinds] == ["adaLN", "attention", "MLP", "fused out", "other"]


def dots_of(figure) -> list:
    return [trace for trace in figure.data if trace.meta and trace.meta.get("units")]


@pytest.mark.parametrize(("units", "lines"), [(20_000, 0), (20_001, 1)])
def test_crowds_get_smaller_fainter_dots_and_lines_of_density(units, lines):
    points = np.random.default_rng(0).normal(size=(units, 2)).astype(np.float32)
    about = {"unit": "weight", "x_label": "x", "y_label": "y", "title": "t"}
    figure = unit_scatter(points, np.zeros(units, int), np.arange(units), **about)
    assert sum(trace.type == "contour" for trace in figure.data) == lines
    crowd, few = dots_of(figure)[0], dots_of(unit_scatter(points[:100], np.zeros(100, int), np.arange(100), **about))[0]
    assert crowd.marker.size < few.marker.size
    assert crowd.marker.opacity < few.marker.opacity
    assert crowd.marker.line.width == few.marker.line.width == 0


def test_histograms_beside_the_axes_count_all_units():
    points = np.random.default_rng(1).normal(size=(4000, 2)).astype(np.float32)
    shown = np.arange(0, 4000, 4)
    figure = unit_scatter(points, np.zeros(4000, int), shown, unit="row", x_label="x", y_label="y", title="t")
    above = next(trace for trace in figure.data if trace.yaxis == "y2")
    beside = next(trace for trace in figure.data if trace.xaxis == "x2")
    for axis, (counts, along) in enumerate(((above.y, above.x), (beside.x, beside.y))):
        naive, edges = np.histogram(points[:, axis], 40)
        assert np.abs(np.cumsum(counts) - np.cumsum(naive)).max() <= 2  # a point on an edge may fall on either side
        assert np.allclose(along, (edges[1:] + edges[:-1]) / 2, atol=1e-4)


def test_a_plane_says_where_its_channels_lie_unless_it_is_sorted():
    figure = importance_plane(np.ones((240, 60), dtype=np.float32), unit="column")
    assert figure.layout.meta["crosshair"] == {"unit": "column", "columns": 60, "halves": {"y": 1.0, "x": 0.5}}
    assert "2 rows from %{y}, column %{x}" in figure.data[0].hovertemplate
    sorted_ = make_plane(np.ones((240, 60), dtype=np.float32), out=np.arange(240)[::-1], order="sorted by energy")
    assert "crosshair" not in importance_plane(sorted_).layout.meta


def test_unit_scatter_shows_every_unit_once_with_its_index():
    points = np.random.default_rng(0).normal(size=(50, 2))
    labels = np.arange(50) % 3
    figure = unit_scatter(points, labels, np.arange(50), unit="row", x_label="x", y_label="y", title="layer")
    clusters = dots_of(figure)
    assert [trace.name for trace in clusters] == ["cluster 0", "cluster 1", "cluster 2"]
    for cluster, trace in enumerate(clusters):
        assert (labels[trace.customdata] == cluster).all()
        assert np.allclose(np.c_[trace.x, trace.y], points[trace.customdata])
    assert sorted(index for trace in clusters for index in trace.customdata) == list(range(50))
    assert "50 of 50 rows drawn<" in figure.layout.title.text


def test_a_sample_lies_on_the_density_of_all_and_says_so():
    points = np.random.default_rng(0).normal(size=(5000, 2))
    shown = np.arange(0, 5000, 2)
    figure = unit_scatter(points, np.zeros(5000, int), shown, unit="weight", x_label="x", y_label="y", title="layer")
    density, (dots,) = figure.data[0], dots_of(figure)
    assert (10 ** density.z.astype(float) - 1).sum() == pytest.approx(5000, rel=1e-3)
    assert len(dots.x) == 2500
    assert "2,500 of 5,000 weights drawn, density of all beneath" in figure.layout.title.text


def test_a_lasso_will_know_what_was_drawn():
    figure = unit_scatter(
        np.zeros((2, 2)), np.zeros(2, int), np.arange(2), unit="row", x_label="x", y_label="y", title="t", subject="us"
    )
    assert figure.layout.meta["subject"] == "us"
    assert figure.layout.meta["alt"]


@pytest.mark.parametrize("decades", [2, 5, 9, 14, 40])
def test_powers_of_ten_are_few_enough_to_stand_side_by_side(decades):
    assert 2 <= len(style.power_of_ten([-decades, 0])["tickvals"]) <= 8


def test_points_that_were_not_projected_have_no_density():
    points = np.full((100, 2), np.nan)
    points[:10] = np.arange(20).reshape(10, 2)
    figure = unit_scatter(
        points, np.zeros(100, int), np.arange(10), unit="weight", x_label="x", y_label="y", title="layer"
    )
    assert not any(trace.type in ("heatmap", "contour") for trace in figure.data)
    assert "10 of 100 weights drawn<" in figure.layout.title.text


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**16))
def test_histogram_counts_every_weight(rows, columns, seed):
    rng = np.random.default_rng(seed)
    scores = rng.lognormal(size=(rows, columns)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = 0
    scores[0, 0] = 1
    keep = rng.random(scores.shape) < 0.5
    pruned, kept = saliency_histogram(scores, keep, single_cut=False).data
    assert kept.name == "kept"
    assert sum(kept.y) == keep.sum()
    assert sum(pruned.y) == (~keep).sum()
    assert kept.marker.pattern.shape != pruned.marker.pattern.shape


def test_the_cut_is_drawn_at_the_lowest_kept_saliency():
    scores = np.logspace(-3, 0, 100).reshape(10, 10)
    keep = scores > 0.1
    figure = saliency_histogram(scores, keep, single_cut=True)
    assert figure.layout.shapes[0].x0 == pytest.approx(np.log10(scores[keep].min()))
    assert not saliency_histogram(scores, keep, single_cut=False).layout.shapes


def test_a_layer_of_zeros_gets_a_sentence():
    assert "zero" in saliency_histogram(np.zeros((3, 3)), np.ones((3, 3), bool), single_cut=True).layout.meta["alt"]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 100))
def test_importance_bins_are_the_means_of_their_weights(d_out, d_in, seed):
    scores = np.random.default_rng(seed).random((d_out, d_in)).astype(np.float32)
    binned, out_edges, in_edges = bin_plane(scores)
    for bins, size in zip(binned.shape, (d_out, d_in), strict=True):
        most = min(size, MAX_BINS)
        assert most // 2 < bins <= most
        assert bins == most or size % bins == 0
    i, j = binned.shape[0] // 2, binned.shape[1] - 1
    naive = scores[out_edges[i] : out_edges[i + 1], in_edges[j] : in_edges[j + 1]].astype(np.float64).mean()
    assert binned[i, j] == pytest.approx(naive)
    sizes = np.outer(np.diff(out_edges), np.diff(in_edges))
    assert (binned * sizes).sum() == pytest.approx(scores.sum(dtype=np.float64))


def test_clip_curves_differ_by_dash_and_symbol_and_name_the_model():
    figure = clip_curve({"dense": [(4, 20.0), (8, 30.0)], "A": [], "B": [(4, 19.0)]}, steps=8, model="some CLIP")
    dense, a, pruned = figure.data
    assert list(dense.x) == [4, 8]
    assert list(pruned.y) == [19.0]
    assert len({trace.line.dash for trace in (dense, a, pruned)}) == 3
    assert len({trace.marker.symbol for trace in (dense, a, pruned)}) == 3
    assert "some CLIP" in figure.layout.title.text


def test_convergence_draws_each_change_at_the_larger_size_and_leaves_the_last_out():
    figure = convergence((16, 32, 64), (0.03, 0.01), (0.04, 0.01, 0.0))
    before, largest = figure.data
    assert (list(before.x), list(before.y)) == ([32, 64], [3.0, 1.0])
    assert (list(largest.x), list(largest.y)) == ([16, 32], [4.0, 1.0])
    assert before.line.dash != largest.line.dash


def test_clip_curves_carry_the_names_of_their_sides_as_text():
    figure = clip_curve({"run 1 <b>": [(1, 2.0)], "x" * 60: []}, steps=1, model="m", prompts=4)
    assert [trace.name for trace in figure.data] == ["run 1 &lt;b&gt;", "x" * 33 + "…"]
    assert "100·max(mean cos, 0) over 4 prompts" in figure.layout.title.text
    assert "x" * 60 in figure.layout.meta["alt"]


def test_colours_and_symbols_together_tell_forty_clusters_apart():
    looks = [(style.colour(i), style.symbol(i)) for i in range(40)]
    assert len(set(looks)) == 40
    assert len(style.SYMBOLS) == len(style.GLYPHS)


@pytest.mark.parametrize(
    "figure",
    [
        style.message("Nothing yet."),
        importance_plane(np.ones((4, 4))),
        clip_curve({}, steps=4, model="m"),
        convergence((2, 4), (0.1,), (0.1, 0.0)),
        layer_map(**LAYERS, values=[1, 1, 1], title="x", log=True),
    ],
)
def test_figures_are_strict_json_say_what_they_show_and_leave_colours_of_text_to_the_page(figure):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    layout = json.loads(figure.to_json(), parse_constant=refuse)["layout"]
    assert layout["meta"]["alt"]
    assert layout["paper_bgcolor"] == "rgba(0,0,0,0)"
    assert "color" not in layout.get("font", {})


@pytest.mark.parametrize(("higher", "chosen", "marks"), [(True, 3, 1), (False, 1, 0)])
def test_choice_of_a_number_marks_the_one_that_was_taken(higher, chosen, marks):
    figure = cluster_choice([2, 3, 4], [0.4, 0.6, 0.5], chosen=chosen, criterion="silhouette", higher=higher)
    curve, *taken = figure.data
    assert list(curve.y) == [0.4, 0.6, 0.5]
    assert len(taken) == marks
    assert all(list(mark.x) == [chosen] for mark in taken)
    assert figure.layout.title.text.endswith(f"{'highest' if higher else 'lowest'} silhouette: {chosen}")


def test_evidence_draws_runs_before_measured_curves():
    point = Point(50, 0.95, 0.01, "50 %")
    curves = {"wanda": [replace(point, x=70, mean=0.7), point], "other": [point], "2:4": [replace(point, label="2:4")]}
    dots = [
        Dot(1, "one", 50, 0.9, 0.02, shown=True),
        Dot(2, "two <b>", 60, 0.8, 0.0, is_a=True),
        Dot(3, "three, of other prompts", 40, 0.97, 0.0, alike=False),
    ]
    figure = evidence(curves, dots, score="SSIM", named=("wanda", "not measured"))
    wanda, other, *runs = figure.data  # a pattern alone is no curve
    assert (list(wanda.x), list(wanda.y)) == ([50, 70], [0.95, 0.7])
    assert wanda.opacity > other.opacity
    assert [note.text for note in figure.layout.annotations] == ["wanda"]
    drawn = {data[0]: trace for trace in runs for data in trace.customdata}
    assert sorted(drawn) == [1, 2, 3]
    assert len({(trace.marker.color, trace.marker.symbol[0]) for trace in drawn.values()}) == 3
    assert drawn[1].error_y.array[0] == 0.02
    assert drawn[2].text[0] == "A · two &lt;b&gt;"
    assert drawn[3].marker.symbol[0].endswith("-open")
