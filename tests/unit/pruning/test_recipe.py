"""Recipes as values: JSON both ways, names, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.clustering.clusters import Tag
from dit_prune_viz.clustering.units import UNITS, count_units
from dit_prune_viz.errors import UserError
from dit_prune_viz.masks.layer_plan import ClusterPlan, LayerPlan
from dit_prune_viz.pruning.named_recipes import ALIASES, NAMED_RECIPES, find_recipe, name_of
from dit_prune_viz.pruning.recipe import SCHEMA, Recipe
from dit_prune_viz.pruning.tuned_layer import TunedLayer

EXPONENTS = st.floats(0.001, 8, allow_nan=False)
SALIENCIES = st.one_of(
    st.sampled_from(["magnitude", "wanda", "ria", "stw", "obs", "dit-pruning"]),
    st.builds("stw:{!r},{!r}".format, EXPONENTS, EXPONENTS),
    st.builds("ria:{!r}".format, EXPONENTS),
)
ALLOCATIONS = st.one_of(
    st.sampled_from(["uniform", "owl", "tempered", "damage-aware", "global:sum"]),
    st.builds("tempered:{!r}".format, st.floats(0, 1)),
    st.builds("owl:{!r},{!r}".format, st.floats(0.1, 30), st.floats(0, 1)),
)
SEARCHES = st.lists(st.sampled_from(["swap", "exchange", "distil", "distil:20"]), max_size=3)
UPDATES = st.sampled_from(["", "mean", "obs", "least-squares", "tuned", "tuned:30"])
PATTERNS = st.text("abcXYZ019._*? é-", min_size=1, max_size=9).filter(lambda text: text.strip())
SHARES = st.floats(0, 1)
TAGS = st.builds(Tag, st.text("ab <é✂", min_size=1, max_size=5).filter(str.strip), st.integers(0, 70), st.booleans())
TEXTS = st.text(min_size=1, max_size=8).filter(
    lambda text: text.strip() and not any("\ud800" <= c <= "\udfff" for c in text)
)


@st.composite
def layer_plans(draw) -> LayerPlan:
    """Of a layer of 3 × 4 weights, clustered up to three times."""
    clusters = None
    for _ in range(draw(st.integers(0, 3))):
        unit, k = draw(st.sampled_from(UNITS)), draw(st.integers(1, 3))
        units = count_units((3, 4), unit)
        labels = draw(st.lists(st.integers(0, k - 1), min_size=units, max_size=units))
        shares = draw(st.lists(st.none() | SHARES, min_size=k, max_size=k))
        tags = draw(st.just(()) | st.lists(TAGS, min_size=k, max_size=k).map(tuple))
        clusters = ClusterPlan(unit, np.array(labels), tuple(shares), clusters, tags)
    count = draw(st.none() | st.integers(0, 12))
    return LayerPlan(draw(TEXTS), draw(st.sampled_from(["layer", "row"])), 0.1, draw(SHARES), clusters, count)


@given(layer_plans())
def test_a_layer_set_by_hand_comes_back_from_its_json(plan):
    packed = TunedLayer.of(plan)
    again = TunedLayer.from_dict(json.loads(json.dumps(packed.to_dict())))
    assert again == packed
    assert hash(again) == hash(packed)
    back = again.plan(LayerPlan(plan.name, "column", 0.1, 0.9), (3, 4))
    assert back == plan
    assert TunedLayer.of(back) == packed
    if plan.clusters is not None:
        assert back.clusters.tags == plan.clusters.tags
        with pytest.raises(UserError, match=r"do not fit a layer|cannot go"):
            again.plan(LayerPlan(plan.name, "column", 0.1, 0.9), (5, 7))


@st.composite
def recipes(draw) -> Recipe:
    calibration = CalibrationSettings(
        samples=draw(st.integers(1, 100_000)),
        seed=draw(st.integers(0, 2**32 - 1)),
        steps=draw(st.none() | st.integers(1, 1000)),
        bins=draw(st.integers(2, 12)),
        prompts=draw(st.none() | st.lists(TEXTS, min_size=1, max_size=3).map(tuple)),
    )
    numbers = st.lists(st.floats(0.1, 9), min_size=calibration.bins, max_size=calibration.bins)
    granularity = draw(st.sampled_from(["auto", "layer", "row", "column", "cag", "2:4", "1:3"]))
    bounds = st.dictionaries(PATTERNS, st.tuples(SHARES, SHARES).map(sorted), max_size=2)
    return Recipe(
        ignore=tuple(draw(st.lists(PATTERNS, max_size=2))),
        bounds={} if ":" in granularity else draw(bounds),
        tuned=draw(st.lists(layer_plans().map(TunedLayer.of), max_size=2, unique_by=lambda layer: layer.name)),
        saliency=draw(SALIENCIES),
        granularity=granularity,
        sparsity=draw(st.floats(0, 1)),
        threshold=draw(st.none() | st.floats(0, 1e9)),
        allocation="uniform" if ":" in granularity else draw(ALLOCATIONS),
        sensitivity=draw(st.booleans()),
        search=tuple(draw(SEARCHES)),
        update=draw(UPDATES),
        timestep=draw(
            st.sampled_from(["uniform", "early", "late", "log"])
            | numbers.map(lambda values: ",".join(map(repr, values)))
        ),
        centred=draw(st.booleans()),
        sequential=draw(st.booleans()),
        calibration=calibration,
    )


@settings(max_examples=150)
@given(recipes(), st.sampled_from([None, 1]))
def test_json_is_equal_both_ways(recipe, indent):
    text = recipe.to_json(indent)
    assert Recipe.from_json(text) == recipe
    assert hash(Recipe.from_json(text)) == hash(recipe)
    assert Recipe.from_json(text).to_json(indent) == text
    values = json.loads(text, parse_constant=pytest.fail)
    assert values.pop("schema") == SCHEMA
    assert set(values) == set(vars(recipe))


@settings(max_examples=50)
@given(recipes())
def test_what_differs_from_the_defaults_is_enough(recipe):
    assert Recipe.from_dict(recipe.changes) == recipe
    assert json.loads(json.dumps(recipe.changes)) == recipe.changes


def test_all_fields_have_defaults():
    assert Recipe.from_json("{}") == Recipe.from_json('{"schema": 1}') == Recipe.from_json('{"schema": 2}') == Recipe()
    assert Recipe.from_json('{"schema": 3}') == Recipe()
    assert Recipe().changes == {}
    assert Recipe(saliency="wanda", sparsity=0.6).changes == {"saliency": "wanda", "sparsity": 0.6}
    assert Recipe.from_json('{"sparsity": 1}').sparsity == 1
    weights = Recipe.from_json('{"timestep": [1, 0.5], "calibration": {"bins": 2}}')
    assert weights.timestep == Recipe(timestep="1,0.5,", calibration=CalibrationSettings(bins=2)).timestep
    with pytest.raises(FrozenInstanceError):
        Recipe().sparsity = 0.1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON object"),
        ("{", "JSON object"),
        ("[]", "JSON object"),
        ("null", "JSON object"),
        ("3", "JSON object"),
        (None, "JSON object"),
        ("[" * 100_000, "JSON object"),
        ('{"sparsity": NaN}', "JSON object"),
        ('{"sparsity": Infinity}', "JSON object"),
        ('{"threshold": -Infinity}', "JSON object"),
        ('{"sparsity": 1e999}', "Sparsity must"),
        ('{"threshold": 1e999}', "threshold must be a number of 0 or more"),
        ('{"schema": 4}', "has schema 4"),
        ('{"schema": 0}', "has schema 0"),
        ('{"sparsity": 0.5, "sparsity": 0.6}', "key 'sparsity' is there twice"),
        ('{"calibration": {"seed": 1, "seed": 1}}', "key 'seed' is there twice"),
        ('{"schema": null}', "has schema None"),
        ('{"schema": true}', "has schema True"),
        ('{"colour": 1}', "has no 'colour'"),
        ('{"method": "wanda"}', "has no 'method'; choose among saliency"),
        ('{"calibration": {"sample": 3}}', "calibration has no 'sample'"),
        ('{"calibration": 3}', "calibration is a JSON object"),
        ('{"calibration": null}', "calibration is a JSON object"),
        ('{"calibration": {"samples": 0}}', "calibration samples must be"),
        ('{"calibration": {"samples": "many"}}', "calibration samples must be"),
        ('{"calibration": {"prompts": []}}', "at least one prompt"),
        ('{"calibration": {"prompts": ["\\ud83d"]}}', "prompt for calibration"),
        ('{"saliency": 3}', "saliency is a text, not 3"),
        ('{"saliency": "best"}', "no saliency 'best'"),
        ('{"saliency": "stw:NaN,1"}', "finite number"),
        ('{"saliency": "wanda:1"}', "takes no options"),
        ('{"granularity": ["row"]}', "granularity is a text"),
        ('{"granularity": "4:2"}', "N must be smaller than M"),
        ('{"granularity": "2:4", "allocation": "owl"}', "choose the allocation uniform"),
        ('{"sparsity": "0.5"}', "Sparsity must"),
        ('{"sparsity": true}', "Sparsity must"),
        ('{"sparsity": null}', "Sparsity must"),
        ('{"sparsity": 1.01}', "Sparsity must"),
        ('{"threshold": true}', "threshold must"),
        ('{"threshold": -1}', "threshold must"),
        ('{"allocation": {}}', "allocation is a text"),
        ('{"sensitivity": 1}', "sensitivity is either true or false"),
        ('{"centred": "yes"}', "centred is either true or false"),
        ('{"sequential": null}', "sequential is either true or false"),
        ('{"search": {"swap": 1}}', "search is a list of texts"),
        ('{"search": [3]}', "search is a list of texts"),
        ('{"search": ["hope"]}', "no search 'hope'"),
        ('{"search": ["distil:-3"]}', "distillation steps"),
        ('{"update": null}', "update is a text"),
        ('{"update": "hope"}', "no update 'hope'"),
        ('{"timestep": 3}', "timestep is a text"),
        ('{"timestep": [1, 2]}', "10 finite numbers"),
        ('{"timestep": "noon"}', "no timestep weighting"),
        ('{"timestep": "early", "calibration": {"bins": 1}}', "no early half"),
    ],
)
def test_what_is_no_recipe_is_one_sentence(text, words):
    with pytest.raises(UserError, match=words) as caught:
        Recipe.from_json(text)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 250


def test_options_keep_all_their_digits_and_defaults_are_left_out():
    assert Recipe("stw:1.23456789012,1").method.m == 1.23456789012
    assert Recipe("stw:2,1") == Recipe("stw: 2.0 , 1") == Recipe("dit-pruning") == Recipe()
    assert Recipe(search="exchange") == Recipe(search=("swap",)) == Recipe(search=["swap"])
    assert Recipe(search="").search == ()


def test_patterns_decide_the_sparsity():
    assert Recipe(granularity="1:4", sparsity=0.2).sparsity == 0.75
    assert Recipe("wanda", sparsity=0.3).at("2:4") == Recipe("wanda", "2:4")
    assert Recipe("wanda").at(0.3) == Recipe("wanda", sparsity=0.3)
    searched = Recipe(allocation="tempered", sensitivity=True, search="swap", threshold=1.0)
    assert searched.at("2:4") == Recipe(granularity="2:4", search="swap")
    for refused in (Recipe("wanda", "layer"), Recipe(allocation="tempered")):
        with pytest.raises(UserError, match="groups of its own"):
            refused.at("2:4")
    for bad in ("half", "50%", ""):
        with pytest.raises(UserError, match="from 0 to 1 or a pattern"):
            Recipe().at(bad)


@pytest.mark.parametrize("named", NAMED_RECIPES.values(), ids=list(NAMED_RECIPES))
def test_named_recipes_are_values(named):
    assert NAMED_RECIPES[named.name] is named
    assert Recipe.from_json(named.recipe.to_json()) == named.recipe
    assert find_recipe(named.name) == find_recipe(named.recipe) == named.recipe
    assert name_of(named.recipe) == named.name
    other = replace(named.recipe, sparsity=0.7, threshold=0.2, calibration=CalibrationSettings(samples=9))
    assert name_of(other) == named.name
    assert name_of(replace(named.recipe, timestep="log")) is None
    assert named.explanation


def test_names_that_mean_the_same():
    assert {alias: NAMED_RECIPES[name].recipe for alias, name in ALIASES.items()} == {
        alias: find_recipe(alias) for alias in ALIASES
    }
    assert name_of(Recipe(granularity="cag")) == "dit-pruning"
    assert name_of(Recipe("wanda", "row", sensitivity=True, sequential=True)) == "wanda"
    assert name_of(Recipe("wanda", "layer")) is None
    with pytest.raises(TypeError):
        NAMED_RECIPES["wanda"] = NAMED_RECIPES["ria"]


def test_a_recipe_is_found_by_name_saliency_or_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"saliency": "ria", "sparsity": 0.7}', encoding="utf-8")
    assert find_recipe(path) == find_recipe(str(path)) == Recipe("ria", sparsity=0.7)
    assert find_recipe("stw:1.5,1") == Recipe("stw:1.5,1")
    for bad in ("nothing", None, 3, "", ["wanda"]):
        with pytest.raises(UserError, match="There is no recipe"):
            find_recipe(bad)
    with pytest.raises(UserError, match=r"nowhere\.json cannot be read"):
        find_recipe("nowhere.json")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="it is no text"):
        find_recipe(path)
