"""The Compare page without the page: prompts in a batch, one cluster alone, earlier runs, A and B."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sessions import pruned_by

from dit_prune_viz.app.pages.compare import view as compare_view
from dit_prune_viz.app.session import drawn_model
from dit_prune_viz.app.session import runs as earlier
from dit_prune_viz.app.session.answers import describe_scores
from dit_prune_viz.app.session.comparison import (
    check_prompts,
    compare,
    compare_models,
    draft_steps,
    draw_draft,
    paint_cluster,
    split_prompts,
)
from dit_prune_viz.app.session.comparison_result import Frame, Side, measure
from dit_prune_viz.app.session.contact_sheet import contact_sheet, places
from dit_prune_viz.app.session.drawn_model import DENSE, ONLY, WITHOUT
from dit_prune_viz.app.session.layer_edits import set_layers
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import runs_strip
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.unread import Unread
from dit_prune_viz.metrics.clip_mean import NO_CLIP
from dit_prune_viz.metrics.pictures import amplified_differences, psnr

PROMPTS = ("a cat", "a red bus", "two dogs", "the moon")
REQUEST = Request("a cat", seed=3, steps=2)


@pytest.fixture(scope="module")
def layer(ready):
    return next(item.name for item in ready.model.layers if item.kind == "adaLN")


@pytest.fixture(scope="module")
def four(ready):
    return compare(ready, PROMPTS, 1, 2)


def is_dense(model, before) -> bool:
    after = model.transformer.state_dict()
    plain = not [name for name, module in model.transformer.named_modules() if "forward" in vars(module)]
    return plain and all(torch.equal(before[name], after[name]) for name in before)


def test_four_prompts_are_drawn_together_and_scored_each(ready):
    frames: list[Frame] = []
    done = compare(ready, PROMPTS, 2, 4, emit=frames.append)
    assert [(frame.side, frame.step) for frame in frames] == [(s, i) for s in ("left", "right") for i in (1, 2, 3, 4)]
    assert {len(frame.images) for frame in frames} == {4}
    assert len(done.left.clips) == len(done.right.clips) == len(done.ssims) == len(done.differences) == 4
    assert done.left.clip == pytest.approx(max(sum(done.left.clips) / 4, 0))
    assert done.left.curve[-1] == (4, pytest.approx(done.left.clip))
    assert done.delta == pytest.approx(max(np.mean(done.right.clips), 0) - max(np.mean(done.left.clips), 0))
    alone = compare(ready, PROMPTS[2], 2, 4)
    assert alone.ssim == pytest.approx(done.ssims[2], abs=0.02)
    assert alone.left.clips[0] == pytest.approx(done.left.clips[2], abs=0.5)


def test_psnr_of_several_pictures_is_that_of_all_their_pixels(four):
    left, right = (
        Image.fromarray(np.concatenate([np.asarray(image) for image in side.images]))
        for side in (four.left, four.right)
    )
    assert four.psnr == pytest.approx(psnr(left, right))


def test_a_text_is_a_prompt_a_line():
    assert split_prompts(" a cat \n\n  the moon\n") == ("a cat", "the moon")
    assert split_prompts("") == split_prompts(" \n ") == split_prompts(None) == ("",)
    with pytest.raises(UserError, match="There are 5 prompts"):
        split_prompts("a\nb\nc\nd\ne")


@pytest.mark.parametrize("unit", ["row", "column", "weight"])
def test_a_cluster_is_pruned_alone_or_all_that_is_left(ready, layer, unit):
    session = ready.cluster(layer, unit, "kmeans", 3)
    clusters = session.clusters[layer]
    shape = session.model.layer(layer).shape
    for cluster in range(clusters.k):
        without, only = (drawn_model.of_cluster(session, layer, cluster, mode) for mode in (WITHOUT, ONLY))
        assert list(without.layers) == list(only.layers) == [layer]
        member = np.asarray(clusters.labels) == cluster
        table = {
            "row": member[:, None],
            "column": member[None],
            "weight": member.reshape(shape) if unit == "weight" else 0,
        }
        expected = torch.from_numpy(np.broadcast_to(table[unit], shape).copy())
        assert torch.equal(only.layers[layer].mask.unpack(), expected)
        assert torch.equal(without.layers[layer].mask.unpack(), ~expected)
        assert without.layers[layer].mask.removed == only.layers[layer].mask.kept


def test_what_a_cluster_paints_leaves_the_model_dense_and_the_session_alone(ready, layer):
    session = ready.cluster(layer, "row", "kmeans", 2)
    state = session.model.transformer.state_dict()
    before, fields = {name: value.clone() for name, value in state.items()}, dict(vars(session))
    done = paint_cluster(session, layer, 1, REQUEST)
    assert done.left.name == "dense"
    assert done.right.name == f"without cluster 1 · {layer.removeprefix('transformer_')}"
    assert done.ssim < 1
    assert done.left is compare(session, "a cat", 3, 2).left  # the dense side is drawn once
    alone = paint_cluster(session, layer, 1, [REQUEST], ONLY)
    assert alone.right.images[0].tobytes() != done.right.images[0].tobytes()
    # Without the other cluster is the same as only this one.
    other = paint_cluster(session, layer, 0, REQUEST, WITHOUT)
    assert other.right.images[0].tobytes() == alone.right.images[0].tobytes()
    assert is_dense(session.model, before)
    assert vars(session) == fields


def test_cancelling_what_a_cluster_paints_leaves_the_model_dense(ready, layer):
    session = ready.cluster(layer, "row", "kmeans", 2)
    before = {name: value.clone() for name, value in session.model.transformer.state_dict().items()}
    for stop in range(1, 5):

        def progress(done, total, what, stop=stop):
            if what.startswith(("Dense", "Without")) and done >= stop:
                raise Cancelled

        with pytest.raises(Cancelled):
            paint_cluster(session, layer, 0, Request(f"moon {stop}", seed=0, steps=2), progress=progress)
        assert is_dense(session.model, before)


BAD = {
    "no clusters": (lambda s, layer: (s.model.layers[1].name, 0, WITHOUT), "no clusters"),
    "no layer": (lambda s, layer: (None, 0, WITHOUT), "Choose a layer"),
    "unknown cluster": (lambda s, layer: (layer, 2, WITHOUT), "whole number"),
    "no cluster": (lambda s, layer: (layer, None, WITHOUT), "whole number"),
    "unknown mode": (lambda s, layer: (layer, 0, "half"), "half"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_cluster_that_is_not_there_is_one_sentence(ready, layer, name):
    make, words = BAD[name]
    session = ready.cluster(layer, "row", "kmeans", 2)
    chosen, cluster, mode = make(session, layer)
    with pytest.raises(UserError, match=words):
        paint_cluster(session, chosen, cluster, REQUEST, mode)


def test_more_pictures_than_a_sheet_holds_are_refused(ready, layer):
    with pytest.raises(UserError, match="at most 4"):
        paint_cluster(ready.cluster(layer, "row", "kmeans", 2), layer, 0, [REQUEST] * 5)


def test_a_run_that_is_a_stands_between_dense_and_b_and_both_are_scored_to_dense(ready):
    runs = Runs()
    wanda = pruned_by(ready, "wanda", "auto", 0.75)
    first = runs.add(wanda, drawn_model.of_session(wanda), compare(wanda, "a cat", 4, 2))
    second = runs.add(ready, drawn_model.of_session(ready), compare(ready, "a cat", 4, 2))
    alone = second.comparison
    assert alone.a is None
    runs.make_a(first.number)
    paired = runs.shown.comparison
    assert paired.a.side.name == "run 1 (Wanda 75 %)"
    assert paired.a.side.images == first.comparison.right.images
    assert (paired.a.ssim, paired.a.psnr) == (first.comparison.ssim, first.comparison.psnr)
    assert (paired.dense, paired.right) == (alone.dense, alone.right)
    assert (paired.ssim, paired.delta) == (alone.ssim, alone.delta)
    table = compare_view.score_table(paired)
    assert "A is run 1 (Wanda 75 %)" in table
    better = max(paired.ssim, paired.a.ssim)
    assert f"<b>{better:.3f}</b>" in table
    assert 'class="run is-a"' in runs_strip.show(runs)
    # The same masks again, for another prompt, drawn between the two others.
    frames: list[Frame] = []
    again = compare(ready, "two dogs", 4, 2, reference=runs.reference(ready), emit=frames.append)
    assert list(dict.fromkeys(frame.side for frame in frames)) == ["left", "middle", "right"]
    assert again.a.side.images[0].tobytes() == compare(wanda, "two dogs", 4, 2).right.images[0].tobytes()
    assert again.a.ssims == compare(wanda, "two dogs", 4, 2).ssims
    runs.make_a(first.number)
    assert runs.a is None
    assert runs.shown.comparison.a is None


def test_the_a_of_the_map_is_the_a_of_the_pictures(ready):
    """A plan that is kept on the Map has no pictures yet; it gets them with the next comparison, and stays one A."""
    runs, other = Runs(), pruned_by(ready, "magnitude", "layer", 0.25)
    runs.keep_as_a(other)
    assert (runs.a.is_plan, runs.a.drawn, runs.changes) == (True, None, 1)
    done = compare(ready, "a cat", 4, 2, reference=runs.reference(ready))
    assert done.a.side.images[0].tobytes() == compare(other, "a cat", 4, 2).right.images[0].tobytes()
    assert runs.reference(ready).number == runs.a.drawn.number  # its masks are finished once
    run = runs.add(other, drawn_model.of_session(other), compare(other, "a cat", 4, 2))
    runs.keep_as_a(other)
    assert runs.a.run == run.number  # the run is found again
    layer = ready.model.layers[0].name
    part = drawn_model.of_cluster(ready.cluster(layer, k=2), layer, 0, WITHOUT)
    alone = runs.add(ready, part, done)
    runs.make_a(alone.number)
    assert not runs.a.is_plan  # there is no plan that the Map could show


def test_b_that_is_a_is_drawn_once(ready):
    own = drawn_model.of_session(ready)
    told: list[str] = []
    done = compare_models(
        ready,
        own,
        check_prompts(ready.model, "two moons", 5, 2),
        reference=own,
        progress=lambda done, total, what: told.append(what),
    )
    assert done.a.ssims == done.ssims
    assert sum("denoising" in what for what in told) == 4  # dense and B, two steps each


def test_differences_have_one_gain_in_every_run_until_another_is_chosen(ready):
    runs = Runs()
    plans = [pruned_by(ready, "magnitude", "layer", share) for share in (0.1, 0.9)]
    found = [runs.add(one, drawn_model.of_session(one), compare(one, "a cat", 4, 2)) for one in plans]
    assert [run.comparison.gain for run in found] == [4, 4]
    runs.set_gain(2)
    done = runs.shown.comparison
    assert done.gain == 2
    dense, b = (np.asarray(side.images[0].convert("RGB"), dtype=int) for side in (done.dense, done.right))
    expected = np.minimum(2 * np.abs(dense - b), 255)
    assert np.array_equal(np.asarray(done.differences[0]), expected)


def test_a_draft_is_the_picture_in_few_steps(ready):
    own, requests = drawn_model.of_session(ready), check_prompts(ready.model, PROMPTS[:2], 4, 20)
    assert draft_steps(20) == 4
    assert [draft_steps(steps) for steps in (1, 6, 7, 50)] == [None, None, 3, 10]
    draft = draw_draft(ready, own, requests, 3)
    assert draft.steps == 3
    full = compare(ready, PROMPTS[:2], 4, 3)
    assert [image.tobytes() for image in draft.images] == [image.tobytes() for image in full.right.images]


def test_a_named_plan_names_its_runs_and_says_when_it_was_changed(ready):
    runs = Runs()
    run = runs.add(ready, drawn_model.of_session(ready), compare(ready, "a cat", 4, 2))
    runs.make_a(run.number)
    named = ready.named("  my \n plan ")
    assert drawn_model.name_of_session(named) == "my plan, 50 %"
    runs.rename(named)
    assert runs.shown.drawn.name == runs.shown.comparison.right.name == "my plan, 50 %"
    assert runs.a.name == "run 1 (my plan, 50 %)"
    assert runs.find(1).is_plan
    layer = ready.model.layers[0].name
    assert drawn_model.name_of_session(set_layers(named, {layer: 0.4})).startswith("my plan, changed, ")
    assert drawn_model.name_of_session(named.prune(ready.recipe.at(0.3))).startswith("DiT-Pruning")
    for wrong in ("", " \n ", "x" * 61, None):
        with pytest.raises(UserError):
            ready.named(wrong)


def test_a_run_brings_its_whole_session_back(ready):
    runs = Runs()
    session = pruned_by(ready, "magnitude", "layer", 0.25)
    run = runs.add(session, drawn_model.of_session(session), compare(session, PROMPTS[:2], 4, 2))
    runs.add(ready, drawn_model.of_session(ready), compare(ready, "a cat", 4, 2))
    assert runs.find(1) is run
    assert run.session is session
    assert run.prompts == PROMPTS[:2]
    assert (run.comparison.requests[0].seed, run.comparison.requests[0].steps) == (4, 2)
    assert run.thumbnail.startswith("data:image/")
    assert runs.find(7) is None
    assert runs.find("x") is None


def test_the_strip_is_bounded_and_keeps_what_is_a(ready, four, monkeypatch):
    runs = Runs()
    own = drawn_model.of_session(ready)
    runs.add(ready, own, four)
    runs.make_a(1)
    for _ in range(earlier.MAX_RUNS + 3):
        runs.add(ready, own, four)
    numbers = [run.number for run in runs.runs]
    assert len(numbers) == earlier.MAX_RUNS
    assert numbers[0] == earlier.MAX_RUNS + 4
    assert numbers[-1] == 1
    monkeypatch.setattr(earlier, "MAX_BYTES", 3 * sum(own.parts.values()) // 2)
    assert len(runs.runs) == earlier.MAX_RUNS  # masks that runs share count once
    other = pruned_by(ready, "wanda", "auto", 0.1)
    runs.add(other, drawn_model.of_session(other), four)
    assert [run.number for run in runs.runs] == [numbers[0] + 1, 1]


def test_runs_of_another_model_are_forgotten(ready, four):
    runs = Runs()
    runs.add(ready, drawn_model.of_session(ready), four)
    runs.make_a(1)
    assert not runs.follow(ready)
    assert runs.follow(Session(ready.store))
    assert (runs.runs, runs.shown, runs.a) == ((), None, None)


def test_prompts_are_shown_as_text_whatever_they_say(ready):
    runs = Runs()
    run = runs.add(ready, drawn_model.of_session(ready), compare(ready, ["<b>${1+1}", "a cat"], 0, 2))
    for html in (runs_strip.show(runs), compare_view.score_table(run.comparison)):
        assert "<b>$" not in html


def test_a_sheet_holds_every_picture_in_its_place():
    colours = ["red", "lime", "blue", "white"]
    for count in range(1, 5):
        sheet = contact_sheet([Image.new("RGB", (64, 32), colour) for colour in colours[:count]]).convert("RGBA")
        assert len(places(count)) == count
        middles = [(32, 16), (98, 16), (32, 50), (98, 50)][:count]
        found = [sheet.getpixel(middle)[:3] for middle in middles]
        assert found == [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in colours[:count]]
    assert sheet.size == (130, 66)
    assert sheet.getpixel((65, 16))[3] == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 255), st.integers(0, 255))
def test_amplified_differences_share_one_gain_that_cuts_nothing_off(a, b):
    black = Image.new("RGB", (8, 8))
    pictures, gain = amplified_differences([(black, Image.new("RGB", (8, 8), (value,) * 3)) for value in (a, b)])
    assert gain in (1, 2, 4, 8)
    assert [picture.getpixel((0, 0))[0] for picture in pictures] == [gain * a, gain * b]
    assert gain == 8 or 2 * gain * max(a, b) > 255 or max(a, b) == 0


def test_a_table_of_identical_pictures_says_so(ready):
    done = compare(pruned_by(ready, "magnitude", "layer", 0.0), PROMPTS[:2], 3, 2)
    assert (done.psnr, done.ssim, done.delta) == (None, 1.0, 0.0)
    assert compare_view.score_table(done).count("identical") == 3
    assert math.isfinite(done.seconds)


def test_clip_scores_on_the_page_are_cut_off_at_zero_after_averaging():
    """By hand: −30 and 10 have the mean −10, 12 and −4 the mean 4; alone they are 0 and 10, 12 and 0."""
    image = Image.linear_gradient("L").convert("RGB")  # not constant, which would have no score
    requests = tuple(Request(prompt, seed=0, steps=1) for prompt in PROMPTS[:2])
    left, right = (
        Side(name, (image,) * 2, clips, ((1, 0.0),), 1.0)
        for name, clips in (("dense", (-30.0, 10.0)), ("pruned", (12.0, -4.0)))
    )
    done = measure(left, right, requests, "tiny", 1.0)
    assert (done.left.clip, done.right.clip, done.delta) == (0, 4, 4)
    cells = re.findall(r"<td>([^<]*)</td>", compare_view.score_table(done))
    rows = [cells[start : start + 2] for start in range(0, len(cells), 4)]  # dense, and what B is more or less
    assert rows == [["0.00", "+12.00"], ["10.00", "−10.00"], ["0.00", "+4.00"]]


def test_words_that_are_not_read_are_told(ready):
    """The tiny tokenizers end after 14 letters: both prompts give the same picture, and the page says why."""
    letters = "a b c d e f g h i j k l m n"
    pruned = pruned_by(ready, "magnitude", "layer", 0.5)
    done = compare(pruned, [letters, f"{letters} o <p>", f"{letters} q"], 3, 2)
    read, cut, other = done.unread
    assert (read.drawn, read.scored) == ("", "")
    assert (cut.drawn, cut.scored) == ("o <p>", "o <p>")
    assert (other.drawn, other.scored) == ("q", "q")
    words = re.findall(r'<p class="unread">(.*?)</p>', compare_view.score_table(done))
    assert len(words) == 2
    assert words[0].startswith(places(3)[1])
    assert "not drawn and not scored</strong>, because neither the model nor CLIP reads further" in words[0]
    assert words[0].endswith("“o &lt;p&gt;”")
    alone = replace(done, unread=(Unread(), Unread("o", ""), Unread("p q", "q")))
    words = re.findall(r'<p class="unread">(.*?)</p>', compare_view.score_table(alone))
    assert "not drawn</strong>, because the model reads no further: “o”" in words[0]
    assert "not scored" not in words[0]
    assert "“p q”; <strong>not scored</strong>, because CLIP reads no further: “q”" in words[1]
    assert 'class="unread"' not in compare_view.score_table(compare(pruned, "a cat", 3, 2))


def test_a_class_without_a_name_has_no_clip_score(store, tiny_dit):
    session = Session(store).load_model(str(tiny_dit))
    asked = check_prompts(session.model, ("7", "golden retriever"), 0, 2)
    both = compare_models(session, DENSE, asked)
    table = compare_view.score_table(both)
    assert [math.isnan(score) for score in both.dense.clips] == [True, False]
    assert both.dense.clip == max(both.dense.clips[1], 0)
    first = table.split("<tbody>")[1].split("</tr>")[0]
    assert first.count("<td>–</td>") == 2  # of the dense picture and its difference
    assert NO_CLIP not in table
    alone = compare_models(session, DENSE, check_prompts(session.model, ("7",), 0, 2))
    assert NO_CLIP in compare_view.score_table(alone)
    told = describe_scores(alone)["clip"]
    assert (told["dense"], told["pruned"], told["delta"]) == (None, None, None)
    json.dumps(describe_scores(alone), allow_nan=False)
