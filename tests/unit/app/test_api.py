"""The endpoints as a client sees them, against an app that is really running with a tiny pipeline."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from many_clients import client_of
from PIL import Image

from dit_prune_viz.app.server import build_app
from dit_prune_viz.app.session.startup import AppSettings, start
from dit_prune_viz.app.theme import launch_options
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pruning.named_recipes import find_recipe
from dit_prune_viz.pruning.recipe import Recipe

ENDPOINTS = {
    "/session_id",
    "/open_session",
    "/load_model",
    "/calibrate",
    "/prune",
    "/prune_with",
    "/open_recipe",
    "/save_recipe",
    "/set_sparsities",
    "/cluster",
    "/set_cluster_sparsity",
    "/clusters",
    "/neighbours",
    "/selection",
    "/group_layers",
    "/set_group_sparsity",
    "/generate",
    "/parts",
}


@pytest.fixture(scope="module")
def url(tiny_flux, tiny_clip):
    app = build_app(start(AppSettings(LoadSettings(str(tiny_flux), "cpu", "float32"), str(tiny_clip))))
    _, address, _ = app.launch(server_name="127.0.0.1", prevent_thread_lock=True, **launch_options())
    yield address
    app.close()


@pytest.fixture(scope="module")
def client(url):
    return client_of(url)


@pytest.fixture
def fresh(url):
    return client_of(url)


@pytest.fixture(scope="module")
def layer(client, tiny_flux):
    model = client.predict(str(tiny_flux), api_name="/load_model")
    client.predict(16, 0, api_name="/calibrate")
    return next(item["name"] for item in model["layers"] if item["kind"] == "adaLN")


def test_the_endpoints_are_these_and_no_others(client):
    assert set(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ENDPOINTS
    assert not client.view_api(return_format="dict", print_info=False)["unnamed_endpoints"]


def test_no_endpoint_waits_in_a_queue_of_gradio_s(tiny_flux, tiny_clip):
    app = build_app(start(AppSettings(LoadSettings(str(tiny_flux), "cpu", "float32"), str(tiny_clip))))
    limits = {f"/{fn.api_name}": fn.concurrency_limit for fn in app.fns.values()}
    assert {limits[name] for name in ENDPOINTS} == {None}


def test_a_fresh_client_works_at_once_with_the_default_model(fresh):
    plan = fresh.predict("dit-pruning", "auto", 0.5, api_name="/prune")
    assert plan["target"] == 0.5
    assert plan["achieved"] == pytest.approx(0.5, abs=0.01)


def test_load_model(fresh, tiny_flux):
    model = fresh.predict(str(tiny_flux), api_name="/load_model")
    facts = {"model", "family", "parameters", "prunable_parameters", "dense", "also_prune", "offers", "layers"}
    assert set(model) == facts
    dense = sum(part["parameters"] for part in model["dense"])
    assert dense == model["parameters"] - model["prunable_parameters"]
    assert (model["model"], model["family"]) == ("tiny-flux", "flux")
    assert set(model["layers"][0]) == {"name", "block", "kind", "shape"}
    assert sum(math.prod(item["shape"]) for item in model["layers"]) == model["prunable_parameters"]
    offers = {offer["pattern"]: offer["weights"] for offer in model["offers"]}
    assert (offers["norm_out"], model["also_prune"]) == (2 * 64 * 64, [])
    more = fresh.predict(str(tiny_flux), "norm_out, x_embedder", api_name="/load_model")
    assert more["also_prune"] == ["norm_out", "x_embedder"]
    assert more["prunable_parameters"] == model["prunable_parameters"] + 2 * 64 * 64 + 64 * 64
    with pytest.raises(AppError, match="choose from"):
        fresh.predict(str(tiny_flux), "nothing", api_name="/load_model")
    fresh.predict(str(tiny_flux), api_name="/load_model")


def test_calibrate(fresh):
    calibration = fresh.predict(8, 1, api_name="/calibrate")
    assert set(calibration) == {"samples", "seconds", "timesteps"}
    assert calibration["samples"] == len(calibration["timesteps"]) == 8
    assert all(0 <= timestep <= 1 for timestep in calibration["timesteps"])


@pytest.mark.parametrize("method", ["magnitude", "wanda", "dit-pruning"])
@pytest.mark.parametrize("granularity", ["auto", "layer", "row", "cag"])
def test_prune(fresh, method, granularity):
    plan = fresh.predict(method, granularity, 0.25, api_name="/prune")
    assert set(plan) == {"target", "achieved", "remaining_parameters", "layers"}
    assert set(plan["layers"][0]) == {"name", "granularity", "g_out", "sparsity", "damage", "estimated"}
    assert plan["achieved"] == pytest.approx(0.25, abs=0.01)
    chosen = {item["granularity"] for item in plan["layers"]}
    expected = {("magnitude", "auto"): {"layer"}, ("wanda", "auto"): {"row"}}.get((method, granularity))
    assert chosen == (expected or ({granularity} if granularity in ("layer", "row") else {"layer", "row"}))


def test_prune_with_any_recipe(fresh):
    asked = {"method": "exchange", "sparsity": 0.6, "timestep": "log"}
    found = fresh.predict(asked, api_name="/prune_with")
    assert set(found) == {"target", "achieved", "remaining_parameters", "layers", "seconds", "recipe"}
    assert (found["target"], found["achieved"]) == (0.6, pytest.approx(0.6, abs=1e-4))
    assert found["seconds"] > 0
    asked = replace(find_recipe("swap"), sparsity=0.6, timestep="log")
    assert replace(Recipe.from_dict(found["recipe"]), calibration=asked.calibration) == asked
    again = fresh.predict(found["recipe"], api_name="/prune_with")
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    scores = fresh.predict("a cat", 0, 2, api_name="/generate")[2]
    assert scores["ssim"] < 1
    for method in ("ria", "obs", "stw:1,2", "tempered"):
        plan = fresh.predict(method, "auto", 0.25, api_name="/prune")
        assert plan["achieved"] == pytest.approx(0.25, abs=0.01)


def test_cluster_and_its_sparsity(client, layer):
    found = client.predict(layer, "row", "kmeans", 3, api_name="/cluster")
    assert set(found) == {"layer", "unit", "clusters"}
    assert (found["layer"], found["unit"], len(found["clusters"])) == (layer, "row", 3)
    assert set(found["clusters"][0]) == {"id", "units", "weights", "sparsity", "damage"}
    changed = client.predict(layer, 1, 0.75, api_name="/set_cluster_sparsity")
    assert changed["clusters"][1]["sparsity"] == pytest.approx(0.75, abs=0.02)
    assert changed["clusters"][0] == found["clusters"][0]
    assert changed["clusters"][1]["damage"] > found["clusters"][1]["damage"]
    members = client.predict(layer, api_name="/clusters")
    assert [row["sparsity"] for row in members["clusters"]] == [row["sparsity"] for row in changed["clusters"]]
    assert [len(row["units"]) for row in members["clusters"]] == [row["units"] for row in found["clusters"]]
    assert sorted(unit for row in members["clusters"] for unit in row["units"]) == list(range(members["shape"][0]))


def test_sparsities_are_set_by_a_text(fresh, layer):
    plan = fresh.predict("dit-pruning", "layer", 0.5, api_name="/prune")
    found = fresh.predict("0:30, adaLN:40", False, api_name="/set_sparsities")
    assert set(found) == {*plan, "sparsities"}
    shares = {one["name"]: one["sparsity"] for one in found["layers"]}
    assert shares[layer] == pytest.approx(0.4, abs=1e-3)
    assert fresh.predict(found["sparsities"], False, api_name="/set_sparsities") == found
    kept = fresh.predict("0:60", True, api_name="/set_sparsities")
    assert kept["achieved"] == found["achieved"]
    with pytest.raises(AppError, match="'0' needs layers and a sparsity"):
        fresh.predict("0", False, api_name="/set_sparsities")


def test_a_recipe_is_saved_and_opened(fresh, client, layer):
    fresh.predict({"method": "wanda", "sparsity": 0.6, "ignore": "block 1"}, api_name="/prune_with")
    fresh.predict(layer, "row", "kmeans", 3, api_name="/cluster")
    before = fresh.predict(layer, 1, 0.75, api_name="/set_cluster_sparsity")
    saved = fresh.predict(api_name="/save_recipe")
    assert saved["words"] == "Wanda, 60 %, block 1 kept dense, one cluster by hand"
    plan = fresh.predict("magnitude", "auto", 0.5, api_name="/prune")
    opened = fresh.predict(saved["recipe"], False, api_name="/open_recipe")
    assert set(opened) == {*plan, "words", "notes"}
    assert (opened["words"], opened["notes"]) == (saved["words"], [])
    assert fresh.predict(layer, 1, 0.75, api_name="/set_cluster_sparsity") == before
    assert fresh.predict(api_name="/save_recipe") == saved
    pruned = fresh.predict(json.loads(saved["recipe"]), api_name="/prune_with")
    assert pruned["layers"] == opened["layers"]
    assert pruned["recipe"]["tuned"] == json.loads(saved["recipe"])["tuned"]
    other = saved["recipe"].replace(json.loads(saved["recipe"])["model"]["fingerprint"], "0" * 64)
    with pytest.raises(AppError, match="was made for tiny-flux"):
        fresh.predict(other, False, api_name="/open_recipe")
    carried = fresh.predict(other, True, api_name="/open_recipe")
    assert carried["layers"] == opened["layers"]
    assert "was made for tiny-flux" in carried["notes"][0]


def test_generate(client, layer):
    dense, pruned, scores = client.predict("a cat", 0, 2, api_name="/generate")
    with Image.open(dense) as first, Image.open(pruned) as second:
        assert first.format == second.format == "PNG"
        assert first.size == second.size == (64, 64)
    assert set(scores) == {"clip", "ssim", "psnr", "seconds"}
    assert scores["clip"]["model"] == "tiny-clip"
    assert scores["clip"]["delta"] == pytest.approx(scores["clip"]["pruned"] - scores["clip"]["dense"])
    assert scores["ssim"] < 1
    assert scores["psnr"] > 0
    assert scores["seconds"] > 0


def test_layers_are_grouped_and_a_group_has_a_sparsity(fresh, tiny_flux):
    weights = {
        one["name"]: math.prod(one["shape"]) for one in fresh.predict(str(tiny_flux), api_name="/load_model")["layers"]
    }
    fresh.predict(16, 0, api_name="/calibrate")
    found = fresh.predict("kind", 0, api_name="/group_layers")
    assert found["by"] == "kind"
    facts = {"id", "name", "layers", "weights", "energy", "sparsity", "damage", "packed_bytes"}
    assert all(set(one) == facts for one in found["groups"])
    assert sorted(name for one in found["groups"] for name in one["layers"]) == sorted(weights)
    assert [one["weights"] for one in found["groups"]] == [
        sum(weights[name] for name in one["layers"]) for one in found["groups"]
    ]
    changed = fresh.predict(1, 0.8, False, api_name="/set_group_sparsity")["groups"]
    for before, after in zip(found["groups"], changed, strict=True):
        assert after["sparsity"] == pytest.approx(
            0.8 if before["id"] == 1 else before["sparsity"], abs=5e-3
        )  # of whole weights
    kept = fresh.predict(1, 0.2, True, api_name="/set_group_sparsity")["groups"]
    removed = [sum(one["weights"] * one["sparsity"] for one in groups) for groups in (changed, kept)]
    assert removed[0] == pytest.approx(removed[1])
    assert len(fresh.predict("kmeans", 3, api_name="/group_layers")["groups"]) == 3


def test_which_part_does_what(fresh, layer):
    fresh.predict("dit-pruning", "layer", 0.5, api_name="/prune")
    sheet, found = fresh.predict("block", ["block 0", "block 1"], "a cat", 0, 2, api_name="/parts")
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
        assert picture.height > 3 * 64  # the dense picture and two parts
    assert [part["name"] for part in found["parts"]] == ["block 0", "block 1"]
    assert all(part["ssim"] < 1 and part["error"] > 0 and part["damage"] > 0 for part in found["parts"])
    assert (found["mode"], found["prompts"], found["seed"], found["steps"]) == ("without", ["a cat"], 0, 2)
    groups = fresh.predict("kmeans", 2, api_name="/group_layers")["groups"]
    _, told = fresh.predict("group", [], "a cat", 0, 2, "only", 1, "", False, api_name="/parts")
    assert [part["layers"] for part in told["parts"]] == [group["layers"] for group in groups]
    assert {part["error"] for part in told["parts"]} == {None}
    total = sum(group["weights"] for group in groups)
    assert [part["removed"] for part in told["parts"]] == [total - group["weights"] for group in groups]


def test_generate_says_which_words_are_not_read(client, layer):
    letters = "a b c d e f g h i j k l m n"
    scores = client.predict(f"{letters} o p", 0, 2, api_name="/generate")[2]
    assert (scores["not_drawn"], scores["not_scored"]) == ("o p", "o p")


def test_identical_pictures_have_no_psnr(client, layer):
    client.predict("wanda", "row", 0, api_name="/prune")
    dense, pruned, scores = client.predict("a cat", 0, 2, api_name="/generate")
    assert Path(dense).read_bytes() == Path(pruned).read_bytes()
    assert (scores["ssim"], scores["psnr"], scores["clip"]["delta"]) == (1, None, 0)


def test_a_script_goes_on_where_another_client_stopped(url, fresh, layer):
    fresh.predict("wanda", "auto", 0.3, api_name="/prune")
    id = fresh.predict(api_name="/session_id")["session"]
    assert len(id) == 32
    assert fresh.predict(api_name="/session_id")["session"] == id
    other = client_of(url)
    assert other.predict(id, api_name="/open_session")["plan"]["achieved"] == pytest.approx(0.3, abs=0.01)
    other.predict("wanda", "auto", 0.6, api_name="/prune")
    saved = json.loads(fresh.predict(api_name="/save_recipe")["recipe"])
    assert saved["sparsity"] == 0.6
    other.predict(layer, "row", "kmeans", 2, api_name="/cluster")
    assert len(fresh.predict(layer, api_name="/clusters")["clusters"]) == 2
    with_header = client_of(url, headers={"X-Dit-Prune-Viz-Session": id})
    assert json.loads(with_header.predict(api_name="/save_recipe")["recipe"]) == saved
    assert client_of(url).predict(api_name="/session_id")["session"] != id
    with pytest.raises(AppError, match="no session's id"):
        fresh.predict("../x", api_name="/open_session")


def test_clients_do_not_see_each_other_s_plans(client, fresh, layer):
    client.predict(layer, "row", "kmeans", 3, api_name="/cluster")
    with pytest.raises(AppError, match="cluster it first"):
        fresh.predict(layer, 0, 0.5, api_name="/set_cluster_sparsity")
    with pytest.raises(AppError, match="cluster it first"):
        fresh.predict(layer, api_name="/clusters")


BAD = [
    ("/load_model", ("no/such",), "no/such"),
    ("/load_model", ("",), "folder"),
    ("/calibrate", (0, 0), "whole number"),
    ("/prune", ("guess", "auto", 0.5), "guess"),
    ("/prune", ("wanda", "block", 0.5), "block"),
    ("/prune", ("wanda", "auto", 1.01), "between 0 and 1"),
    ("/prune", ("wanda", "auto", -0.01), "between 0 and 1"),
    ("/prune", ("wanda", "3:7", 0.5), "3:7 does not fit layer"),
    ("/prune", ("stw:1,2,3", "auto", 0.5), "at most 2 options"),
    ("/prune_with", (None,), "JSON object"),
    ("/prune_with", ({"methud": "best"},), "no 'methud'"),
    ("/prune_with", ({"allocation": "damage-aware:0.9,1"},), "lower the floors"),
    ("/prune_with", ({"timestep": ["a"] * 10},), "finite numbers"),
    ("/prune_with", ({"sparsity": "half"},), "between 0 and 1"),
    ("/prune_with", ({"ignore": "nowhere"},), "means no prunable layer"),
    ("/prune_with", ({"bounds": {"*": [0, 0.1]}},), "asked for"),
    ("/prune_with", ({"tuned": [{"layer": "nowhere", "sparsity": 0.5}]},), "nowhere"),
    ("/prune_with", ({"model": {"name": "x"}},), "is missing"),
    ("/open_recipe", ("", False), "JSON object"),
    ("/open_recipe", (None, False), "JSON object"),
    ("/open_recipe", ('{"schema": 9}', False), "schema 9"),
    ("/open_recipe", ("{}", "maybe"), "carry_over is either true or false"),
    ("/cluster", ("nowhere", "row", "kmeans", 3), "nowhere"),
    ("/clusters", ("nowhere",), "nowhere"),
    ("/group_layers", ("colour", 0), "choose kind, block or an algorithm"),
    ("/group_layers", ("kmeans", 10**6), "number of groups"),
    ("/set_group_sparsity", (99, 0.5, False), "group of layers"),
    ("/set_group_sparsity", (0, 1.5, False), "between 0 and 1"),
    ("/set_group_sparsity", (0, 0.5, "yes"), "keep_overall is either true or false"),
    ("/parts", ("row", [], "a cat", 0, 2), "by block, by kind"),
    ("/parts", ("block", ["block 99"], "a cat", 0, 2), "no part 'block 99' now"),
    ("/parts", ("block", "block 0", "a cat", 0, 2), "list of texts"),
    ("/parts", ("block", [], "", 0, 2), "empty"),
    ("/parts", ("cluster", [], "a cat", 0, 2), "Choose a layer"),
    ("/parts", ("block", [], "a cat", 0, 2, "half"), "half"),
    ("/generate", ("", 0, 2), "empty"),
    ("/generate", ("a" * 10_000, 0, 2), "10,000"),
    ("/load_model", (None,), "folder"),
    ("/load_model", (7,), "folder"),
    ("/load_model", ("~nobody/model",), "folder"),
    ("/calibrate", (None, 0), "whole number"),
    ("/calibrate", (1.5, 0), "whole number"),
    ("/calibrate", ("many", 0), "whole number from 1 to 4,096, but it is 'many'"),
    ("/calibrate", (8, [1]), "whole number"),
    ("/calibrate", (10**400, 0), "whole number"),
    ("/calibrate", (8, -1), "whole number"),
    ("/calibrate", (10**6, 0), "4,096"),
    ("/prune", (None, "auto", 0.5), "recipe None"),
    ("/prune", ("wanda", None, 0.5), "granularity is a text"),
    ("/prune", ("wanda", ["row"], 0.5), "granularity"),
    ("/prune", ("wanda", "auto", None), "number between 0 and 1"),
    ("/prune", ("wanda", "auto", 10**400), "between 0 and 1"),
    ("/prune", ("wanda", "auto", "half"), "number between 0 and 1, but it is 'half'"),
    ("/cluster", ("{layer}", "row", "kmeans", "few"), "whole number"),
    ("/set_cluster_sparsity", ("{layer}", "first", 0.5), "cluster"),
    ("/set_cluster_sparsity", ("{layer}", 0, "half"), "number between 0 and 1"),
    ("/generate", ("a cat", "any", 2), "seed"),
    ("/generate", ("a cat", 0, "few"), "steps"),
    ("/cluster", (None, "row", "kmeans", 3), "None"),
    ("/cluster", ("{layer}", None, "kmeans", 3), "unit"),
    ("/cluster", ("{layer}", "row", None, 3), "algorithm"),
    ("/cluster", ("{layer}", "row", "kmeans", 0), "clusters"),
    ("/cluster", ("{layer}", "row", "kmeans", 10**400), "clusters"),
    ("/set_cluster_sparsity", ("{layer}", None, 0.5), "cluster"),
    ("/set_cluster_sparsity", (None, 0, 0.5), "None"),
    ("/generate", (None, 0, 2), "empty"),
    ("/generate", ("a cat", 10**400, 2), "seed"),
    ("/generate", ("a cat", 0, None), "steps"),
    ("/generate", ("a cat", 0, 0), "steps"),
    ("/generate", ("a cat", 0, 10_000), "steps"),
]


@pytest.mark.parametrize(("endpoint", "arguments", "word"), BAD)
def test_bad_input_reaches_the_client_as_one_sentence(client, layer, endpoint, arguments, word):
    with pytest.raises(AppError) as caught:
        client.predict(*(layer if argument == "{layer}" else argument for argument in arguments), api_name=endpoint)
    sentence = str(caught.value)
    assert word in sentence
    assert sentence.endswith(".")
    assert "Traceback" not in sentence
    assert "\n" not in sentence


def test_generating_before_calibration_says_what_to_do(fresh, tiny_flux):
    fresh.predict(str(tiny_flux), api_name="/load_model")
    with pytest.raises(AppError, match="not calibrated; calibrate it first"):
        fresh.predict("a cat", 0, 2, api_name="/generate")


def test_a_mistake_leaves_the_plan_as_it_was(client, layer):
    before = client.predict("wanda", "row", 0.5, api_name="/prune")
    found = client.predict(layer, "row", "kmeans", 3, api_name="/cluster")
    for cluster, sparsity in ((7, 0.5), (0, 2)):
        with pytest.raises(AppError):
            client.predict(layer, cluster, sparsity, api_name="/set_cluster_sparsity")
    assert client.predict(layer, "row", "kmeans", 3, api_name="/cluster") == found
    assert client.predict("wanda", "row", 0.5, api_name="/prune") == before


def test_generate_refuses_frames_and_a_picture_that_the_model_does_not_take(fresh, tmp_path):
    fresh.predict("magnitude", "auto", 0.5, api_name="/prune")
    with pytest.raises(AppError, match="single pictures, not clips of 5 frames"):
        fresh.predict("a cat", 0, 2, 5, api_name="/generate")
    Image.new("RGB", (8, 8)).save(tmp_path / "own.png")
    with pytest.raises(AppError, match="prompt alone; leave the input picture out"):
        fresh.predict("a cat", 0, 2, 1, handle_file(tmp_path / "own.png"), api_name="/generate")
