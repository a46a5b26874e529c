"""Reports opened from the disk in a browser without a network: they draw, and ask for nothing."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from reports import HOSTILE, hostile_content, large_content, lines, pruned_by_hand

from dit_prune_viz.calibration.settings import CalibrationSettings
from dit_prune_viz.export.report import gather, write_report
from dit_prune_viz.export.report_parts.pairs import draw_pairs
from dit_prune_viz.metrics.clip import load_clip
from dit_prune_viz.pruning.recipe import Recipe
from dit_prune_viz.resources import BUNDLED_CLIP

LAYER = "transformer_blocks.1.ff.net.0.proj"


@pytest.fixture(scope="module")
def content(bundled):
    """Of the bundled model: DiT-Pruning at 60 %, two clusters by hand, two drawn prompts, curves."""
    pruned, statistics, clusters = pruned_by_hand(bundled, Recipe(sparsity=0.6), LAYER, {0: 0.9, 3: 0.2}, k=4)
    clip = load_clip(BUNDLED_CLIP, name="bundled emoji-CLIP")
    pairs = draw_pairs(bundled, pruned, ["red apple", "grinning face"], seed=7, steps=3, clip=clip)
    return gather(
        pruned,
        statistics=statistics,
        clusters={LAYER: clusters},
        pictures=pairs,
        curves=lines(),
        packed_bytes=12_000_000,
    )


@pytest.fixture(scope="module")
def report(content, tmp_path_factory) -> Path:
    return write_report(tmp_path_factory.mktemp("report") / "report.html", content)


@contextmanager
def opened(browser, path: Path, *, width: int = 1280, scheme: str = "light"):
    """The file in an offline browser. Fails if it logs an error or asks for anything."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, accept_downloads=True
    )
    page = context.new_page()
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert errors == [], errors
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]


def draw_all(page: Page) -> None:
    """Scroll past every plot, as a reader does, until all are drawn."""
    for plot in page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        expect(plot.locator(".main-svg").first).to_be_visible(timeout=60_000)
    page.evaluate("scrollTo(0, 0)")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_it_draws_everything_offline(browser, report, content, scheme, width, screenshots):
    assert report.stat().st_size < 8_000_000
    with opened(browser, report, scheme=scheme, width=width) as page:
        draw_all(page)
        assert page.locator("#map .plot").first.locator(".heatmaplayer image, .heatmaplayer .hm image").count() == 1
        rows = next(layer.shape[0] for layer in content.layers if layer.name == LAYER)
        assert page.locator("#clusters .plot .scatterlayer .point").count() == rows
        loaded = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
        assert len(loaded) == 4
        assert min(loaded) == 128
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 19, 28)"
        assert dark == (scheme == "dark")
        if screenshots is not None:
            page.screenshot(path=screenshots / f"report-{scheme}-{width}-first.png")
            page.screenshot(path=screenshots / f"report-{scheme}-{width}.png", full_page=True)


def test_layers_are_found_sorted_and_saved(browser, report, content, tmp_path):
    with opened(browser, report) as page:
        shown = page.locator("#layer-table tbody tr:visible")
        assert shown.count() == 78
        page.locator("#find").fill("attn.to_q transformer_blocks.1")
        names = shown.locator("th").all_text_contents()
        expected = [
            one.name for one in content.layers if "attn.to_q" in one.name and "transformer_blocks.1" in one.name
        ]
        assert names == expected
        expect(page.locator("#found")).to_have_text(f"{len(expected)} of 78 layers")
        page.locator("#find").fill("")
        page.get_by_role("button", name="Predicted damage").click()
        damages = {one.name: one.damage for one in content.report.layers}
        assert shown.locator("th").all_text_contents() == sorted(damages, key=damages.get, reverse=True)
        expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Save as CSV").click()
        waiting.value.save_as(tmp_path / "layers.csv")
        table = (tmp_path / "layers.csv").read_text().splitlines()
        assert table[0] == "layer,block,kind,shape,weights,ranked_by,g_out,removed,sparsity,damage"
        first = table[1].split(",")
        top = max(content.report.layers, key=lambda one: one.damage)
        assert first[0] == top.name
        assert int(first[7]) == top.removed
        assert float(first[9]) == top.damage
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Save recipe.json").click()
        waiting.value.save_as(tmp_path / "recipe.json")
        assert (tmp_path / "recipe.json").read_text() == content.recipe.text


def test_a_cell_of_the_map_leads_to_its_layer(browser, report, content):
    with opened(browser, report) as page:
        page.locator("#find").fill("nothing has this name")
        plot = page.locator("#map .plot").first
        plot.evaluate("plot => plot.scrollIntoView({ block: 'center', behavior: 'instant' })")
        expect(plot).to_have_attribute("data-drawn", "figure-0", timeout=60_000)
        plot.locator(".nsewdrag").click(position={"x": 8, "y": 8})  # once the page has stopped moving
        expect(page.locator("#layer-table tr.found")).to_have_count(1)
        figure = json.loads(page.locator("#figure-0").text_content())
        assert page.locator("#layer-table tr.found th").text_content() in json.dumps(figure)
        page.get_by_label("Row heterogeneity").first.press(" ")  # the page may still be on its way to the layer
        expect(plot.locator(".gtitle")).to_have_text("Row heterogeneity (G_out)")
        expect(plot.locator("xpath=..").locator(".help")).to_contain_text("How much the output rows differ")


def test_pictures_are_compared_with_the_keyboard_and_side_by_side(browser, report):
    with opened(browser, report) as page:
        pair = page.locator("#pictures .wipe").first
        slider = pair.locator("input")
        slider.focus()
        page.keyboard.press("Home")
        assert pair.evaluate("e => e.style.getPropertyValue('--at')") == "0%"
        page.keyboard.press("ArrowRight")
        assert pair.evaluate("e => e.style.getPropertyValue('--at')") == "1%"
        page.get_by_label("Side by side").press(" ")
        left, right = (pair.locator("img").nth(place).bounding_box() for place in (1, 0))
        assert left["x"] + left["width"] <= right["x"] + 1
        assert abs(left["width"] - right["width"]) < 1


def test_the_theme_can_be_switched_and_print_is_light(browser, report):
    with opened(browser, report, scheme="dark") as page:
        draw_all(page)
        page.get_by_role("button", name="Switch to light colours").click()
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(23, 32, 44)"
        expect(page.locator("#map .gtitle").first).to_have_css("fill", "rgb(23, 32, 44)")
        page.get_by_role("button", name="Switch to dark colours").click()
        printed = page.pdf()
        assert printed.startswith(b"%PDF")
        assert len(printed) > 50_000
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_hostile_names_are_text(browser, content, tmp_path):
    path = write_report(tmp_path / "hostile.html", hostile_content(content))
    with opened(browser, path) as page:
        expect(page.locator("h1")).to_have_text(HOSTILE)
        expect(page.locator(".pairs figcaption strong").first).to_have_text(HOSTILE)
        assert page.title().startswith("</script>")


def test_another_family_and_a_report_from_the_plan_alone(browser, sana, tmp_path):
    recipe = Recipe(calibration=CalibrationSettings(samples=4))
    layer = next(one.name for one in sana.layers if one.convolution)
    pruned, _, _ = pruned_by_hand(sana, recipe, layer, {0: 0.8}, unit="column", k=2)
    path = write_report(tmp_path / "sana.html", gather(pruned, pictures=draw_pairs(sana, pruned, steps=1)))
    with opened(browser, path) as page:
        draw_all(page)
        expect(page.locator("#layer-table tbody tr")).to_have_count(len(sana.layers))
        expect(page.locator("#clusters h3")).to_have_text(layer)
        expect(page.locator(".pair")).to_have_count(4)
        expect(page.locator("#tradeoff")).to_have_count(0)


def test_the_largest_report_opens(browser, tmp_path):
    path = write_report(tmp_path / "large.html", large_content(tuned=2, pictures=2))
    with opened(browser, path) as page:
        expect(page.locator("#layer-table tbody tr")).to_have_count(504)
        draw_all(page)
        page.locator("#find").fill("blocks.3.")
        expect(page.locator("#found")).to_have_text("9 of 504 layers")
