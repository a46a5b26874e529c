"""A report: its numbers, its pictures, its bounds, and that nothing a person writes becomes part of its code."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import io
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from inspect import signature

import numpy as np
import pytest
from PIL import Image
from reports import HOSTILE, hostile_content, large_content, lines, noise, pruned_by_hand

from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.clustering.clusters import Tag
from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.export import report as reports
from dit_prune_viz.export.report import gather, write_report
from dit_prune_viz.export.report_parts.page import LIMIT, render
from dit_prune_viz.export.report_parts.pairs import bounded, draw_pairs, make_pair
from dit_prune_viz.figures.library import PLOTLY_JS
from dit_prune_viz.figures.tradeoff import tradeoff
from dit_prune_viz.generation.request import Request
from dit_prune_viz.generation.stream import generate
from dit_prune_viz.metrics.clip import load_clip
from dit_prune_viz.metrics.pictures import psnr, ssim
from dit_prune_viz.pruning.prune import prune
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.pruning.recipe_file import read_recipe

LAYER = "transformer_blocks.0.attn.to_q"
RECIPE = Recipe(sparsity=0.4, calibration=CalibrationSettings(samples=8))


class Page(HTMLParser):
    """The tags of a page, the text outside its scripts, and the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.scripts: list[tuple[dict, str]] = []
        self._open: dict | None = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self._open = dict(attributes)
            self.scripts.append((self._open, ""))

    def handle_endtag(self, tag):
        if tag == "script":
            self._open = None

    def handle_data(self, data):
        if self._open is not None:
            self.scripts[-1] = (self._open, self.scripts[-1][1] + data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def figures(self) -> list[dict]:
        return [json.loads(text) for about, text in self.scripts if about.get("type") == "application/json"]


@pytest.fixture(scope="module")
def by_hand(flux):
    """DiT-Pruning at 40 %, two clusters of rows of one layer by hand."""
    return pruned_by_hand(flux, RECIPE, LAYER, {0: 0.9, 2: 0.1})


@pytest.fixture(scope="module")
def content(by_hand):
    pruned, statistics, clusters = by_hand
    tags = (Tag("quiet", 5), Tag("loud", 1, locked=True), Tag("rest", 2))
    request = Request("a cat", 3, 4)
    pair = make_pair(noise(64, 48, 0), noise(64, 48, 1), request, clip=(31.25, 29.5), clip_name="some CLIP")
    return gather(
        pruned,
        statistics=statistics,
        clusters={LAYER: replace(clusters, tags=tags)},
        pictures=[pair],
        curves=lines(),
        packed_bytes=100_000,
    )


def test_the_first_screen_says_how_sparse_how_large_and_at_what_cost(flux, by_hand, content):
    pruned = by_hand[0]
    page = Page(render(content))
    removed = sum(int((~mask).sum()) for mask in pruned.masks.values())
    weights = sum(mask.numel() for mask in pruned.masks.values())
    assert f"{removed:,} of {weights:,} prunable weights are zero" in page.text
    assert f"{100 * removed / weights:.3g} %" in page.text
    dense = 4 * sum(one.numel() for one in flux.transformer.parameters())
    assert f"{dense / 100_000:.1f} times smaller than the dense" in page.text
    assert f"Predicted damage {100 * pruned.report.damage:.3g} %" in page.text
    assert "CLIP score 29.50 dense 31.25, difference −1.75; by some CLIP" in page.text
    assert page.tags.count(("h1", {"id": "title"})) == 1
    assert "tiny-flux" in page.text
    assert content.recipe.words == "DiT-Pruning, 40 %, two clusters by hand"
    assert content.recipe.words in page.text


def test_every_layer_has_its_exact_numbers_in_the_table(by_hand, content):
    pruned = by_hand[0]
    text = render(content)
    for name, mask in pruned.masks.items():
        row = re.search(rf'<tr><th scope="row">{re.escape(name)}</th>(.*?)</tr>', text).group(1)
        values = re.findall(r'data-v="([^"]*)"', row)
        removed = int((~mask).sum())
        assert [float(value) for value in values[2:3]] == [mask.numel()]
        assert float(values[4]) == removed
        assert float(values[5]) == pytest.approx(removed / mask.numel(), abs=1e-12)
    assert text.count('<tr><th scope="row">') >= len(pruned.masks)


def test_clusters_show_what_they_hold_and_what_was_set_by_hand(flux, by_hand, content):
    pruned, statistics, clusters = by_hand
    (tuned,) = content.tuned
    energy = flux.weight(LAYER).double().numpy() ** 2 * statistics.mean_square(LAYER).double().numpy()
    cut = ~pruned.masks[LAYER].numpy()
    for i, line in enumerate(tuned.clusters):
        rows = clusters.labels == i
        assert line.damage.units == rows.sum()
        assert line.damage.energy == pytest.approx(energy[rows].sum() / energy.sum())
        assert line.damage.damage == pytest.approx((energy * cut)[rows].sum() / energy.sum())
        assert line.damage.sparsity == pytest.approx(cut[rows].mean())
    assert [line.asked for line in tuned.clusters] == [0.9, None, 0.1]
    text = Page(render(content)).text
    assert "quiet" in text
    assert "loud locked" in text
    assert "by hand, 90 %" in text


def test_a_plan_alone_shows_its_clusters_and_finds_the_calibration(by_hand):
    found = gather(by_hand[0])
    assert [one.name for one in found.tuned] == [LAYER]
    assert found.tuned[0].drawing is not None
    assert {one.key for one in found.scatters} == {"dots-activation_norm", "dots-g_out", "dots-damage"}


def test_without_a_calibration_the_report_says_what_is_missing(flux, by_hand):
    pruned = by_hand[0]
    bare = replace(pruned, model=flux.also_pruning(()))  # the same pipeline, nothing remembered
    found = gather(bare)
    assert found.scatters == ()
    assert [one.label for one in found.maps] == ["Predicted damage", "Sparsity", "Row heterogeneity (G_out)", "Weights"]
    assert found.tuned[0].drawing is None
    cut = ~pruned.masks[LAYER].numpy()
    sparsities = [line.damage.sparsity for line in found.tuned[0].clusters]
    assert np.average(sparsities, weights=[line.damage.weights for line in found.tuned[0].clusters]) == pytest.approx(
        cut.mean()
    )
    page = Page(render(found))
    assert "calibration was not at hand" in page.text
    assert "nan" not in page.text.lower()


def test_figures_are_those_of_the_app(content):
    figures = Page(render(content)).figures()
    drawings = [*content.maps, *content.scatters, *content.tradeoff.drawings, content.tuned[0].drawing]
    assert figures == [json.loads(one.figure) for one in drawings]
    assert "dense 30" in json.dumps(figures)
    kinds = {trace["type"] for figure in figures for trace in figure["data"]}
    assert kinds == {"heatmap", "scatter"}


@pytest.mark.skipif("unit" not in signature(tradeoff).parameters, reason="curves are drawn over sparsity alone")
def test_curves_are_drawn_over_size_too_where_sizes_are_known(by_hand):
    sized = [replace(line, nbytes=int(4e9 * (1 - line.sparsity))) for line in lines()]
    found = gather(by_hand[0], curves=sized).tradeoff
    keys = [one.key for one in found.drawings]
    assert keys[:2] == ["tradeoff-clip", "tradeoff-clip-size"]
    curve = json.loads(found.drawings[1].figure)["data"][0]
    assert curve["x"] == pytest.approx([4 * 0.3, 4 * 0.5, 4 * 0.7])  # GB, the smallest first
    assert curve["y"] == pytest.approx([30 - 5 * 0.7, 30 - 5 * 0.5, 30 - 5 * 0.3])
    assert not any(
        key.endswith("size") for key in [one.key for one in gather(by_hand[0], curves=lines()).tradeoff.drawings]
    )


def test_pictures_are_those_of_both_models(flux, by_hand, tiny_clip):
    pruned, clip = by_hand[0], load_clip(tiny_clip)
    calls = []
    pairs = draw_pairs(
        flux, pruned, ["a cat", "two dogs"], seed=5, steps=2, clip=clip, progress=lambda *done: calls.append(done[:2])
    )
    assert calls == [(i, 8) for i in range(1, 9)]
    for pair, prompt in zip(pairs, ("a cat", "two dogs"), strict=True):
        dense, _ = generate(flux, Request(prompt, 5, 2))
        other, _ = generate(flux, Request(prompt, 5, 2), pruned=pruned)
        shown = [Image.open(io.BytesIO(side)) for side in (pair.dense, pair.pruned)]
        assert np.array_equal(shown[0], dense)
        assert np.array_equal(shown[1], other)
        assert pair.ssim == ssim(dense, other)
        assert pair.psnr == psnr(dense, other)
        assert pair.clip == pytest.approx(clip.score([dense, other], [prompt] * 2))
        assert (pair.prompt, pair.seed, pair.steps, pair.size) == (prompt, 5, 2, (64, 64))


def test_drawing_can_be_cancelled_and_leaves_the_model_dense(flux, by_hand):
    before = {name: value.clone() for name, value in flux.transformer.state_dict().items()}

    def stop(done, total, what):
        if done == 3:  # inside the pruned picture
            raise Cancelled

    with pytest.raises(Cancelled):
        draw_pairs(flux, by_hand[0], ["a cat"], steps=2, progress=stop)
    assert all(value.equal(before[name]) for name, value in flux.transformer.state_dict().items())
    with pytest.raises(UserError, match="empty"):
        draw_pairs(flux, by_hand[0], ["a cat", " "], steps=2, progress=stop)


def test_equal_pictures_have_no_psnr_and_tiny_ones_no_ssim():
    same = make_pair(noise(32, 32, 0), noise(32, 32, 0), Request("x", 0, 1))
    assert (same.ssim, same.psnr) == (1.0, None)
    tiny = make_pair(noise(5, 5, 0), noise(5, 5, 1), Request("x", 0, 1))
    assert tiny.ssim is None
    assert tiny.psnr > 0


def test_nothing_a_person_writes_becomes_markup(content):
    plain, hostile = Page(render(content)), Page(render(hostile_content(content)))
    assert [tag for tag, _ in hostile.tags if tag in ("script", "img")] == [
        tag for tag, _ in plain.tags if tag in ("script", "img")
    ]
    names = {name for _, attributes in hostile.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")}
    assert hostile.text.count(HOSTILE) >= 8


def test_figures_show_hostile_names_as_text(by_hand):
    pruned, statistics, clusters = by_hand
    tags = tuple(Tag("<b>bold</b><a href='https://example.org'>x</a>", i) for i in range(clusters.k))
    found = gather(pruned, statistics=statistics, clusters={LAYER: replace(clusters, tags=tags)}, curves=lines(["<i>"]))
    figures = Page(render(found)).figures()
    names = {trace["name"] for figure in figures for trace in figure["data"] if "name" in trace}
    assert "&lt;i&gt;" in names
    assert any(name.startswith("&lt;b&gt;bold") for name in names)
    assert not any("<" in name for name in names)


def test_the_policy_lets_the_two_scripts_run_and_no_other(content):
    page = Page(render(content))
    (policy,) = [about["content"] for tag, about in page.tags if about.get("http-equiv") == "Content-Security-Policy"]
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    (run,) = [text for about, text in page.scripts if "type" not in about]
    (packed,) = [text for about, text in page.scripts if about.get("id") == "plotly"]
    library = gzip.decompress(base64.b64decode(packed))
    assert library == PLOTLY_JS.read_bytes()
    assert {base64.b64encode(hashlib.sha256(text).digest()).decode() for text in (run.encode(), library)} == allowed
    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    for tag, about in page.tags:
        assert not about.get("src", "data:").startswith(("http", "//")), tag
        assert tag != "link" or about["href"] == "data:,"


def test_the_largest_report_stays_below_8_mb_and_says_what_it_leaves_out():
    content = large_content()
    text = render(content)
    assert len(text.encode()) < LIMIT == 8_000_000
    page = Page(text)
    assert text.count("data-csv=") == 504
    assert "12 of 14 pairs of pictures are shown." in page.text
    assert "shown as WebP" in page.text
    assert "lists 500 of 801 lines" in page.text
    assert len(page.figures()) == len(content.maps) + len(content.scatters) + len(content.tradeoff.drawings) + 14


def test_of_thousands_of_experts_the_costly_ones_are_listed():
    content = large_content(layers=20_000, tuned=0, pictures=0)
    text = render(content)
    assert len(text.encode()) < LIMIT
    listed = re.findall(r'<tr><th scope="row">(transformer[^<]+)<', text)
    lost = {one.name: one.damage * one.weights for one in content.report.layers}
    costly = set(sorted(lost, key=lost.get)[-2_000:])
    assert listed == [name for name in lost if name in costly]
    assert "2,000 of 20,000 layers" in Page(text).text


def test_small_pictures_stay_as_they_are_and_large_ones_fit():
    small = make_pair(noise(16, 16, 0), noise(16, 16, 1), Request("x", 0, 1))
    large = make_pair(noise(300, 900, 0), noise(300, 900, 1), Request("x", 0, 1))
    strip = make_pair(noise(900, 60, 0), noise(900, 60, 1), Request("x", 0, 1))
    (first, second, third), changed = bounded([small, large, strip], 160_000)
    assert first is not small
    assert (first.dense, first.pruned) == (small.dense, small.pruned)
    assert changed == 2
    assert sum(len(side) for one in (first, second, third) for side in (one.dense, one.pruned)) <= 160_000
    width, height = Image.open(io.BytesIO(second.dense)).size
    assert height / width == pytest.approx(3, rel=0.02)
    assert Image.open(io.BytesIO(third.dense)).width > 200


def test_a_recipe_too_long_for_a_page_is_left_out_with_a_word(content):
    long = replace(content, recipe=replace(content.recipe, text="x" * 700_000))
    page = Page(render(long))
    assert "save it as a file of its own" in page.text
    assert "save-recipe" not in {about.get("id") for _, about in page.tags}


def test_the_recipe_in_the_report_replays_the_masks(flux, by_hand, content):
    (text,) = re.findall(r'<pre[^>]*id="recipe-text">(.*?)</pre>', render(content), re.S)
    recipe = read_recipe(unescape(text), flux).recipe
    again = prune(flux, recipe)
    assert all(mask.equal(by_hand[0].masks[name]) for name, mask in again.masks.items())


def test_what_stays_dense_or_within_bounds_is_told(flux):
    found = gather(prune(flux, replace(RECIPE, ignore=("*.attn.to_q",), bounds={"mlp in": (0.1, 0.2)})))
    text = Page(render(found)).text
    assert "Kept dense *.attn.to_q" in text
    assert "mlp in: 10 % to 20 %" in text


def test_scores_of_the_caller_go_before_those_of_the_pictures(by_hand, content):
    scores = {"clip": 28.0, "ssim": 0.75, "prompts": 64, "seeds": 3, "FID": 12.5}
    found = gather(by_hand[0], pictures=content.pairs, scores=scores)
    text = Page(render(found)).text
    assert "CLIP score 28.00 mean over 64 prompts × 3 seeds" in text
    assert "SSIM 0.750" in text
    assert "FID 12.5" in text


def test_n_of_m_and_updates_are_told(flux):
    found = gather(prune(flux, replace(RECIPE, granularity="2:4", update="mean")))
    text = Page(render(found)).text
    assert "2:4" in found.recipe.words
    assert "the update of the kept weights is not counted" in text


def test_a_report_is_written_whole_or_not_at_all(content, tmp_path, monkeypatch):
    path = tmp_path / "new" / "report.html"
    assert write_report(path, content) == path
    assert path.read_bytes() == render(content).encode()
    with pytest.raises(UserError, match="exists already"):
        write_report(path, content)
    write_report(path, replace(content, name="other"), overwrite=True)
    assert b'<h1 id="title">other' in path.read_bytes()
    with pytest.raises(UserError, match="is a folder"):
        write_report(tmp_path / "new", content, overwrite=True)
    with pytest.raises(UserError, match="Not a directory"):
        write_report(path / "below-a-file.html", content)

    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reports.Path, "write_bytes", full)
    before = path.read_bytes()
    with pytest.raises(UserError, match="No space left"):
        write_report(path, content, overwrite=True)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["report.html"]


def test_a_picture_of_an_unknown_kind_is_refused(content, tmp_path):
    odd = replace(content, pairs=(replace(content.pairs[0], dense=b"GIF89a"),))
    with pytest.raises(UserError, match="PNG, JPEG or WebP"):
        write_report(tmp_path / "report.html", odd)
    assert list(tmp_path.iterdir()) == []
