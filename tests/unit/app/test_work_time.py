"""How long a recipe takes before it starts: remembered where it ran, else estimated, and said in a sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from sessions import pruned_by

from dit_prune_viz.app.pages.compare.listeners import waits_for
from dit_prune_viz.app.pages.topbar import page as topbar
from dit_prune_viz.app.session import work_time
from dit_prune_viz.app.session.finishing import finish, time_left
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.recipe_titles import HEADING, choices_of, time_of
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.work_time import FINISH, WorkTime, WorkTimes, finish_time, measuring, plan_time
from dit_prune_viz.calibration.statistics import Statistics
from dit_prune_viz.calibration.stored import shipped_calibration
from dit_prune_viz.disk_cache import DiskCache
from dit_prune_viz.errors import Cancelled
from dit_prune_viz.methods import registry
from dit_prune_viz.methods.update.base import Update
from dit_prune_viz.pruning.named_recipes import NAMED_RECIPES, find_recipe
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_groups import RANKED, ROUNDED, SEARCHED, UPDATED, group_of


@pytest.fixture
def ready(tiny_clip, tiny_flux, tmp_path):
    store = ModelStore(clip=tiny_clip, device="cpu", dtype="float32", disk=DiskCache(tmp_path / "cache"))
    return Session(store).load_model(str(tiny_flux)).calibrate(16, 0)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [0.0]
    monkeypatch.setattr(work_time, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return now


def test_groups_follow_from_what_happens_to_the_kept_weights():
    ranked = ["dit-pruning", "magnitude", "wanda", "ria", "obs", "stw", "cag", "tempered", "damage-aware"]
    searched = ["mean", "tempered-mean", "swap-mask", "swap", "distilled-mask", "distilled"]
    updated, rounded = ["obs-update", "swap-update", "distilled-update"], ["int8", "int4", "dit-pruning+int8"]
    expected = {RANKED: ranked, SEARCHED: searched, UPDATED: updated, ROUNDED: rounded}
    found = {
        group: [name for name, one in NAMED_RECIPES.items() if group_of(one.recipe) is group] for group in expected
    }
    assert found == expected
    assert group_of(Recipe("wanda", search=("swap",), update="obs")) is UPDATED  # whatever it is called


def test_the_list_of_recipes_has_every_recipe_once_below_its_group():
    choices = choices_of(None)
    names = [name for _, name in choices]
    assert len(names) == len(set(names))
    assert set(NAMED_RECIPES) < set(names)
    headings = [place for place, name in enumerate(names) if name.startswith(HEADING)]
    assert headings[0] == 0
    assert [names[place] for place in headings] == ["group:ranked", "group:searched", "group:updated", "group:rounded"]


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (WorkTime(None), "not measured yet"),
        (WorkTime(0.4), "at once"),
        (WorkTime(196, True), "about 3 min 20 s"),
        (WorkTime(43, True), "about 45 s"),
        (WorkTime(6.6, True), "about 7 s"),
        (WorkTime(60.2, True), "about 1 min"),
        (WorkTime(8_400, True), "about 2 h 20 min"),
        (WorkTime(20), "roughly 10–40 s"),
        (WorkTime(120), "roughly 1–4 min"),
        (WorkTime(3_100), "roughly 25–100 min"),
        (WorkTime(14_400), "roughly 2–8 h"),
        (WorkTime(100, True) + WorkTime(1), "about 1 min 40 s"),
        (WorkTime(100, True) + WorkTime(20), "roughly 1–4 min"),
        (WorkTime(100, True) + WorkTime(None), "not measured yet"),
    ],
)
def test_times_in_words(time, words):
    assert time.words == words


def test_what_ran_is_remembered_by_another_app_and_scaled_by_its_share(ready, clock, tmp_path):
    recipe = find_recipe("swap-mask")
    known = ready.statistics, replace(recipe, calibration=ready.recipe.calibration)
    assert not finish_time(ready.store.times, *known).measured
    with measuring(ready.store.times, *known, FINISH, share=0.25):
        clock[0] += 10
    for times in (ready.store.times, WorkTimes(DiskCache(tmp_path / "cache"))):
        assert finish_time(times, *known) == WorkTime(40.0, True)
    assert finish_time(WorkTimes(None), *known).measured is False
    another = ready.statistics, replace(known[1], search=("swap",), update="mean")
    assert not finish_time(ready.store.times, *another).measured


def test_work_that_fails_is_not_remembered(ready, clock):
    recipe = find_recipe("swap-mask")

    def fail() -> None:
        with measuring(ready.store.times, ready.statistics, recipe, FINISH):
            clock[0] += 10
            raise Cancelled

    with pytest.raises(Cancelled):
        fail()
    assert not finish_time(ready.store.times, ready.statistics, recipe).measured


def test_an_estimate_grows_with_the_work_and_with_a_slow_machine(ready, monkeypatch):
    times, statistics = ready.store.times, ready.statistics
    monkeypatch.setattr(WorkTimes, "slowness", lambda self, device: 3.0)
    solving, call, weights = work_time.work_of(statistics)
    layers = [(layer.shape, int(statistics.calibration.tokens[layer.name].sum())) for layer in ready.model.layers]
    assert solving == sum(d_in * d_in * (tokens + d_in + d_out) for (d_out, d_in), tokens in layers)
    assert call == sum(d_in * d_out * tokens for (d_out, d_in), tokens in layers) / 16
    assert weights == sum(d_in * d_out for (d_out, d_in), _ in layers)
    learned = [finish_time(times, statistics, Recipe(search=(f"distil:{steps}",))).seconds for steps in (200, 400)]
    assert learned[1] == pytest.approx(2 * learned[0]) == pytest.approx(3 * 2.0 * 400 * call / work_time.BUNDLED_CALL)
    swapped = Recipe(search=("swap",)), Recipe(search=("swap",), allocation="tempered")
    assert plan_time(times, statistics, swapped[1]).seconds > plan_time(times, statistics, swapped[0]).seconds


def test_the_reference_is_the_bundled_model(bundled):
    expected = work_time.BUNDLED_SOLVING, work_time.BUNDLED_CALL, work_time.BUNDLED_WEIGHTS
    calibration = shipped_calibration(bundled, samples=128, seed=0)
    assert work_time.work_of(Statistics(bundled, calibration)) == pytest.approx(expected, rel=0.02)


def test_a_method_of_ones_own_is_not_measured_until_it_ran(ready, clock, monkeypatch):
    known = {kind: dict(methods) for kind, methods in registry._METHODS.items()}
    monkeypatch.setattr(registry, "_METHODS", known)

    @registry.register
    @dataclass(frozen=True)
    class Halve(Update):
        """Half the weights."""

        name = "halve-for-test"

        def update_layer(self, problem, keep):
            return problem.weight * keep / 2

    recipe = Recipe(update="halve-for-test")
    assert finish_time(ready.store.times, ready.statistics, recipe).words == "not measured yet"
    assert "not measured yet before the next image" in time_of(ready, recipe)
    with measuring(ready.store.times, ready.statistics, recipe, FINISH):
        clock[0] += 30
    assert "about 30 s before the next image" in time_of(ready, recipe)


def test_page_bar_and_list_say_how_long_the_next_image_waits(ready, monkeypatch):
    session = pruned_by(ready, "swap-mask")
    recipe = session.recipe
    session.store.times.put(work_time._key(session.statistics, recipe, FINISH), 196.0)
    assert time_left(session) == WorkTime(196.0, True)
    assert "about 3 min 20 s, computed with the next image" in topbar.render(session)
    shown = waits_for(session)
    assert shown.visible
    assert "about 3 min 20 s" in shown.value
    assert "3 min 20 s before the next image" in time_of(session, recipe)
    assert ("swap-mask · about 3 min 20 s", "swap-mask") in choices_of(session)
    assert ("Wanda", "wanda") in choices_of(session)
    finish(session)
    assert time_left(session) is None
    assert not waits_for(session).visible
    assert session.store.times.find(work_time._key(session.statistics, recipe, FINISH)) < 100  # what it took just now


def test_masks_that_lie_finished_on_disk_are_not_announced(ready, monkeypatch):
    monkeypatch.setattr("dit_prune_viz.disk_cache.LONG_SECONDS", 0.0)
    finish(pruned_by(ready, "swap-mask"))
    store = ModelStore(clip=ready.store._clip_source, device="cpu", dtype="float32", disk=ready.store.disk)
    again = pruned_by(Session(store).load_model(ready.model.source).calibrate(16, 0), "swap-mask")
    store.times.put(work_time._key(again.statistics, again.recipe, FINISH), 196.0)
    assert time_left(again) == WorkTime(0.0, True)
    finish(again)
    assert store.times.find(work_time._key(again.statistics, again.recipe, FINISH)) == 196.0  # reading says nothing


def test_a_machine_is_probed_once(monkeypatch):
    asked = []
    monkeypatch.setattr(work_time, "_probe", lambda device: asked.append(device) or 1000.0)
    times = WorkTimes()
    assert times.slowness(torch.device("cpu")) == times.slowness(torch.device("cpu")) == 4.0
    assert len(asked) == 1
