"""Which part does what, against models whose weights are zeroed by hand; cancelling; what is predicted and measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from dit_prune_viz.app.pages.parts import listeners, view
from dit_prune_viz.app.session import analyzer, drawn_model, parts_file
from dit_prune_viz.app.session.analyzer import Finding, Findings, agreement, analyze
from dit_prune_viz.app.session.comparison import check_prompts, compare, paint_cluster
from dit_prune_viz.app.session.comparison_result import GAIN
from dit_prune_viz.app.session.drawn_model import ONLY, WITHOUT, of_part
from dit_prune_viz.app.session.layer_groups import BY_BLOCK, group_layers, group_of_selection, groups_of, tag_group
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.parts import BLOCKS, CLUSTERS, GROUPS, KINDS_OF_LAYERS, parts_of
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import part_grid
from dit_prune_viz.calibration.recorded_inputs import held_out_inputs, run_call
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.figures.part_scatter import part_scatter
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.metrics.pictures import amplified_differences, fitting_gain
from dit_prune_viz.pipelines.model import load_model


@pytest.fixture(scope="module")
def asked(ready):
    return check_prompts(ready.model, "a cat", 3, 2)


@pytest.fixture(scope="module")
def found(ready, asked):
    return analyze(ready, parts_of(ready, BLOCKS), asked)


@pytest.fixture(scope="module")
def other(tiny_flux):
    """A model of its own, to be zeroed by hand."""
    return load_model(tiny_flux, device="cpu", dtype="float32")


def zeroed(model, names, work):
    """What `work` gives while the weights of some layers are 0."""
    kept = {name: model.weight(name).clone() for name in names}
    with torch.no_grad():
        for name in names:
            model.weight(name).zero_()
        try:
            return work()
        finally:
            for name in names:
                model.weight(name).copy_(kept[name])


def is_dense(model, before) -> bool:
    after = model.transformer.state_dict()
    plain = not [name for name, module in model.transformer.named_modules() if "forward" in vars(module)]
    return plain and all(torch.equal(before[name], after[name]) for name in before)


def test_every_layer_is_in_one_block_and_in_one_kind(ready):
    names = [layer.name for layer in ready.model.layers]
    for by in (BLOCKS, KINDS_OF_LAYERS):
        found = parts_of(ready, by)
        assert sorted(name for part in found for name in part.layers) == sorted(names)
        assert all(part.among == tuple(names) for part in found)
        assert len({part.key for part in found}) == len({part.name for part in found}) == len(found)
    blocks = parts_of(ready, BLOCKS)
    assert [part.name for part in blocks] == [f"block {i}" for i in range(len(blocks))]
    for part in blocks:  # the key is the module's path
        assert all(name.startswith(f"{part.key}.") for name in part.layers)
    assert parts_of(ready, BLOCKS, chosen=[blocks[1].key])[0].name == "block 1"


@pytest.mark.parametrize("mode", [WITHOUT, ONLY])
def test_a_picture_without_a_block_is_that_of_zeroed_weights(ready, other, asked, mode):
    part = parts_of(ready, BLOCKS)[1]
    names = [layer.name for layer in ready.model.layers if (layer.name in part.layers) == (mode == WITHOUT)]
    (one,) = analyze(ready, [part], asked, mode=mode, measured=False)
    image, _ = zeroed(other, names, lambda: generate(other, Request("a cat", 3, 2)))
    drawn = one.comparison.right.images[0]
    assert np.abs(np.asarray(drawn, int) - np.asarray(image, int)).max() <= 1
    assert drawn.tobytes() != one.comparison.left.images[0].tobytes()
    assert one.removed == sum(math.prod(ready.model.layer(name).shape) for name in names)


def test_errors_and_damages_are_the_naive_ones(ready, other, found):
    calibration = ready.calibration
    inputs = held_out_inputs(other, calibration, analyzer.INPUTS)

    def outputs():
        with torch.no_grad():
            found = [output.double() for call in inputs.calls for output in run_call(other, call)]
        of = dict(zip([place for call in inputs.calls for place in call.places], found, strict=True))
        # What guidance of 3 makes of both halves, whichever is the prompt's.
        return torch.stack([3 * one - 2 * of[run, step, 1 - half] for (run, step, half), one in of.items()])

    dense, weights = outputs(), sum(layer.weights for layer in ready.model.layers)
    for one in found:
        error = (zeroed(other, list(one.part.layers), outputs) - dense).square().sum() / dense.square().sum()
        assert one.error == pytest.approx(float(error), rel=1e-3)
        # All energy of the block's layers goes, none of the others'.
        assert one.damage == pytest.approx(one.removed / weights)
    kind = parts_of(ready, KINDS_OF_LAYERS)[0]
    (half,) = analyze(ready, [kind], found[0].comparison.requests, sparsity=0.5, measured=False)
    lost = 0.0
    for name, layer in half.drawn.layers.items():
        energy = ready.model.weight(name).double().square() * ready.mean_square(name).double()
        lost += float(energy[~layer.mask.unpack()].sum() / energy.sum()) * layer.mask.weights
    assert half.damage == pytest.approx(lost / weights)


def test_a_share_of_a_part_is_what_the_plan_ranks_lowest(ready):
    part = parts_of(ready, KINDS_OF_LAYERS)[0]
    half = of_part(ready, part, WITHOUT, 0.5)  # the plan's own sparsity
    assert list(half.layers) == list(part.layers)
    for name, layer in half.layers.items():
        assert layer.mask.removed / layer.mask.weights == pytest.approx(0.5, abs=0.02)
        scores, keep = ready.scores(name), layer.mask.unpack()
        if ready.plan.layer(name).granularity == "layer":
            assert scores[~keep].max() <= scores[keep].min()
    rest = of_part(ready, part, ONLY, 0.5)
    assert not set(rest.layers) & set(part.layers)
    assert len(rest.layers) + len(part.layers) == len(ready.model.layers)


@pytest.mark.parametrize("unit", ["row", "weight"])
def test_a_share_of_a_cluster_leaves_the_rest_of_its_layer(ready, unit):
    layer = next(item.name for item in ready.model.layers if item.kind == "adaLN")
    session = ready.cluster(layer, unit, "kmeans", 3)
    for part in parts_of(session, CLUSTERS, layer):
        members = part.layers[layer].unpack()
        for mode, doomed in ((WITHOUT, members), (ONLY, ~members)):
            keep = of_part(session, part, mode, 0.25).layers[layer].mask.unpack()
            assert keep[~doomed].all()
            # floor(n · s) in all, or in every row
            assert int(doomed.sum()) * 0.25 - len(keep) <= int((~keep).sum()) <= int(doomed.sum()) * 0.25


def test_clusters_are_a_case_of_it(ready, asked):
    layer = next(item.name for item in ready.model.layers if item.kind == "adaLN")
    session = ready.cluster(layer, "row", "kmeans", 2)
    first, second = analyze(session, parts_of(session, CLUSTERS, layer), asked)
    alone = paint_cluster(session, layer, 1, asked[0])
    assert second.comparison.right.images[0].tobytes() == alone.right.images[0].tobytes()
    assert second.drawn.name == alone.right.name
    # Shares of the layer's energy, as in the table of clusters; the two of them are all of it.
    assert first.damage + second.damage == pytest.approx(1)
    assert first.damage == pytest.approx(session.cluster_rows(layer)[0].energy)


def test_groups_of_layers_are_parts(ready):
    names = [layer.name for layer in ready.model.layers]
    by_kind = parts_of(ready, GROUPS)  # as the Map has it at first
    assert {part.name: list(part.layers) for part in by_kind} == {
        part.name: list(part.layers) for part in parts_of(ready, KINDS_OF_LAYERS)
    }
    session = group_of_selection(ready, np.array([0, 3]))
    (made,) = [part for part in parts_of(session, GROUPS) if part.name.startswith("selection")]
    assert list(made.layers) == [names[0], names[3]]
    assert made.among == tuple(names)
    # A group's number means another group once the layers are grouped anew; its name may be borne by two.
    with pytest.raises(UserError, match="no part"):
        parts_of(group_layers(session, BY_BLOCK), GROUPS, chosen=[made.key])
    twins = tag_group(session, 0, name=made.name)
    assert len(parts_of(twins, GROUPS)) == len(groups_of(twins).tags)
    assert len(parts_of(twins, GROUPS, chosen=[made.name])) == 2
    (one,) = parts_of(twins, GROUPS, chosen=[made.key])
    assert list(one.layers) == [names[0], names[3]]


def test_cancelling_keeps_what_is_done_and_the_model_dense(ready):
    blocks, before = parts_of(ready, BLOCKS), {k: v.clone() for k, v in ready.model.transformer.state_dict().items()}
    requests = check_prompts(ready.model, "the moon", 9, 2)
    came: list[Finding] = []
    seen: list[int] = []

    def progress(done, total, what):
        assert total == 2 * (len(blocks) + 1)
        seen.append(done)
        if len(came) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        analyze(ready, blocks, requests, emit=came.append, progress=progress)
    assert [one.part.name for one in came] == ["block 0", "block 1"]
    assert seen == sorted(seen)
    assert is_dense(ready.model, before)
    steps: list[str] = []
    again = analyze(ready, blocks, requests, progress=lambda done, total, what: steps.append(what))
    assert [a.comparison.right.images for a in again[:2]] == [c.comparison.right.images for c in came]
    assert not [what for what in steps if "Without block 0" in what or "Without block 1:" in what]  # not drawn again
    assert [what for what in steps if "Without block 2" in what]
    assert compare(ready, "the moon", 9, 2).left.images is again[0].comparison.left.images  # one dense picture for all


def test_without_a_calibration_parts_are_taken_away_whole(tiny_clip, tiny_flux):
    fresh = Session(ModelStore(clip=tiny_clip, device="cpu", dtype="float32")).load_model(str(tiny_flux))
    requests = check_prompts(fresh.model, "a cat", 3, 2)
    (one,) = analyze(fresh, parts_of(fresh, BLOCKS)[:1], requests)
    assert one.damage is None
    assert one.error is None
    assert one.removed > 0
    with pytest.raises(UserError, match="not calibrated"):
        analyze(fresh, parts_of(fresh, BLOCKS)[:1], requests, sparsity=0.5)


BAD = {
    "no part": (lambda s: analyze(s, [], ()), "no part"),
    "a mode": (lambda s: of_part(s, parts_of(s, BLOCKS)[0], "half"), "half"),
    "a sparsity": (lambda s: of_part(s, parts_of(s, BLOCKS)[0], WITHOUT, 1.5), "between 0 and 1"),
    "no sparsity": (lambda s: of_part(s, parts_of(s, BLOCKS)[0], WITHOUT, None), "between 0 and 1"),
    "a way": (lambda s: parts_of(s, "rows"), "by block, by kind"),
    "no layer": (lambda s: parts_of(s, CLUSTERS, None), "Choose a layer"),
    "no clusters": (lambda s: parts_of(s, CLUSTERS, s.model.layers[0].name), "no clusters"),
    "a key": (lambda s: parts_of(s, BLOCKS, chosen=["x"]), "no part 'x' now"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_one_sentence(ready, name):
    work, words = BAD[name]
    with pytest.raises(UserError, match=words):
        work(ready)


def finding(name: str, damage: float | None, error: float | None) -> Finding:
    return Finding(SimpleNamespace(name=name), None, None, 0, damage, error)


def test_parts_that_mislead_are_named():
    plain = [finding(f"p{i}", 0.1 * i, 0.02 * i) for i in range(1, 6)]
    told = agreement([*plain, finding("<b>dear", 0.1, 0.2), finding("cheap", 0.5, 0.01), finding("nothing", 0.0, 0.0)])
    assert told.ratio == pytest.approx(0.2)
    assert told.worse == (("<b>dear", pytest.approx(10)),)
    assert told.better == (("cheap", pytest.approx(10)),)
    assert agreement(plain).rank == pytest.approx(1)
    assert agreement([finding("x", None, None)]).ratio is None
    figure, words = view.compared([*plain, finding("<b>dear", 0.1, 0.2)])
    assert "&lt;b&gt;dear (10 times more than its prediction says)" in words
    outlying = next(trace for trace in figure.data if trace.name == "misleading")
    assert list(outlying.text) == ["&lt;b&gt;dear"]
    assert len(part_scatter(["a", "b"], [0.0, 0.1], [0.1, 0.0]).data[0].x) == 0  # 0 has no logarithm


def test_the_grid_sends_every_picture_once_and_all_at_the_end(ready, found):
    findings = Findings()
    assert json.loads(part_grid.show(findings))["cards"] == []
    findings.begin(ready, WITHOUT, 1.0, len(found))
    for one in found[:2]:
        findings.found.append(one)
        value = json.loads(part_grid.show(findings, [one]))
    assert [bool(card["picture"]) for card in value["cards"]] == [False, True]
    assert value["dense"]["picture"] is None
    assert f"2 of {len(found)} parts" in value["words"]
    last = json.loads(part_grid.show(findings))
    assert all(card["picture"] and card["difference"] for card in last["cards"])
    assert last["dense"]["picture"]
    figures = dict(last["cards"][0]["figures"])
    assert figures["SSIM"] == f"{found[0].comparison.ssim:.3f}"
    assert figures["measured error"] == f"{100 * found[0].error:.2g} %"


def test_a_card_says_where_the_prediction_misleads(ready, found):
    findings = Findings()
    findings.begin(ready, WITHOUT, 1.0, 3)
    errors = (0.01, 0.02, 0.2)
    findings.found.extend(replace(one, damage=0.1, error=error) for one, error in zip(found[:3], errors, strict=True))
    hints = [card["hint"] for card in json.loads(part_grid.show(findings))["cards"]]
    assert hints == ["", "", "▲ costs 10 times more than predicted"]
    findings.found[2] = replace(findings.found[2], error=0.005)  # the median is now that of 0.01
    findings.found[0] = replace(findings.found[0], error=0.0001)
    hints = [card["hint"] for card in json.loads(part_grid.show(findings))["cards"]]
    assert hints == ["▼ costs 50 times less than predicted", "▲ costs 4 times more than predicted", ""]
    told = parts_file.values_of(findings)
    assert [one["times_predicted"] for one in told["parts"]] == pytest.approx([0.02, 4, 1])
    assert told["error_per_damage"] == pytest.approx(0.05)


def test_the_sheet_has_every_picture_in_order_of_effect(ready, found):
    findings = Findings()
    with pytest.raises(UserError, match="No part"):
        parts_file.sheet(findings)
    findings.begin(ready, WITHOUT, 1.0, len(found))
    findings.found.extend(found)
    drawn = np.asarray(parts_file.sheet(findings))
    side = 2 * 64  # pictures of 64 pixels are shown twice as large
    ordered = sorted(found, key=lambda one: one.comparison.ssim)
    tops = []
    for picture in (found[0].comparison.left.images[0], *(one.comparison.right.images[0] for one in ordered)):
        wanted = np.asarray(picture.convert("RGB")).repeat(2, 0).repeat(2, 1)
        corners = np.argwhere((drawn == wanted[0, 0]).all(2))
        places = [(y, x) for y, x in corners.tolist() if np.array_equal(drawn[y : y + side, x : x + side], wanted)]
        assert places
        tops.append(min(places)[0])
    assert tops == sorted(tops)
    assert len(set(tops)) == len(found) + 1
    told = parts_file.values_of(findings)
    assert [one["name"] for one in told["parts"]] == [one.part.name for one in found]
    dense, pruned = (max(one["clip"][0], 0) for one in (told["dense"], told["parts"][1]))
    assert told["parts"][1]["delta"] == pytest.approx(pruned - dense)
    json.dumps(told)


def test_a_card_opens_in_full_unless_it_is_gone(ready, found):
    findings, runs = Findings(), Runs()
    findings.begin(ready, WITHOUT, 1.0, len(found))
    findings.found.extend(found)
    for event in ({"id": 0, "number": 0}, {"id": len(found), "number": 1}, {"id": True, "number": 1}, {}, {"id": "0"}):
        assert not listeners.put_in_full(runs, findings, SimpleNamespace(**event))
    assert listeners.put_in_full(runs, findings, SimpleNamespace(id=1, number=1))
    assert runs.shown.drawn is found[1].drawn
    assert runs.shown.comparison.ssim == found[1].comparison.ssim
    assert runs.shown.comparison.gain == GAIN
    assert not findings.follow(ready)
    assert findings.follow(Session(ready.store))
    assert findings.session is None
    assert findings.found == []


def test_a_given_gain_is_kept():
    black, grey = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), (30,) * 3)
    (picture,), gain = amplified_differences([(black, grey)], 1)
    assert gain == 1
    assert picture.getpixel((0, 0)) == (30, 30, 30)
    assert fitting_gain([picture]) == 8
    assert fitting_gain([black]) == 1


def test_what_is_offered_follows_the_model_and_its_clusters(ready):
    basis, layer, chosen = listeners.offer(ready, BLOCKS, None, None)
    assert not layer.visible
    assert next(name for name, _ in chosen.choices) == "block 0"
    assert listeners.offer(ready, BLOCKS, None, basis) == (gr.skip(),) * 3
    _, layer, chosen = listeners.offer(ready, CLUSTERS, None, basis)
    assert layer.visible
    assert chosen.choices == []
    name = ready.model.layers[0].name
    clustered = ready.cluster(name, "row", "kmeans", 2)
    basis, layer, chosen = listeners.offer(clustered, CLUSTERS, None, None)
    assert layer.value == name
    assert len(chosen.choices) == 2
    assert listeners.offer(None, BLOCKS, None, None)[2].choices == []
    _, cluster = listeners.offer_paint(clustered, name, None)
    assert cluster.value == 1
    assert cluster.choices[-1][1] == -1
    assert drawn_model.of_cluster(clustered, name, 1, ONLY).layers[name].mask.kept > 0
