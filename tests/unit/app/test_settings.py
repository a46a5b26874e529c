"""Settings and the fields of the left column, and what a session makes of every kind of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dit_prune_viz.app.pages.controls import recipe_fields as method_fields
from dit_prune_viz.app.pages.controls.fields import BY_HAND, Fields, fields_of
from dit_prune_viz.app.pages.topbar import page as topbar
from dit_prune_viz.app.session import pruning, variant, weight_updates
from dit_prune_viz.app.session.comparison import compare
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.settings import READY_MADE, Settings, label_of, name_of, read_settings, sentence_of
from dit_prune_viz.app.session.shared import Workspace
from dit_prune_viz.calibration.timestep_weights import SCHEMES
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.pruning.build_masks import build_masks
from dit_prune_viz.pruning.candidates import CANDIDATES
from dit_prune_viz.pruning.levels import Level
from dit_prune_viz.pruning.make_plan import make_plan
from dit_prune_viz.pruning.prune import mask_model, update_masked
from dit_prune_viz.pruning.supplies import Supplies
from dit_prune_viz.pruning.update_model import UPDATES

TEN = "0,0,0,1,1,2,1,1,0,0.5"


@pytest.fixture(scope="module")
def workspace(tiny_clip):
    return Workspace(clip=tiny_clip, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def ready(workspace, tiny_flux):
    return Session(workspace).load_model(str(tiny_flux)).calibrate(16, 0)


@pytest.fixture(scope="module")
def layer(ready):
    return next(item.name for item in ready.model.layers if item.kind == "adaLN")


def same_masks(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name].bits, second[name].bits) for name in first)


settings = st.builds(
    Settings,
    method=st.sampled_from(["dit-pruning", "wanda", "magnitude", "ria", "obs"])
    | st.builds("stw:{:g},{:g}".format, st.sampled_from([0.5, 1, 3]), st.sampled_from([0.5, 2])),
    granularity=st.sampled_from(["auto", "cag", "layer", "row", "column", "2:4", "4:8"]),
    sparsity=st.integers(0, 100).map(lambda share: share / 100),
    allocation=st.sampled_from(["uniform", "owl", "tempered:0.35", "damage-aware", "damage-aware:0.2,0.9", "global"]),
    update=st.sampled_from(["", *UPDATES]),
    timestep=st.sampled_from([*SCHEMES, TEN]),
    sensitivity=st.booleans(),
    sequential=st.booleans(),
    centred=st.booleans(),
    exchange=st.booleans(),
    distil=st.sampled_from([0, 50, 300]),
)


@given(settings)
def test_fields_ask_for_the_settings_they_show(chosen):
    fields = fields_of(chosen)
    free = {"allocation": "uniform", "sensitivity": False} if ":" in chosen.granularity else {}
    assert fields.settings == Settings(**{**vars(chosen), **free})
    assert fields_of(fields.settings, fields) == fields


@given(settings)
def test_only_ready_made_settings_have_their_name(chosen):
    name = name_of(chosen)
    assert label_of(name)
    assert sentence_of(name).endswith(".")
    if name in READY_MADE and name != "own":
        assert chosen.update == READY_MADE[name].update
        assert chosen.timestep == READY_MADE[name].timestep


def test_every_ready_made_way_is_known_by_its_fields_and_a_change_makes_it_custom():
    assert {"dit-pruning", "wanda", "magnitude", "ria", "obs", "own"} < READY_MADE.keys()
    for name, chosen in READY_MADE.items():
        fields = fields_of(chosen)
        assert name_of(fields.settings) == name
        changed = Fields(**{**vars(fields), "timestep": BY_HAND, "weights": TEN})
        assert name_of(changed.settings) == "custom"
    for name, candidate in CANDIDATES.items():
        if name in READY_MADE:
            assert candidate.words[1:] in sentence_of(name)


def test_json_settings_start_from_a_candidate_or_the_defaults():
    best = read_settings({"method": "exchange", "sparsity": 0.6})
    assert (best.candidate.settings, best.sparsity) == (CANDIDATES["exchange"].settings, 0.6)
    assert read_settings({"method": "exchange", "update": ""}).update == ""
    assert read_settings({}) == Settings()
    assert read_settings({"method": "ria", "timestep": [1] * 10}).timestep == ",".join(["1"] * 10)


def test_three_arguments_prune_as_ever(ready):
    model, calibration = ready.model, ready.calibration
    for method, granularity in (("dit-pruning", "auto"), ("wanda", "row"), ("magnitude", "cag")):
        plan = make_plan(
            model.layers, model.weight, calibration.norm, method=method, granularity=granularity, sparsity=0.4
        )
        assert same_masks(
            ready.prune(method, granularity, 0.4).masks, build_masks(plan, model.weight, calibration.norm)
        )


@pytest.mark.parametrize("name", ["ria", "obs", "stw:3,1", *(name for name in CANDIDATES if name in READY_MADE)])
def test_a_session_prunes_as_the_experiments_do(ready, name):
    found = ready.prune(name, "auto", 0.6)
    candidate = CANDIDATES.get(name, found.settings.candidate)
    plan, masks, report = mask_model(candidate, Supplies(ready.model, ready.calibration), Level(0.6))
    assert same_masks(found.masks, masks)
    assert found.report == report
    assert found.plan.threshold == plan.threshold
    assert found.settings.title in topbar.render(found)


@pytest.mark.parametrize(
    "chosen",
    [{"method": "obs"}, {"method": "wanda", "centred": True, "timestep": "log"}, {"method": "exchange"}],
    ids=str,
)
def test_clusters_rank_and_count_as_the_plan_did(ready, layer, chosen):
    before = pruning.prune(ready, read_settings({**chosen, "sparsity": 0.5}))
    clustered = before.cluster(layer, "row", "kmeans", 3)
    report = next(item for item in before.report.layers if item.name == layer)
    assert sum(row.damage for row in clustered.cluster_rows(layer)) == pytest.approx(report.damage)
    after = clustered.set_cluster_sparsity(layer, 0, 0.75)
    inside = torch.as_tensor(clustered.clusters[layer].labels == 0)
    scores, keep = before.scores(layer)[inside], after.masks[layer].unpack()[inside]
    groups = [(scores, keep)] if before.plan.layer(layer).granularity == "layer" else zip(scores, keep, strict=True)
    for values, kept in groups:
        assert values[kept].min() >= values[~kept].max()
    assert torch.equal(after.masks[layer].unpack()[~inside], before.masks[layer].unpack()[~inside])
    assert sum(row.damage for row in after.cluster_rows(layer)) == pytest.approx(
        next(item for item in after.report.layers if item.name == layer).damage
    )


def test_hessians_are_collected_once_per_calibration(ready):
    ready.prune("obs", "auto", 0.5)
    stages = []
    ready.prune("obs", "layer", 0.3, progress=lambda done, total, what: stages.append(what))
    assert stages
    assert not any("Hessian" in what or "Recording" in what for what in stages)


def test_n_m_sets_the_sparsity_and_gives_way_to_a_model_that_it_does_not_fit(ready, tiny_dit):
    found = ready.prune("wanda", "4:8", 0.9)
    assert found.report.achieved == found.report.target == 0.5
    assert all((mask.unpack().view(-1, 8).sum(1) == 4).all() for mask in found.masks.values())
    for pattern, kept in (("1:7", "auto"), ("2:4", "2:4")):
        session = Session(ready.workspace, settings=Settings("wanda", pattern, 0.3))
        assert session.load_model(str(tiny_dit)).settings == Settings("wanda", kept, 0.3)


def test_n_m_leaves_no_budget_to_choose_and_gives_it_back(ready):
    best = fields_of(READY_MADE["exchange"])
    pattern = Fields(**{**vars(best), "granularity": "N:M", "pattern": " 1:4"})
    found = pruning.prune(ready, pattern.settings)
    assert (found.report.achieved, found.settings.allocation) == (0.75, "uniform")
    assert found.settings.update == best.update
    back = Fields(**{**vars(fields_of(found.settings, pattern)), "granularity": "cag"})
    assert name_of(back.settings) == "exchange"


BAD = {
    "N:M that does not divide": ({"granularity": "3:7"}, "3:7 does not fit layer"),
    "N above M": ({"granularity": "4:2"}, "smaller than M"),
    "N:M and a budget": ({"granularity": "2:4", "allocation": "owl"}, "uniform"),
    "floors too high": ({"allocation": "damage-aware:0.8,1"}, "lower the floors"),
    "ceilings too low": ({"allocation": "damage-aware:0,0.2"}, "raise the ceilings"),
    "floor above ceiling": ({"allocation": "damage-aware:0.9,0.1"}, "the floor not above the ceiling"),
    "floor NaN": ({"allocation": "damage-aware:nan,1"}, "between 0"),
    "lambda": ({"allocation": "tempered:2"}, "between 0 and 1"),
    "lambda NaN": ({"allocation": "tempered:nan"}, "between 0 and 1"),
    "unknown allocation": ({"allocation": "fair"}, "no allocation"),
    "allocation null": ({"allocation": None}, "text"),
    "exponent NaN": ({"method": "stw:nan,1"}, "finite"),
    "exponents text": ({"method": "stw:a,1"}, "numbers"),
    "exponents both 0": ({"method": "stw:0,0"}, "both exponents 0"),
    "unknown update": ({"update": "magic"}, "no weight update"),
    "unknown timesteps": ({"timestep": "noon"}, "no timestep weighting"),
    "nine weights": ({"timestep": [1] * 9}, "10 finite numbers"),
    "one weight": ({"timestep": [1]}, "no timestep weighting"),
    "weights NaN": ({"timestep": [math.nan] * 10}, "10 finite numbers"),
    "weights all 0": ({"timestep": "0,0,0,0,0,0,0,0,0,0"}, "not all 0"),
    "sparsity NaN": ({"sparsity": math.nan}, "between 0 and 1"),
    "sparsity null": ({"sparsity": None}, "between 0 and 1"),
    "switch text": ({"centred": "yes"}, "true or false"),
    "unknown setting": ({"colour": "red"}, "no setting 'colour'"),
    "no object": ([0.5], "JSON object"),
    "nothing": (None, "JSON object"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_one_sentence_and_leave_the_session_alone(ready, name):
    asked, words = BAD[name]
    before = dict(vars(ready))
    with pytest.raises(UserError) as caught:
        pruning.prune(ready, read_settings(asked))
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 300
    assert vars(ready) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": "own", "m": None}, "numbers"),
        ({"granularity": "N:M", "pattern": ""}, "granularity"),
        ({"allocation": "damage-aware", "floor": None}, "numbers"),
        ({"timestep": BY_HAND, "weights": "1"}, "10 finite numbers"),
        ({"timestep": BY_HAND, "weights": ""}, "10 finite numbers"),
        ({"sparsity": None}, "between 0 and 1"),
    ],
)
def test_emptied_fields_are_one_sentence(ready, change, words):
    with pytest.raises(UserError, match=words):
        pruning.prune(ready, Fields(**change).settings)


def test_updates_are_made_when_needed_and_only_for_new_masks(ready, layer):
    session = ready.prune("dit-pruning", "auto", 0.7, update="obs")
    assert not weight_updates.is_current(session)
    assert "computed with the next image" in topbar.render(session)
    assert "Weight update" not in topbar.render(ready)
    made = weight_updates.update(session)
    needed = Supplies(ready.model, ready.calibration)
    oracle = update_masked(session.settings.candidate, needed, session.masks, plan=session.plan)
    assert made.keys() == oracle.keys()
    for name, update in made.items():
        assert torch.equal(update.values, oracle[name].values)
    assert "current" in topbar.render(session)
    moved = session.cluster(layer, "row", "kmeans", 2).set_cluster_sparsity(layer, 0, 0.2)
    assert not weight_updates.is_current(moved)
    again = weight_updates.update(moved)
    assert [name for name in made if again[name] is not made[name]] == [layer]
    assert torch.equal(again[layer].mask.bits, moved.masks[layer].bits)
    assert all(weight_updates.update(session)[name] is made[name] for name in made)  # the way back takes no time
    assert weight_updates.update(ready) == {}


def test_what_is_exchanged_is_drawn_and_keeps_its_counts(ready, layer):
    session = ready.prune("wanda", "auto", 0.6, exchange=True)
    assert "Exchange" in topbar.render(session)
    drawn = variant.of_session(session)
    for name, mask in drawn.masks.items():
        assert torch.equal(mask.unpack().sum(1), session.masks[name].unpack().sum(1))
        assert mask is drawn.updates[name].mask
    assert any(not torch.equal(drawn.masks[name].bits, session.masks[name].bits) for name in drawn.masks)
    columns = session.cluster(layer, "column", "kmeans", 2).set_cluster_sparsity(layer, 0, 0.2)
    again = variant.of_session(columns)
    assert [name for name in drawn.masks if again.masks[name] is not drawn.masks[name]] == [layer]
    inside = torch.from_numpy(columns.clusters[layer].labels == 0)
    assert again.masks[layer].unpack()[:, inside].sum() == columns.masks[layer].unpack()[:, inside].sum()


def test_a_sequential_update_is_made_anew_as_a_whole(ready, layer):
    session = ready.prune("wanda", "auto", 0.6, update="least-squares", sequential=True)
    made = weight_updates.update(session)
    moved = session.cluster(layer, "row", "kmeans", 2).set_cluster_sparsity(layer, 0, 0.2)
    again = weight_updates.update(moved)
    assert not any(again[name] is made[name] for name in made)
    last = session.model.layers[-1].name
    assert not torch.equal(again[last].values, made[last].values)


def test_distilled_masks_are_drawn_keep_their_counts_and_hang_together(ready, layer):
    session = ready.prune("wanda", "auto", 0.6, distil=2)
    assert "Distilled in 2 steps" in topbar.render(session)
    drawn = variant.of_session(session)
    assert weight_updates.is_current(session)
    for name, mask in drawn.masks.items():
        assert mask.removed == session.masks[name].removed
    assert any(drawn.masks[name].differing(session.masks[name]) for name in drawn.masks)
    columns = session.cluster(layer, "column", "kmeans", 2).set_cluster_sparsity(layer, 0, 0.2)
    assert not weight_updates.is_current(columns)
    again = variant.of_session(columns)
    assert not any(again.masks[name] is drawn.masks[name] for name in drawn.masks)
    inside = torch.from_numpy(columns.clusters[layer].labels == 0)
    assert again.masks[layer].unpack()[:, inside].sum() == columns.masks[layer].unpack()[:, inside].sum()
    with pytest.raises(UserError, match="distillation steps"):
        ready.prune("wanda", "auto", 0.6, distil=-1)


def test_a_cancelled_update_keeps_nothing_and_the_picture_uses_the_finished_one(ready):
    def stop(done, total, what):
        if what.startswith("Updating"):
            raise Cancelled

    session = ready.prune("dit-pruning", "auto", 0.8, update="least-squares")
    with pytest.raises(Cancelled):
        compare(session, "a cat", 0, 2, progress=stop)
    assert not weight_updates.is_current(session)
    updated = compare(session, "a cat", 0, 2)
    assert weight_updates.is_current(session)
    masked = compare(ready.prune("dit-pruning", "auto", 0.8), "a cat", 0, 2)
    assert updated.right.images[0].tobytes() != masked.right.images[0].tobytes()
    assert updated.left is masked.left


def test_sensitivity_is_measured_as_the_plan_ranks_and_forgotten_with_another_ranking(ready):
    assert ready.sensitivity == {}
    session = ready.prune("wanda", "row", 0.3, centred=True)
    sensed = pruning.sense(session)
    assert sensed.sensitivity.keys() == session.masks.keys()
    assert all(math.isfinite(error) and error >= 0 for error in sensed.sensitivity.values())
    assert max(sensed.sensitivity.values()) > 0
    assert sensed.prune("wanda", "row", 0.6, centred=True).sensitivity == sensed.sensitivity
    assert sensed.prune("wanda", "row", 0.3).sensitivity == {}
    assert sensed.calibrate(8, 1).sensitivity == {}

    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        pruning.sense(session, stop)


def test_convergence_of_the_present_plan(ready):
    found = pruning.converge(ready.prune("exchange", "auto", 0.5))
    assert found.sizes == (16, 32, 64, 128, 256)
    assert len(found.changed) == 4
    assert found.to_largest[0] > found.to_largest[3] > found.to_largest[4] == 0
    with pytest.raises(UserError, match="another than OBS"):
        pruning.converge(ready.prune("obs", "auto", 0.5))


@pytest.mark.parametrize(
    ("weights", "bins"),
    [("1, 0, 0.5", [0, 2]), ("1 1 0 0 2", [0, 1, 4]), ("0;0;3", [2]), ("", []), ("one, two", []), ("1,", [0])],
)
def test_boxes_of_timesteps_follow_weights_however_they_are_written(weights, bins):
    assert method_fields._bins_of(weights) == bins


def test_boxes_of_timesteps_become_weights_that_mean_the_same():
    assert method_fields._bins_of(method_fields._weights_of([0, 3, 9])) == [0, 3, 9]
