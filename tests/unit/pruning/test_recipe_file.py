"""A recipe's file: which model it is for, what it refuses, and that it is written whole or not at all."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
import zlib
from base64 import b64encode
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dit_prune_viz as dpv
from dit_prune_viz.calibration.calibrate import calibrate
from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.clustering.clusters import Clusters, Tag
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pruning.named_recipes import find_recipe
from dit_prune_viz.pruning.prune import prune, rank_again
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_file import parse_recipe, read_recipe, recipe_text, write_recipe

SETTINGS = CalibrationSettings(samples=8)


@pytest.fixture(scope="module")
def statistics(flux):
    return Statistics(flux, calibrate(flux, samples=8, seed=0))


@pytest.fixture(scope="module")
def tuned(flux, statistics):
    """A model with two clusters of one layer by hand, and another layer as a whole."""
    recipe = Recipe(ignore="adaLN", bounds={"mlp *": (0.1, 0.9)}, calibration=SETTINGS)
    made = prune(flux, recipe, statistics=statistics)
    first, second = flux.layers[1], flux.layers[2]
    tags = (Tag("quiet <b>", 2, True), Tag("loud", 0))
    clusters = Clusters("row", "kmeans", np.arange(first.shape[0]) % 2, 2, tags=tags)
    plan = made.plan.with_clusters(first.name, clusters).with_cluster_sparsity(first.name, 1, 0.8)
    columns = Clusters("column", "kmeans", np.arange(first.shape[1]) // 5 % 3, 3)
    plan = plan.with_clusters(first.name, columns).with_cluster_sparsity(first.name, 0, 0.25)
    return rank_again(made, plan.with_layer(plan.layer(second.name).with_sparsity(0.4)), statistics)


@pytest.fixture(scope="module")
def text(flux, tuned):
    return recipe_text(tuned, flux)


def same_masks(first, second) -> bool:
    return all(torch.equal(mask.bits, second.packed_masks[name].bits) for name, mask in first.packed_masks.items())


def changed(text: str, *path, value=...) -> str:
    """The text with one value replaced, or removed."""
    values = json.loads(text)
    place = values
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(values)


def test_the_file_says_what_it_was_made_for(flux, tuned, text):
    values = json.loads(text)
    about = values["model"]
    assert values["schema"] == 3
    assert (about["name"], about["family"], about["precision"]) == ("tiny-flux", "flux", "float32")
    assert (about["source"], about["revision"]) == ("", "")  # a folder's path is nobody else's business
    assert about["fingerprint"] == flux.fingerprint
    assert about["drawing"]["steps"] == flux.defaults.steps
    removed = {one.name: one.removed / one.weights for one in tuned.report.layers}
    assert {name: one["achieved"] for name, one in about["layers"].items()} == {
        layer.name: removed[layer.name] for layer in flux.layers[1:3]
    }
    assert str(flux.source) not in text


def test_the_file_gives_the_same_masks_by_its_path(flux, tuned, statistics, tmp_path):
    path = dpv.write_recipe(tuned, flux, tmp_path / "mine.json")
    again = prune(flux, path, statistics=statistics)
    assert same_masks(tuned, again)
    assert again.plan == tuned.plan
    assert same_masks(again, prune(flux, str(path), statistics=statistics))
    assert find_recipe(path, flux) == find_recipe(path) == tuned.plan.as_recipe()
    plan_alone = json.loads(recipe_text(tuned.plan, flux))
    assert plan_alone["tuned"] == json.loads(path.read_text())["tuned"]


def test_nothing_is_overwritten_unless_that_is_asked_for(flux, tuned, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text("before")
    with pytest.raises(UserError, match=r"mine\.json exists already; choose another name"):
        write_recipe(tuned, flux, path)
    assert path.read_text() == "before"
    write_recipe(tuned, flux, path, overwrite=True)
    assert parse_recipe(path.read_text()).recipe == tuned.plan.as_recipe()
    assert os.listdir(tmp_path) == ["mine.json"]
    os.symlink(tmp_path / "nowhere", tmp_path / "link.json")
    with pytest.raises(UserError, match="exists already"):
        write_recipe(tuned, flux, tmp_path / "link.json")
    for bad in (tmp_path / "no" / "such.json", tmp_path / ("x" * 300 + ".json"), "a\0b.json"):
        with pytest.raises(UserError, match="cannot be written"):
            write_recipe(tuned, flux, bad)
    with pytest.raises(UserError, match="cannot be written"):
        write_recipe(tuned, flux, tmp_path, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["link.json", "mine.json"]


def test_a_disk_without_links_never_overwrites_either(flux, tuned, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = write_recipe(tuned, flux, tmp_path / "mine.json")
    assert parse_recipe(path.read_text()).recipe == tuned.plan.as_recipe()
    with pytest.raises(UserError, match="exists already"):
        write_recipe(tuned, flux, path)


def test_a_file_that_cannot_be_written_leaves_nothing(flux, tuned, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    (tmp_path / "mine.json").write_text("before")
    with pytest.raises(UserError, match="No space left on device"):
        write_recipe(tuned, flux, tmp_path / "mine.json", overwrite=True)
    assert (tmp_path / "mine.json").read_text() == "before"
    assert os.listdir(tmp_path) == ["mine.json"]


def test_a_plain_recipe_goes_for_every_model(flux, sana, tmp_path):
    plain = Recipe("wanda", sparsity=0.7).to_json()
    assert read_recipe(plain, flux) == read_recipe(plain, sana)
    assert read_recipe('{"schema": 1, "saliency": "wanda"}', flux).recipe == Recipe("wanda")
    with pytest.raises(UserError, match="means no prunable layer"):
        read_recipe(Recipe(ignore="context *x").to_json(), flux)


def test_another_model_is_refused_with_the_reason_and_the_way_out(sana, text, tmp_path):
    path = tmp_path / "flux.json"
    path.write_text(text)
    words = (
        r"made for tiny-flux \(fingerprint [0-9a-f]{12}\), this is tiny-sana \(fingerprint .*\); open .*--carry-over"
    )
    for ask in (lambda: read_recipe(text, sana), lambda: prune(sana, path), lambda: find_recipe(path, sana)):
        with pytest.raises(UserError, match=words):
            ask()


def test_another_precision_is_named(flux, text, tiny_flux):
    halved = load_model(tiny_flux, device="cpu", dtype="bfloat16")
    with pytest.raises(UserError, match=r"tiny-flux in float32 \(.*\), this is tiny-flux in bfloat16 \("):
        read_recipe(text, halved)
    carried = read_recipe(text, halved, carry_over=True)
    assert carried.recipe == parse_recipe(text).recipe
    assert [sentence[:40] for sentence in carried.dropped] == [
        "This recipe was made for tiny-flux in fl",
        "Clusters are kept by the numbers of thei",
    ]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("model", "prompts"), "0" * 64, "calibrated on other prompts"),
        (("model", "identity"), "0" * 64, "another text encoder, scheduler or autoencoder"),
        (("model", "drawing", "height"), 32, r"another height \(32; here 64\)"),
        (("model", "drawing", "steps"), 7, r"another steps \(7; here 4\)"),
        (("model", "methods", "saliency stw"), 99, "another version of saliency stw"),
        (("model", "also_prune"), ["<i>x_embedder"], r"prunable by request \(\?i\?x_embedder; here none\)"),
    ],
)
def test_a_model_in_another_state_is_refused_and_carried_over_with_a_note(flux, text, path, value, words):
    other = changed(text, *path, value=value)
    with pytest.raises(UserError, match=words):
        read_recipe(other, flux)
    carried = read_recipe(other, flux, carry_over=True)
    assert carried.recipe == parse_recipe(text).recipe
    assert len(carried.dropped) == 2  # and that clusters are kept
    assert carried.dropped[0].endswith(".")


def test_prompts_and_steps_of_the_recipe_itself_do_not_depend_on_the_model(flux):
    own = replace(SETTINGS, prompts=("a", "b"), steps=2)
    made = json.loads(recipe_text(prune(flux, Recipe("magnitude", calibration=own)), flux))
    assert "steps" not in made["model"]["drawing"]
    defaults = replace(flux.defaults, prompts=("other",), steps=9)
    other = replace(flux.also_pruning(()), defaults=defaults)
    assert read_recipe(json.dumps(made), other).recipe.calibration == own


def deep(levels: int) -> str:
    return '{"search": ' + "[" * levels + "]" * levels + "}"


BAD = [
    "",
    "no JSON",
    "[]",
    "3",
    deep(5_000_000),
    deep(900),
    '{"sparsity": NaN}',
    '{"bounds": {"adaLN": [0, Infinity]}}',
    '{"sparsity": 0.1, "sparsity": 0.2}',
    '{"calibration": {"seed": 0, "seed": 1}}',
    '{"schema": 4}',
    '{"schema": "2"}',
    '{"model": null}',
    '{"model": {}}',
    '{"tuned": {}}',
    '{"tuned": [3]}',
    '{"tuned": [{"layer": "x"}]}',
    '{"ignore": "../../etc/passwd"}',
    '{"ignore": ["<script>"]}',
    '{"ignore": 3}',
    '{"sparsity": ' + "9" * 5000 + "}",
    '{"search": [' + '"swap",' * 100_000 + '"swap"]}',
    '{"bounds": [["adaLN", 0, 1]]}',
    b"\xff",
    None,
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_what_is_no_recipe_is_one_sentence(flux, bad):
    for carry_over in (False, True):
        with pytest.raises(UserError) as caught:
            read_recipe(bad, flux, carry_over=carry_over)
        sentence = str(caught.value)
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert len(sentence) < 400


@pytest.mark.parametrize("name", ["../../etc/passwd", "<img src=x onerror=alert(1)>", "ignored\n"])
def test_layers_that_are_none_are_refused_or_left_out(flux, name):
    odd = json.dumps({"tuned": [{"layer": name, "sparsity": 0.5}]})
    with pytest.raises(UserError, match="by hand, which this model does not have"):
        read_recipe(odd, flux)
    (sentence,) = read_recipe(odd, flux, carry_over=True).dropped
    assert sentence.startswith("Set by hand but not in this model, so left out: ")
    assert not set("<>\n") & set(sentence)


def bomb(units: int, size: int, k: int = 2) -> dict:
    return {"units": units, "k": k, "sha256": "0" * 64, "zlib": b64encode(zlib.compress(bytes(size), 9)).decode()}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("tuned", 0, "layer"), "nowhere", "sets layer 'nowhere' by hand"),
        (("tuned", 1, "layer"), "transformer_blocks.0.norm1_context.linear", "is set by hand twice|do not fit"),
        (("tuned", 0, "more"), 1, "has no 'more'"),
        (("tuned", 1, "count"), 10**9, "cannot go"),
        (("tuned", 1, "count"), -1, "number of weights"),
        (("tuned", 1, "granularity"), "3:7", "3:7 does not fit layer"),
        (("tuned", 1, "granularity"), "block", "no granularity"),
        (("tuned", 1, "sparsity"), 1.5, "Sparsity must"),
        (("tuned", 0, "clusters", "labels"), bomb(50, 50, 3), "do not fit a layer"),
        (("tuned", 0, "clusters", "labels"), bomb(1 << 32, 1000, 3), "do not fit a layer"),
        (("tuned", 0, "clusters", "sparsity"), [0.1], "each cluster has one of each"),
        (("tuned", 0, "clusters", "sparsity"), [0.1] * 70_000, "at most 65,536"),
        (("tuned", 0, "clusters", "unit"), "head", "no unit 'head'"),
        (("tuned", 0, "clusters", "labels", "sha256"), "0" * 64, "damaged"),
        (("tuned", 0, "clusters", "labels", "zlib"), "AAAA", "damaged"),
        (("tuned", 0, "clusters", "beneath", "units"), ["column"], "earlier clusters of a layer do not fit"),
        (("tuned", 0, "clusters", "beneath", "labels"), bomb(9, 9), "do not fit"),
        (("tuned", 0, "clusters", "beneath", "members"), bomb(1 << 30, 9), "do not fit each other|fitting"),
        (("tuned", 0, "clusters", "tags", 0, "name"), "", "one line of 1 to"),
        (("tuned", 0, "clusters", "tags", 0, "name"), "a\nb", "one line of 1 to"),
        (("tuned", 0, "clusters", "tags", 0, "name"), "x" * 501, "one line of 1 to"),
        (("tuned", 0, "clusters", "tags", 0, "name"), "\ud83d", "character that is none"),
        (("tuned", 0, "clusters", "tags", 0, "locked"), 1, "true or false"),
        (("tuned", 0, "clusters", "tags"), [], None),
        (("model", "fingerprint"), "../..", "64 hex digits"),
        (("model", "name"), 3, "is a text"),
        (("model", "layers"), [], "are a JSON object"),
        (("model", "also_prune"), "x", "list of patterns"),
        (("model", "precision"), ..., "precision is missing"),
        (("calibration", "samples"), 0, "calibration samples"),
        (("saliency",), "mine", "no saliency 'mine'"),
    ],
)
def test_a_changed_value_is_one_sentence(flux, text, path, value, words):
    other = changed(text, *path, value=value)
    if words is None:  # names may be left out
        assert read_recipe(other, flux).recipe.tuned[0].clusters.tags == ()
        return
    with pytest.raises(UserError, match=words) as caught:
        read_recipe(other, flux)
    assert str(caught.value).endswith(".")


def test_bombs_do_not_fill_the_memory(flux, text):
    units = json.loads(text)["tuned"][0]["clusters"]["labels"]["units"]
    huge = changed(text, "tuned", 0, "clusters", "labels", value={**bomb(units, 10, 3), "zlib": "A" * 10_000_000})
    exploding = changed(text, "tuned", 0, "clusters", "labels", value=bomb(1 << 31, 100_000_000, 3))
    for other in (huge, exploding):
        tracemalloc.start()
        try:
            with pytest.raises(UserError):
                read_recipe(other, flux)
            assert tracemalloc.get_traced_memory()[1] < 8 * len(other) + 5_000_000
        finally:
            tracemalloc.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def recipe_or_sentence(text: str, model, **options) -> tuple[Recipe | None, str]:
    try:
        return read_recipe(text, model, **options).recipe, ""
    except UserError as error:
        return None, str(error)


def places(values, path=()):
    """The path of every value in a JSON text."""
    steps = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for step, inner in steps:
        yield (*path, step)
        yield from places(inner, (*path, step))


@settings(max_examples=200)
@given(data=st.data())
def test_whatever_a_file_says_it_is_a_recipe_or_a_sentence(flux, text, data):
    where = data.draw(st.sampled_from(sorted(places(json.loads(text)), key=str)))
    other = changed(text, *where, value=data.draw(JSON))
    recipe, sentence = recipe_or_sentence(other, flux, carry_over=data.draw(st.booleans()))
    if recipe is not None:
        assert Recipe.from_json(recipe.to_json()) == recipe
    else:
        assert sentence.endswith(".")
        assert "\n" not in sentence


def test_flipped_bytes_are_a_recipe_or_a_sentence(flux, text):
    generator = random.Random(0)
    raw = text.encode()
    for _ in range(300):
        at = generator.randrange(len(raw))
        other = raw[:at] + bytes([generator.randrange(256)]) + raw[at + 1 :]
        recipe, sentence = recipe_or_sentence(other.decode(errors="replace"), flux)
        assert recipe is not None or sentence.endswith(".")


def test_a_file_that_is_none_is_one_sentence(tmp_path):
    (tmp_path / "folder.json").mkdir()
    for bad, words in (
        (tmp_path / "nowhere.json", "cannot be read"),
        (tmp_path / "folder.json", "is no file"),
        ("/dev/zero.json", "cannot be read"),
        ("~nobody-here/a.json", "cannot be read"),
        ("a\0.json", "cannot be read"),
    ):
        with pytest.raises(UserError, match=words):
            find_recipe(bad)
    (tmp_path / "large.json").touch()
    os.truncate(tmp_path / "large.json", 1 << 30)
    with pytest.raises(UserError, match="larger than any recipe"):
        find_recipe(tmp_path / "large.json")
