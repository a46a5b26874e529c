"""The recipe as a form, and what a session makes of every kind of recipe."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sessions import pruned_by

from dit_prune_viz.app.pages.map import view as map_view
from dit_prune_viz.app.pages.topbar import page as topbar
from dit_prune_viz.app.session import drawn_model, measuring
from dit_prune_viz.app.session import recipe_form as form
from dit_prune_viz.app.session.cluster_edits import set_sparsity
from dit_prune_viz.app.session.comparison import compare
from dit_prune_viz.app.session.finishing import finish, is_finished
from dit_prune_viz.app.session.history import History
from dit_prune_viz.app.session.recipe_io import read_recipe
from dit_prune_viz.app.session.recipe_titles import CUSTOM, label_of, sentence_of
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.calibration.timestep_weights import SCHEMES
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.pruning.limits import read_bounds
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, find_recipe
from dit_prune_viz.pruning.prune import finish_layers, rank
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_words import title_of

TEN = "0,0,0,1,1,2,1,1,0,0.5"


@pytest.fixture(scope="module")
def layer(ready):
    return next(item.name for item in ready.model.layers if item.kind == "adaLN")


def same_masks(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name].bits, second[name].bits) for name in first)


def recipe(granularity: str, allocation: str, bounds: dict, **fields) -> Recipe:
    fixed = ":" in granularity
    free = {} if fixed else {"allocation": allocation, "bounds": bounds}
    return Recipe(granularity=granularity, **free, **{**fields, "sensitivity": fields["sensitivity"] and not fixed})


recipes = st.builds(
    recipe,
    saliency=st.sampled_from(["stw", "wanda", "magnitude", "ria", "ria:0.7", "obs"])
    | st.builds("stw:{:g},{:g}".format, st.sampled_from([0.5, 1, 3]), st.sampled_from([0.5, 2])),
    granularity=st.sampled_from(["auto", "cag", "layer", "row", "column", "2:4", "4:8"]),
    sparsity=st.integers(0, 100).map(lambda share: share / 100),
    allocation=st.sampled_from(
        ["uniform", "owl", "owl:6,0.1", "tempered:0.35", "damage-aware", "damage-aware:0.2,0.9", "global", "global:sum"]
    ),
    search=st.sampled_from([(), ("swap",), ("distil:50",), ("swap", "distil:300")]),
    update=st.sampled_from(["", "mean", "obs", "least-squares", "tuned", "tuned:20"]),
    timestep=st.sampled_from([*SCHEMES, TEN]),
    sensitivity=st.booleans(),
    sequential=st.booleans(),
    centred=st.booleans(),
    ignore=st.sampled_from([(), ("adaLN",), ("block 3", "*.to_q", "blocks 0-2")]),
    bounds=st.sampled_from([{}, {"adaLN": (0, 0.4)}, {"attn out": (0.125, 1), "block 3": (0.3, 0.3)}]),
)


@given(recipes)
def test_fields_ask_for_the_recipe_they_show(chosen):
    values = form.values_of(chosen)
    assert form.recipe_of(values) == chosen
    assert form.values_of(form.recipe_of(values), values) == values
    assert set(form.visible(values)) <= set(values)


@given(recipes)
def test_every_recipe_has_a_label_and_a_sentence(chosen):
    name = form.name_for(chosen) or CUSTOM
    assert label_of(name)
    assert title_of(chosen)
    assert sentence_of(name).endswith(".")


def test_every_named_recipe_is_known_by_its_fields_and_a_change_makes_it_custom():
    for name, named in NAMED_RECIPES.items():
        values = form.values_of(named.recipe)
        assert form.name_for(form.recipe_of(values)) == name
        changed = {**values, "timestep": form.BY_HAND, "weights": TEN}
        assert form.name_for(form.recipe_of(changed)) is None
        assert named.explanation[1:] in sentence_of(name)


def test_dense_layers_and_bounds_are_texts_that_stay_while_other_fields_change():
    values = {**form.defaults(), "ignore": "block 3, *.to_q", "bounds": "adaLN: 0-40, block 1 : 20.5–60 %; q: 30"}
    asked = form.recipe_of(values)
    assert asked.ignore == ("block 3", "*.to_q")
    assert asked.bounds == read_bounds({"adaLN": (0, 0.4), "block 1": (0.205, 0.6), "q": (0.3, 0.3)})
    assert form.values_of(asked)["bounds"] == "adaLN: 0-40, block 1: 20.5-60, q: 30"
    assert form.recipe_of({**values, "sparsity": 70}) == replace(asked, sparsity=0.7)
    chosen = form.choose("wanda", values)
    assert form.recipe_of(chosen) == replace(find_recipe("wanda"), ignore=asked.ignore, bounds=asked.bounds)
    assert form.name_for(form.recipe_of(chosen)) == "wanda"
    fixed = form.recipe_of({**values, "granularity": form.PATTERN})
    assert (fixed.ignore, fixed.bounds) == (asked.ignore, ())
    assert not form.visible({**values, "granularity": form.PATTERN})["bounds"]
    assert form.recipe_of({**values, "ignore": None, "bounds": None}) == Recipe()


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("bounds", "adaLN", "written as adaLN: 0-40"),
        ("bounds", "adaLN: ten", "written as adaLN: 0-40"),
        ("bounds", "adaLN: -5-40", "written as adaLN: 0-40"),
        ("bounds", "adaLN: 0-140", "between 0 and 100"),
        ("bounds", "adaLN: 40-10", "lies above its ceiling"),
        ("bounds", "adaLN: 1, adaLN: 2", "adaLN has two floors"),
        ("bounds", "<b>: 1", "names no layers"),
        ("ignore", "<b>", "names no layers"),
    ],
)
def test_texts_that_say_nothing_are_one_sentence(field, text, words):
    with pytest.raises(UserError, match=words):
        form.recipe_of({**form.defaults(), field: text})


def test_options_are_seen_only_where_their_method_is_chosen():
    shown = form.visible(form.defaults())
    assert shown["saliency:stw:m"]
    assert not shown["allocation:tempered:lam"]
    assert not shown["search:distil:steps"]
    shown = form.visible(form.values_of(find_recipe("distilled-update")))
    assert shown["allocation:tempered:lam"]
    assert shown["search:distil:steps"]
    assert shown["update:tuned:steps"]
    assert not form.visible({**form.defaults(), "granularity": form.PATTERN})["sparsity"]


def test_a_recipe_that_prunes_nothing_asks_for_no_sparsity():
    at_seventy = {**form.defaults(), "sparsity": 70, "bounds": "adaLN: 10-40"}
    values = form.choose("int4", at_seventy)
    assert form.recipe_of(values) == find_recipe("int4")
    assert form.recipe_of(values).sparsity == 0
    shown = form.visible(values)
    assert not any(shown[field] for field in ("sparsity", "allocation", "sensitivity", "sequential"))
    assert shown["update:round:bits"]
    assert shown["update:round:group"]
    assert form.values_of(form.recipe_of(values), values) == values  # 70 is still there for the next recipe
    assert form.recipe_of(form.choose("wanda", values)).sparsity == 0.7
    assert "none" not in form.recipe_names()
    assert form.visible(form.choose("dit-pruning+int8", values))["sparsity"]


def test_a_recipe_in_json_starts_from_a_named_one_or_the_default(ready):
    best = read_recipe({"method": "exchange", "sparsity": 0.6}, ready.recipe)
    assert best == replace(find_recipe("swap"), sparsity=0.6, calibration=ready.recipe.calibration)
    assert read_recipe({"method": "swap", "update": ""}, ready.recipe).update == ""
    assert read_recipe({}, ready.recipe) == replace(Recipe(), calibration=ready.recipe.calibration)
    assert read_recipe({"saliency": "ria", "timestep": [1] * 10}, Recipe()).timestep.count("1") == 10


@pytest.mark.parametrize("name", ["ria", "obs", "stw:3,1", *NAMED_RECIPES])
def test_a_session_prunes_as_the_library_does(ready, name):
    found = pruned_by(ready, name, sparsity=0.6)
    expected = rank(replace(find_recipe(name), sparsity=0.6), ready.statistics)
    assert same_masks(found.masks, {layer: made.mask for layer, made in expected.layers.items()})
    assert found.report == expected.report
    assert found.plan.threshold == expected.plan.threshold
    assert title_of(found.recipe) in topbar.render(found)


@pytest.mark.parametrize(
    "chosen",
    [{"saliency": "obs"}, {"saliency": "wanda", "centred": True, "timestep": "log"}, {"method": "swap"}],
    ids=str,
)
def test_clusters_rank_and_count_as_the_plan_did(ready, layer, chosen):
    before = ready.prune(read_recipe({**chosen, "sparsity": 0.5}, ready.recipe))
    clustered = before.cluster(layer, "row", "kmeans", 3)
    report = next(item for item in before.report.layers if item.name == layer)
    assert sum(row.damage for row in clustered.cluster_rows(layer)) == pytest.approx(report.damage)
    after = set_sparsity(clustered, layer, 0, 0.75)
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
    pruned_by(ready, "obs")
    stages = []
    pruned_by(ready, "obs", "layer", 0.3, progress=lambda done, total, what: stages.append(what))
    assert stages
    assert not any("Hessian" in what or "Recording" in what for what in stages)


def test_n_m_sets_the_sparsity_and_gives_way_to_a_model_that_it_does_not_fit(ready, tiny_dit):
    found = pruned_by(ready, "wanda", "4:8", 0.9)
    assert found.report.achieved == found.report.target == 0.5
    assert all((mask.unpack().view(-1, 8).sum(1) == 4).all() for mask in found.masks.values())
    for pattern, kept in (("1:7", "auto"), ("2:4", "2:4")):
        session = Session(ready.store, recipe=Recipe("wanda", pattern))
        assert session.load_model(str(tiny_dit)).recipe.granularity == kept


def test_n_m_leaves_no_budget_to_choose_and_gives_it_back(ready):
    best = form.values_of(find_recipe("swap"))
    pattern = {**best, "granularity": form.PATTERN, "pattern": " 1:4"}
    found = ready.prune(form.recipe_of(pattern, ready.recipe.calibration))
    assert (found.report.achieved, found.recipe.allocation) == (0.75, "uniform")
    assert found.recipe.update == "mean"
    back = {**form.values_of(found.recipe, pattern), "granularity": "cag"}
    assert form.name_for(form.recipe_of(back)) == "swap"


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
    "exponent NaN": ({"saliency": "stw:nan,1"}, "finite"),
    "exponents text": ({"saliency": "stw:a,1"}, "number"),
    "exponents both 0": ({"saliency": "stw:0,0"}, "both exponents 0"),
    "too many exponents": ({"saliency": "stw:1,1,1"}, "at most 2 options"),
    "unknown method": ({"method": "guess"}, "no recipe"),
    "unknown update": ({"update": "magic"}, "no update"),
    "unknown search": ({"search": ["magic"]}, "no search"),
    "no steps": ({"search": ["distil:0"]}, "distillation steps"),
    "unknown timesteps": ({"timestep": "noon"}, "no timestep weighting"),
    "nine weights": ({"timestep": [1] * 9}, "10 finite numbers"),
    "one weight": ({"timestep": [1]}, "10 finite numbers"),
    "weights NaN": ({"timestep": [math.nan] * 10}, "10 finite numbers"),
    "weights all 0": ({"timestep": "0,0,0,0,0,0,0,0,0,0"}, "not all 0"),
    "sparsity NaN": ({"sparsity": math.nan}, "between 0 and 1"),
    "sparsity null": ({"sparsity": None}, "between 0 and 1"),
    "switch text": ({"centred": "yes"}, "true or false"),
    "unknown key": ({"colour": "red"}, "no 'colour'"),
    "no object": ([0.5], "JSON object"),
    "nothing": (None, "JSON object"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_recipes_are_one_sentence_and_leave_the_session_alone(ready, name):
    asked, words = BAD[name]
    before = dict(vars(ready))
    with pytest.raises(UserError) as caught:
        ready.prune(read_recipe(asked, ready.recipe))
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 300
    assert vars(ready) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"saliency:stw:m": None}, "must be a number, but it is empty"),
        ({"granularity": form.PATTERN, "pattern": ""}, "granularity"),
        ({"allocation": "damage-aware", "allocation:damage-aware:floor": None}, "must be a number, but it is empty"),
        ({"timestep": form.BY_HAND, "weights": "1"}, "10 finite numbers"),
        ({"timestep": form.BY_HAND, "weights": ""}, "10 finite numbers"),
        ({"sparsity": None}, "percent must be a number from 0 to 100, but it is empty"),
        ({"sparsity": 150}, "must be a number from 0 to 100, but it is 150"),
        ({"sparsity": "many"}, "must be a number from 0 to 100, but it is 'many'"),
    ],
)
def test_emptied_fields_are_one_sentence(change, words):
    with pytest.raises(UserError, match=words):
        form.recipe_of({**form.defaults(), **change})


@pytest.mark.parametrize(
    ("recipe", "label"),
    [
        ({"update": "obs"}, "Weight update"),
        ({"search": "swap"}, "Mask search"),
        ({"search": "swap", "update": "mean"}, "Mask search + update"),
    ],
)
def test_the_bar_names_what_follows_the_ranking(ready, recipe, label):
    assert f'<span class="fact-label">{label}</span>' in topbar.render(pruned_by(ready, "dit-pruning", **recipe))


def test_updates_are_made_when_needed_and_only_for_new_masks(ready, layer):
    session = pruned_by(ready, "dit-pruning", sparsity=0.7, update="obs")
    assert not is_finished(session)
    assert "computed with the next image" in topbar.render(session)
    assert "Weight update" not in topbar.render(ready)
    made = finish(session).layers
    oracle = finish_layers(session.plan, session.masks, ready.statistics)
    for name, found in made.items():
        assert torch.equal(found.values, oracle[name].values)
    assert "computed with the next image" not in topbar.render(session)
    moved = set_sparsity(session.cluster(layer, "row", "kmeans", 2), layer, 0, 0.2)
    assert not is_finished(moved)
    again = finish(moved).layers
    assert [name for name in made if again[name] is not made[name]] == [layer]
    assert torch.equal(again[layer].mask.bits, moved.masks[layer].bits)
    assert all(finish(session).layers[name] is made[name] for name in made)  # the way back takes no time
    assert finish(ready) is ready.pruned


def test_what_is_swapped_is_drawn_and_keeps_its_counts(ready, layer):
    session = pruned_by(ready, "wanda", sparsity=0.6, search=("swap",))
    assert "Swap" in topbar.render(session)
    drawn = drawn_model.of_session(session)
    for name, found in drawn.layers.items():
        assert torch.equal(found.mask.unpack().sum(1), session.masks[name].unpack().sum(1))
    assert any(found.mask.differing(session.masks[name]) for name, found in drawn.layers.items())
    columns = set_sparsity(session.cluster(layer, "column", "kmeans", 2), layer, 0, 0.2)
    again = drawn_model.of_session(columns)
    assert [name for name in drawn.layers if again.layers[name] is not drawn.layers[name]] == [layer]
    inside = torch.from_numpy(columns.clusters[layer].labels == 0)
    kept = again.layers[layer].mask.unpack()[:, inside].sum()
    assert kept == columns.masks[layer].unpack()[:, inside].sum()


def test_a_sequential_update_is_made_anew_as_a_whole(ready, layer):
    session = pruned_by(ready, "wanda", sparsity=0.6, update="least-squares", sequential=True)
    made = finish(session).layers
    moved = set_sparsity(session.cluster(layer, "row", "kmeans", 2), layer, 0, 0.2)
    again = finish(moved).layers
    assert not any(again[name] is made[name] for name in made)
    last = session.model.layers[-1].name
    assert not torch.equal(again[last].values, made[last].values)


def test_distilled_masks_are_drawn_keep_their_counts_and_hang_together(ready, layer):
    session = pruned_by(ready, "wanda", sparsity=0.6, search=("distil:2",))
    assert "steps = 2" in topbar.render(session)
    drawn = drawn_model.of_session(session)
    assert is_finished(session)
    for name, found in drawn.layers.items():
        assert found.mask.removed == session.masks[name].removed
    assert any(found.mask.differing(session.masks[name]) for name, found in drawn.layers.items())
    columns = set_sparsity(session.cluster(layer, "column", "kmeans", 2), layer, 0, 0.2)
    assert not is_finished(columns)
    again = drawn_model.of_session(columns)
    assert not any(again.layers[name] is drawn.layers[name] for name in drawn.layers)
    inside = torch.from_numpy(columns.clusters[layer].labels == 0)
    kept = again.layers[layer].mask.unpack()[:, inside].sum()
    assert kept == columns.masks[layer].unpack()[:, inside].sum()


def test_a_cancelled_update_keeps_nothing_and_the_picture_uses_the_finished_one(ready):
    def stop(done, total, what):
        if what.startswith("Updating"):
            raise Cancelled

    session = pruned_by(ready, "dit-pruning", sparsity=0.8, update="least-squares")
    with pytest.raises(Cancelled):
        compare(session, "a cat", 0, 2, progress=stop)
    assert not is_finished(session)
    updated = compare(session, "a cat", 0, 2)
    assert is_finished(session)
    masked = compare(pruned_by(ready, "dit-pruning", sparsity=0.8), "a cat", 0, 2)
    assert updated.right.images[0].tobytes() != masked.right.images[0].tobytes()
    assert updated.left is masked.left


def test_sensitivity_is_measured_as_the_plan_ranks_and_stays_whatever_the_recipe(ready):
    assert ready.sensitivity is None
    session = pruned_by(ready, "wanda", "row", 0.3, centred=True)
    sensed = measuring.sense(session)
    first = sensed.sensitivity
    assert first.recipe == session.recipe
    assert first.errors.keys() == session.masks.keys()
    assert all(math.isfinite(error) and error >= 0 for error in first.errors.values())
    assert max(first.errors.values()) > 0
    assert pruned_by(sensed, "wanda", "row", 0.6, centred=True).sensitivity is first
    assert sensed.calibrate(8, 1).sensitivity is first
    other = pruned_by(sensed, "magnitude")
    assert other.sensitivity is first
    title = map_view.heat_figure(other, "sensitivity").layout.title.text
    assert title == "Measured sensitivity, measured with Wanda, centred inputs"
    # Each recipe has its own again when it comes back.
    both = measuring.sense(other)
    assert both.sensitivity is not first
    assert map_view.heat_figure(both, "sensitivity").layout.title.text == "Measured sensitivity"
    again = pruned_by(both, "wanda", "row", 0.4, centred=True)
    assert again.sensitivity is first

    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        measuring.sense(session, stop)


def test_undo_keeps_what_was_measured_meanwhile(ready):
    history = History()
    pruned = pruned_by(ready, "wanda")
    history.step(ready, pruned, "the recipe")
    sensed = measuring.sense(pruned)
    history.step(pruned, sensed, None)
    assert history.undo().sensitivity is sensed.sensitivity


def test_convergence_of_the_present_plan(ready):
    found = measuring.converge(pruned_by(ready, "swap"))
    assert found.sizes == (16, 32, 64, 128, 256)
    assert len(found.changed) == 4
    assert found.to_largest[0] > found.to_largest[3] > found.to_largest[4] == 0
    with pytest.raises(UserError, match="another than OBS"):
        measuring.converge(pruned_by(ready, "obs"))


@pytest.mark.parametrize(
    ("weights", "bins"),
    [("1, 0, 0.5", [0, 2]), ("1 1 0 0 2", [0, 1, 4]), ("0;0;3", [2]), ("", []), ("one, two", []), ("1,", [0])],
)
def test_boxes_of_timesteps_follow_weights_however_they_are_written(weights, bins):
    assert form.bins_of_weights(weights) == bins


def test_boxes_of_timesteps_become_weights_that_mean_the_same():
    assert form.bins_of_weights(form.weights_of_bins([0, 3, 9])) == [0, 3, 9]
