"""Plans, the masks built from them, and what they are said to cost."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_plans import NORMS, SHAPES, WEIGHTS, masks_of, mean_square, plan, scores_of

from dit_prune_viz.clustering.clusters import Clusters, cluster
from dit_prune_viz.clustering.plane import plane
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.masks.counts import removed
from dit_prune_viz.masks.damage import cluster_damage, damage
from dit_prune_viz.masks.layer_plan import ClusterPlan, LayerPlan
from dit_prune_viz.masks.scores_to_mask import mask_of_scores
from dit_prune_viz.masks.select import keep_mask
from dit_prune_viz.methods.granularity.heterogeneity import heterogeneity
from dit_prune_viz.methods.granularity.threshold import cag_threshold
from dit_prune_viz.methods.saliency.stw import STW
from dit_prune_viz.pruning.build_masks import build_masks
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.report import report_layer, summarize


def test_dit_pruning_ranks_rows_where_g_out_is_large():
    made = plan(sparsity=0.5)
    g_out = {name: heterogeneity(STW().score(WEIGHTS[name], NORMS[name])) for name in SHAPES}
    assert {name: layer.g_out for name, layer in made.layers.items()} == g_out
    assert made.threshold == cag_threshold(g_out.values())
    assert list(made.layers) == list(SHAPES)
    assert {name: layer.granularity for name, layer in made.layers.items()} == {
        "adaLN": "row",
        "q": "layer",
        "mlp in": "layer",
        "mlp out": "layer",
    }


def test_options_of_a_plan():
    assert {layer.granularity for layer in plan(saliency="magnitude").layers.values()} == {"layer"}
    assert {layer.granularity for layer in plan(saliency="wanda").layers.values()} == {"row"}
    assert plan(saliency="wanda").threshold is None
    made = plan(saliency="stw:1.5,1", threshold=0.0, sparsity=0.25)
    assert {layer.granularity for layer in made.layers.values()} == {"row"}
    assert (made.threshold, made.recipe) == (0.0, Recipe("stw:1.5,1", sparsity=0.25, threshold=0.0))
    assert made.recipe.method == STW(1.5, 1)
    assert plan(granularity="layer", threshold=3.0).threshold is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"saliency": "best"}, "no saliency 'best'"),
        ({"granularity": "block"}, "no granularity 'block'"),
        ({"sparsity": 1.5}, "Sparsity must"),
        ({"sparsity": float("nan")}, "Sparsity must"),
        ({"threshold": -1.0}, "threshold"),
        ({"allocation": "damage-aware:0.6,0.9"}, "floors alone remove"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        plan(**options)


def test_no_layers_and_bad_weights():
    with pytest.raises(UserError, match="no layers"):
        plan(layers=[])
    with pytest.raises(UserError, match="Layer q has NaN"):
        plan(weights={**WEIGHTS, "q": WEIGHTS["q"] * float("nan")})


def test_plans_cannot_be_changed():
    made = plan()
    with pytest.raises(FrozenInstanceError):
        made.threshold = 0.1
    with pytest.raises(TypeError):
        made.layers["q"] = made.layers["adaLN"]
    labels = np.zeros(10, dtype=np.int16)
    clusters = ClusterPlan("row", labels, (0.5,))
    labels[0] = 9
    assert clusters.labels[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        clusters.labels[0] = 1
    assert copy.deepcopy(made) == made


def test_a_layer_is_replaced_and_the_others_are_shared():
    made = plan()
    changed = made.with_layer(replace(made.layer("q"), sparsity=0.9))
    assert changed.layer("q").sparsity == 0.9
    assert made.layer("q").sparsity == 0.5
    assert list(changed.layers) == list(made.layers)
    assert all(changed.layers[name] is made.layers[name] for name in SHAPES if name != "q")
    with pytest.raises(UserError, match="no layer called 'k'"):
        made.with_layer(LayerPlan("k", "row", 0.1, 0.5))
    with pytest.raises(UserError, match="no layer called 'k'"):
        made.layer("k")


def test_cluster_sparsities():
    clusters = Clusters("column", "lasso", np.arange(10) % 3, 3)
    made = plan(sparsity=0.4).with_clusters("q", clusters)
    assert made.layer("q").clusters == ClusterPlan("column", clusters.labels, (None,) * 3)
    changed = made.with_cluster_sparsity("q", 1, 0.9)
    assert changed.layer("q").clusters.sparsity == (None, 0.9, None)
    assert made.layer("q").clusters.sparsity == (None,) * 3
    assert changed != made
    again = changed.with_cluster_sparsity("q", np.int64(1), 0.4)
    assert again.with_cluster_sparsity("q", 1, 0.9) == changed != again
    back = changed.with_clusters("q", None)
    assert (back.layers, back.by_hand) == (plan(sparsity=0.4).layers, {"q"})
    for layer, index, sparsity, message in [
        ("k", 0, 0.5, "no layer called 'k'"),
        ("adaLN", 0, 0.5, "no clusters yet"),
        ("q", 3, 0.5, "no cluster 3"),
        ("q", -1, 0.5, "no cluster -1"),
        ("q", "0", 0.5, "no cluster 0"),
        ("q", 0, 1.5, "Sparsity must"),
    ]:
        with pytest.raises(UserError, match=message):
            made.with_cluster_sparsity(layer, index, sparsity)


@pytest.mark.parametrize("granularity", ["layer", "row"])
def test_clusters_of_clusters_move_only_what_they_are_given(granularity):
    made = plan(granularity=granularity).with_clusters("q", Clusters("row", "lasso", np.arange(10) % 2, 2))
    assert torch.equal(masks_of(made)["q"].bits, masks_of(plan(granularity=granularity))["q"].bits)
    made = made.with_cluster_sparsity("q", 0, 0.9)
    before = masks_of(made)["q"].unpack()
    made = made.with_clusters("q", Clusters("column", "lasso", np.arange(10) // 5, 2))
    assert torch.equal(masks_of(made)["q"].unpack(), before)
    after = masks_of(made.with_cluster_sparsity("q", 1, 0.3))["q"].unpack()
    assert torch.equal(after[:, :5], before[:, :5])
    assert int((~after[:, 5:]).sum()) == 15
    # A clustering that never had a say is forgotten, so that looking around does not make a plan grow.
    made = made.with_clusters("q", Clusters("weight", "lasso", np.zeros(100, int), 1))
    assert made.layer("q").clusters.beneath.unit == "row"


def test_bad_parts():
    with pytest.raises(UserError, match="no granularity"):
        LayerPlan("q", "block", 0.1, 0.5)
    with pytest.raises(UserError, match="Sparsity must"):
        LayerPlan("q", "row", 0.1, float("nan"))
    with pytest.raises(UserError, match="no unit"):
        ClusterPlan("head", np.zeros(3, int), (0.5,))
    for labels in (np.array([0, 2]), np.array([-1, 0]), np.array([0.0, 1.0]), np.zeros((2, 2), int)):
        with pytest.raises(UserError, match="Cluster ids"):
            ClusterPlan("row", labels, (0.5, 0.5))


def test_masks_follow_the_plan():
    made = plan(sparsity=0.3)
    for name, packed in masks_of(made).items():
        scores = STW().score(WEIGHTS[name], NORMS[name])
        expected = keep_mask(scores, sparsity=0.3, granularity=made.layers[name].granularity)
        assert torch.equal(packed.unpack(), expected)


def test_one_layer_is_rebuilt_alone():
    made = plan().with_clusters("q", Clusters("row", "lasso", np.arange(10) // 5, 2)).with_cluster_sparsity("q", 0, 0.9)
    before = masks_of(made)
    asked = []

    def scores(name: str) -> torch.Tensor:
        asked.append(name)
        return scores_of("stw")(name)

    after = build_masks(made.with_cluster_sparsity("q", 1, 0.1), scores, layers=["q"])
    assert list(after) == asked == ["q"]
    upper, lower = after["q"].unpack().split(5)
    assert torch.equal(upper, before["q"].unpack()[:5])
    assert (int((~upper).sum()), int((~lower).sum())) == (45, 5)
    with pytest.raises(UserError, match="no layer called 'k'"):
        masks_of(made, layers=["k"])


def test_clusters_of_another_layer():
    layer = LayerPlan("q", "layer", 0.1, 0.5, ClusterPlan("row", np.zeros(24, int), (0.5,)))
    with pytest.raises(UserError, match="10 units"):
        mask_of_scores(layer, scores_of("stw")("q"))


def test_progress_and_cancelling():
    steps = []
    made = plan(progress=lambda *step: steps.append(step[:2]))
    assert steps == [(i, 4) for i in range(5)]
    steps.clear()
    plan(progress=lambda *step: steps.append(step[:2]), allocation="tempered")
    assert steps == [(i, 8) for i in range(9)]
    steps.clear()
    masks_of(made, progress=lambda *step: steps.append(step[:2]))
    assert steps == [(i, 4) for i in range(5)]

    def cancel(done: int, total: int, what: str) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        plan(progress=cancel)
    with pytest.raises(Cancelled):
        masks_of(made, progress=cancel)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 8), columns=st.integers(1, 8), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_damage_is_the_share_of_pruned_energy(rows, columns, share, seed):
    random = np.random.default_rng(seed)
    weight, square, keep = random.normal(size=(rows, columns)), random.random(columns), random.random((rows, columns))
    mask = keep < share
    energy = [[weight[i, j] ** 2 * square[j] for j in range(columns)] for i in range(rows)]
    lost = sum(energy[i][j] for i in range(rows) for j in range(columns) if not mask[i, j])
    found = damage(*(torch.from_numpy(array) for array in (weight, square, mask)))
    assert found == pytest.approx(lost / sum(map(sum, energy)), abs=1e-12)


def test_damage_of_everything_nothing_and_no_energy():
    weight, square = torch.rand(3, 4).bfloat16() + 1, torch.rand(4) + 1
    assert damage(weight, square, torch.ones(3, 4, dtype=torch.bool)) == 0.0
    assert damage(weight, square, torch.zeros(3, 4, dtype=torch.bool)) == 1.0
    assert damage(torch.zeros(3, 4), square, torch.zeros(3, 4, dtype=torch.bool)) == 0.0


@pytest.mark.parametrize("unit", ["row", "column", "weight"])
def test_cluster_figures_add_up_to_the_layers(unit):
    weight, norm = WEIGHTS["mlp in"], NORMS["mlp in"]
    clusters = cluster(plane(weight, norm, unit), unit=unit, k=3)
    made = plan().with_clusters("mlp in", clusters)
    for i, sparsity in enumerate((0.9, 0.5, 0.5)):
        made = made.with_cluster_sparsity("mlp in", i, sparsity)
    mask = masks_of(made, layers=["mlp in"])["mlp in"].unpack()
    figures = cluster_damage(weight, mean_square("mlp in"), mask, made.layer("mlp in").clusters)
    assert figures == cluster_damage(weight, mean_square("mlp in"), mask, clusters)
    assert [f.id for f in figures] == [0, 1, 2]
    assert [f.units for f in figures] == clusters.sizes.tolist()
    assert sum(f.weights for f in figures) == weight.numel()
    assert sum(f.energy for f in figures) == pytest.approx(1)
    assert sum(f.damage for f in figures) == pytest.approx(damage(weight, mean_square("mlp in"), mask))
    table = torch.arange(weight.numel()).view(weight.shape)
    table = {"row": table // 10, "column": table % 10, "weight": table}[unit]
    for f, sparsity in zip(figures, (0.9, 0.5, 0.5), strict=True):
        members = torch.from_numpy(clusters.labels.astype(int))[table] == f.id
        assert f.weights == int(members.sum())
        assert round(f.sparsity * f.weights) == int((members & ~mask).sum()) == removed(f.weights, sparsity)
        assert f.damage == pytest.approx(damage(weight, mean_square("mlp in"), mask | ~members))
    with pytest.raises(UserError, match="another shape"):
        cluster_damage(WEIGHTS["adaLN"].T, mean_square("adaLN"), mask, clusters)


def test_empty_clusters_have_no_figures():
    figures = cluster_damage(
        torch.ones(2, 3), torch.ones(3), torch.zeros(2, 3).bool(), ClusterPlan("row", np.array([0, 2]), (0, 0, 0))
    )
    assert (figures[1].units, figures[1].weights, figures[1].sparsity, figures[1].damage) == (0, 0, 0.0, 0.0)
    assert figures[0].damage == pytest.approx(0.5)


def test_the_report_counts_what_the_masks_do():
    made = plan(sparsity=0.33, saliency="magnitude", granularity="row")
    masks = masks_of(made)
    report = summarize(made, masks, WEIGHTS.__getitem__, mean_square, parameters=2000)
    lost = sum(d_out * removed(d_in, 0.33) for d_out, d_in in SHAPES.values())
    prunable = sum(d_out * d_in for d_out, d_in in SHAPES.values())
    assert (report.target, report.weights, report.removed, report.remaining) == (0.33, prunable, lost, 2000 - lost)
    assert report.achieved == lost / prunable
    assert summarize(made, masks, WEIGHTS.__getitem__, mean_square).remaining == prunable - lost
    assert [layer.name for layer in report.layers] == list(SHAPES)
    q = report.layers[1]
    assert (q.granularity, q.g_out, q.weights, q.removed, q.sparsity) == ("row", made.layers["q"].g_out, 100, 30, 0.3)
    assert q.damage == damage(WEIGHTS["q"], mean_square("q"), masks["q"].unpack())
    damages = [layer.damage * layer.weights for layer in report.layers]
    assert report.damage == pytest.approx(sum(damages) / prunable)

    changed = made.with_layer(replace(made.layer("q"), sparsity=0.8))
    new_mask = masks_of(changed, layers=["q"])["q"]
    new = report_layer(changed.layer("q"), new_mask, WEIGHTS["q"], mean_square("q"))
    updated = report.with_layer(new)
    assert updated == summarize(changed, masks | {"q": new_mask}, WEIGHTS.__getitem__, mean_square, parameters=2000)
    assert updated.removed == lost + 50
