from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sessions import pruned_by

from dit_prune_viz.app.pages.layer import captions
from dit_prune_viz.app.pages.layer import view as layer_view
from dit_prune_viz.app.pages.layer.view import View
from dit_prune_viz.app.session import layer_data
from dit_prune_viz.app.session.cluster_edits import set_sparsity
from dit_prune_viz.app.session.comparison import compare
from dit_prune_viz.app.session.comparison_result import Frame
from dit_prune_viz.app.session.jobs import Busy, Jobs
from dit_prune_viz.app.session.layer_selection import units_in_plane, units_in_range
from dit_prune_viz.app.session.layer_subject import subject
from dit_prune_viz.app.session.metric_cut import metric_cut
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.selection import Selection
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.errors import Cancelled, UserError


@pytest.fixture(scope="module")
def loaded(store, tiny_flux):
    return Session(store).load_model(str(tiny_flux))


@pytest.fixture(scope="module")
def ready(loaded):
    return loaded.calibrate(16, 0)


@pytest.fixture(scope="module")
def layer(ready):
    return next(item.name for item in ready.model.layers if item.kind == "adaLN")


@pytest.fixture(scope="module")
def clustered(ready, layer):
    return ready.cluster(layer, "row", "kmeans", 3)


def test_calibration_prunes_at_once_at_half_by_dit_pruning(ready):
    assert ready.report.target == 0.5
    assert ready.plan.recipe.saliency == "stw"
    assert ready.report.achieved == pytest.approx(0.5, abs=0.01)
    assert ready.masks.keys() == {item.name for item in ready.model.layers}
    assert ready.report.remaining == ready.model.parameters - ready.report.removed


def test_the_model_and_its_calibration_are_made_once_for_all_users(store, loaded, ready, tiny_flux):
    other = Session(store).load_model(str(tiny_flux)).calibrate(16, 0)
    assert other.model is loaded.model
    assert other.calibration is ready.calibration
    assert other.plan is not ready.plan


def test_prune_keeps_the_old_snapshot_whole(ready):
    before = dict(ready.masks)
    after = pruned_by(ready, "magnitude", "layer", 0.25)
    assert after.report.achieved == pytest.approx(0.25, abs=0.01)
    assert ready.report.target == 0.5
    assert all(ready.masks[name] is mask for name, mask in before.items())


def test_a_new_calibration_prunes_with_the_settings_in_use(ready):
    again = pruned_by(ready, "wanda", "auto", 0.25).calibrate(8, 1)
    assert (again.recipe.saliency, again.report.target) == ("wanda", 0.25)
    assert {item.granularity for item in again.report.layers} == {"row"}


def test_looking_at_clusters_changes_no_mask(ready, clustered):
    assert clustered.masks == ready.masks
    assert clustered.report is ready.report


def test_clusters_add_up_to_their_layer(clustered, layer):
    rows = clustered.cluster_rows(layer)
    report = next(item for item in clustered.report.layers if item.name == layer)
    assert sum(row.weights for row in rows) == report.weights
    assert sum(row.energy for row in rows) == pytest.approx(1)
    assert sum(row.damage for row in rows) == pytest.approx(report.damage)
    assert sum(row.sparsity * row.weights for row in rows) == pytest.approx(report.removed)


@pytest.mark.parametrize("unit", ["row", "column", "weight"])
@pytest.mark.parametrize("granularity", ["layer", "row"])
def test_a_cluster_s_slider_moves_that_cluster_and_nothing_else(ready, layer, unit, granularity):
    before = pruned_by(ready, "dit-pruning", granularity, 0.5).cluster(layer, unit, "kmeans", 3)
    after = set_sparsity(before, layer, 1, 0.1)
    old, new = before.cluster_rows(layer), after.cluster_rows(layer)
    assert new[1].sparsity == pytest.approx(0.1, abs=0.02)
    assert new[1].damage < old[1].damage
    assert [new[0].sparsity, new[2].sparsity] == [old[0].sparsity, old[2].sparsity]
    labels = torch.as_tensor(before.clusters[layer].labels.copy())
    keep_old, keep_new = before.masks[layer].unpack(), after.masks[layer].unpack()
    labels = labels.view({"row": (-1, 1), "column": (1, -1), "weight": keep_old.shape}[unit])
    others = (labels != 1).expand(keep_old.shape)
    assert torch.equal(keep_old[others], keep_new[others])
    assert [name for name in after.masks if after.masks[name] is not before.masks[name]] == [layer]
    assert after.report.achieved < before.report.achieved


def test_clustering_anew_keeps_the_masks_until_a_slider_moves(clustered, layer):
    moved = set_sparsity(clustered, layer, 0, 1.0)
    again = moved.cluster(layer, "column", "kmeans", 2)
    assert again.masks is moved.masks
    total = next(item.removed for item in moved.report.layers if item.name == layer)
    assert sum(row.sparsity * row.weights for row in again.cluster_rows(layer)) == pytest.approx(total)
    last = set_sparsity(again, layer, 1, 0.0)
    assert last.cluster_rows(layer)[1].sparsity == 0
    untouched = torch.as_tensor(again.clusters[layer].labels.copy()) == 0
    assert torch.equal(last.masks[layer].unpack()[:, untouched], again.masks[layer].unpack()[:, untouched])


BAD = {
    "no model": lambda s, layer: Session(s.store).calibrate(),
    "empty model": lambda s, layer: s.load_model("  "),
    "unknown model": lambda s, layer: s.load_model("no/such/folder"),
    "samples 0": lambda s, layer: s.calibrate(0, 0),
    "samples NaN": lambda s, layer: s.calibrate(math.nan, 0),
    "samples none": lambda s, layer: s.calibrate(None, 0),
    "seed below 0": lambda s, layer: s.calibrate(8, -1),
    "sparsity above 1": lambda s, layer: pruned_by(s, "wanda", "auto", 1.5),
    "sparsity NaN": lambda s, layer: pruned_by(s, "wanda", "auto", math.nan),
    "sparsity none": lambda s, layer: pruned_by(s, "wanda", "auto", None),
    "unknown method": lambda s, layer: pruned_by(s, "guess", "auto", 0.5),
    "unknown granularity": lambda s, layer: pruned_by(s, "wanda", "block", 0.5),
    "unknown layer": lambda s, layer: s.cluster("nowhere", "row", "kmeans", 3),
    "unknown unit": lambda s, layer: s.cluster(layer, "token", "kmeans", 3),
    "unknown algorithm": lambda s, layer: s.cluster(layer, "row", "magic", 3),
    "k 0": lambda s, layer: s.cluster(layer, "row", "kmeans", 0),
    "k 2.5": lambda s, layer: s.cluster(layer, "row", "kmeans", 2.5),
    "no clusters": lambda s, layer: set_sparsity(s, s.model.layers[1].name, 0, 0.5),
    "unknown cluster": lambda s, layer: set_sparsity(s, layer, 3, 0.5),
    "cluster none": lambda s, layer: set_sparsity(s, layer, None, 0.5),
    "cluster sparsity": lambda s, layer: set_sparsity(s, layer, 0, -0.1),
    "empty prompt": lambda s, layer: compare(s, " ", 0, 2),
    "long prompt": lambda s, layer: compare(s, "a" * 10_000, 0, 2),
    "five prompts": lambda s, layer: compare(s, ["a cat"] * 5, 0, 2),
    "one of two prompts empty": lambda s, layer: compare(s, ["a cat", ""], 0, 2),
    "steps 0": lambda s, layer: compare(s, "a cat", 0, 0),
    "steps 10,000": lambda s, layer: compare(s, "a cat", 0, 10_000),
    "steps none": lambda s, layer: compare(s, "a cat", 0, None),
    "not calibrated": lambda s, layer: compare(Session(s.store, model=s.model), "a cat", 0, 2),
    "selection": lambda s, layer: captions.selection_figures(s, layer, [10**6]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_leaves_the_session_alone(clustered, layer, name):
    before = dict(vars(clustered))
    with pytest.raises(UserError) as caught:
        BAD[name](clustered, layer)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 400
    assert vars(clustered) == before


def test_pictures_of_an_unpruned_model_are_identical_and_psnr_is_none(ready):
    result = compare(pruned_by(ready, "magnitude", "layer", 0.0), "a cat", 3, 2)
    assert (result.ssim, result.psnr, result.delta, result.gain) == (1.0, None, 0.0, 4)
    assert result.left.images[0].tobytes() == result.right.images[0].tobytes()


def test_comparison_streams_both_sides_and_keeps_the_dense_one(ready, tiny_clip):
    frames: list[Frame] = []
    first = compare(ready, "a red bus", 1, 4, emit=frames.append)
    assert [frame.side for frame in frames] == ["left"] * 4 + ["right"] * 4
    assert [frame.step for frame in frames] == [1, 2, 3, 4] * 2
    assert frames[-1].curve == first.right.curve
    assert first.clip_name == tiny_clip.name
    assert first.left.clip == pytest.approx(frames[3].curve[-1][1])
    assert first.psnr > 0
    again: list[Frame] = []
    second = compare(pruned_by(ready, "magnitude", "layer", 0.9), "a red bus", 1, 4, emit=again.append)
    assert second.left is first.left
    assert [frame.side for frame in again] == ["left"] + ["right"] * 4
    assert second.ssim < first.ssim


def test_a_cancelled_comparison_leaves_the_model_free_and_dense(ready):
    def stop(done, total, what):
        if done >= 2:
            raise Cancelled

    expected = compare(ready, "the moon", 5, 4)
    with pytest.raises(Cancelled):
        compare(ready, "two dogs", 5, 4, progress=stop)
    assert compare(ready, "the moon", 5, 4).right.images[0].tobytes() == expected.right.images[0].tobytes()


def test_layer_pictures_exist_for_every_unit_and_projection(ready, layer):
    for unit in ("row", "column", "weight"):
        found = ready.cluster(layer, unit, "kmeans", 2)
        for projection in ("plane", "pca"):
            figure = layer_view.units_picture(found, View(layer, projection)).make()
            dots = sum(len(trace.x) for trace in figure.data if trace.meta)
            assert dots == min(layer_view.MAX_DOTS, len(found.clusters[layer].labels))
        assert layer in captions.describe_layer(found, layer)
        chosen = Selection(subject(found, layer)).changed([0, 1], "set", "units")
        for order in ("original", "cluster", "energy"):
            assert layer_view.plane_picture(found, View(layer, order=order, overlay=True), chosen).make().data
        for picture in (layer_view.cut_picture, layer_view.timesteps_picture):
            assert any("select" in trace.name for trace in picture(found, View(layer), chosen).make().data)


@pytest.mark.parametrize("unit", ["row", "column", "weight"])
def test_a_band_of_the_plane_and_a_range_of_the_histogram_select_units(ready, layer, unit):
    found = ready.cluster(layer, unit, "kmeans", 2)
    d_out, d_in = found.model.layer(layer).shape
    everything = units_in_plane(found, layer, (-1, d_in), (-1, d_out))
    assert sorted(everything) == list(range(len(found.clusters[layer].labels)))
    assert sorted(units_in_range(found, layer, -30, 30)) == sorted(everything)
    assert not len(units_in_range(found, layer, 20, 30))
    half = units_in_plane(found, layer, (-1, d_in), (-1, d_out / 2 - 1), "energy")
    if unit == "row":
        energy = layer_data.unit_sums(found, layer, "row").energy
        assert energy[half].min() >= np.delete(energy, half).max()


def test_the_metric_s_exponents_turn_the_cut_and_rows_make_it_a_band(ready, layer):
    for method, m, n in (("dit-pruning", 2, 1), ("wanda", 1, 1), ("magnitude", 1, 0)):
        found = pruned_by(ready, method, "layer", 0.5).cluster(layer, "weight", "kmeans", 2)
        cut = metric_cut(found, layer)
        assert (cut.m, cut.n, cut.low) == (m, n, cut.high)
        # Of all weights, those above the line are the kept ones.
        points = layer_data.points(found, layer, "weight").astype(np.float64)
        above = m * points[:, 0] + n * points[:, 1] >= cut.low - 1e-5
        keep = found.masks[layer].unpack().numpy().ravel()
        assert (above == keep).mean() > 0.999
    banded = metric_cut(pruned_by(ready, "wanda", "row", 0.5).cluster(layer, "weight", "kmeans", 2), layer)
    assert banded.high > banded.low


def test_a_selection_of_everything_is_the_layer(clustered, layer):
    units = list(range(len(clustered.clusters[layer].labels)))
    found = captions.selection_figures(clustered, layer, units)
    report = next(item for item in clustered.report.layers if item.name == layer)
    assert (found.units, found.weights, found.energy) == (len(units), report.weights, pytest.approx(1))
    assert found.damage == pytest.approx(report.damage)


def test_waiting_for_the_model_can_be_cancelled(ready):
    def impatient(done, total, what):
        raise Cancelled

    def wait():
        with pytest.raises(Cancelled), ready.model.lock.hold(impatient):
            pass
        return True

    with ready.model.lock.hold(), ThreadPoolExecutor(1) as elsewhere:
        assert elsewhere.submit(wait).result(10)
    assert ready.model.lock.free


def test_startup_prepares_a_session_and_says_how_far_it_is(store, tiny_flux):
    startup = Startup(Session(store), str(tiny_flux), Jobs())
    startup.start()
    assert all(isinstance(busy, Busy) for busy in startup.watch(0.01))
    assert startup.wait().report.target == 0.5
    assert startup.problem is None


def test_startup_with_a_wrong_model_still_opens(store):
    startup = Startup(Session(store), "no/such/folder", Jobs())
    startup.start()
    assert startup.wait().model is None
    assert startup.problem.endswith(".")


def test_startup_says_at_once_that_there_is_no_such_clip(tiny_flux):
    startup = Startup(Session(ModelStore(clip="~nobody/clip")), str(tiny_flux), Jobs())
    startup.start()
    assert startup.wait().report is not None
    assert "~nobody/clip" in startup.problem
