"""What a person does, in a real browser, with the bundled model."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

expect.set_options(timeout=60_000)
TRACEBACK = re.compile(r"Traceback|File \".*\", line \d+")


def shoot(page: Page, screenshots, name: str) -> None:
    page.wait_for_timeout(700)  # plots fade in
    page.screenshot(path=screenshots / f"{name}.png", full_page=True)


def bar_value(page: Page, label: str) -> str:
    fact = page.locator("#bar .fact").filter(has=page.get_by_text(label, exact=True))
    return fact.locator(".fact-value").first.inner_text()


def points(page: Page, plot: str) -> int:
    """How many dots the plot has."""
    return page.evaluate(
        """id => document.querySelector(`#${id} .js-plotly-plot`)._fullData
            .filter(trace => trace.type.startsWith("scatter") && trace.customdata)
            .reduce((sum, trace) => sum + trace.x.length, 0)""",
        plot,
    )


def open_first_layer(page: Page) -> None:
    page.locator("#layer-map .plot").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator("#cluster-table tbody tr").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"], indirect=True)
def test_the_main_journey(page: Page, screenshots, scheme):
    assert bar_value(page, "Model") == "emoji-flux"
    assert bar_value(page, "Sparsity").startswith("50.0")
    assert points(page, "layer-dots") == 78
    shoot(page, screenshots, f"{scheme}-map")

    cell = page.locator("#layer-map .nsewdrag").bounding_box()
    page.mouse.click(cell["x"] + 30, cell["y"] + 6)
    page.locator("#cluster-table tbody tr").first.wait_for()
    expect(page.get_by_role("tab", name="Layer")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#layer-picker input")).to_have_value(re.compile("adaLN"))
    assert points(page, "units") > 100
    shoot(page, screenshots, f"{scheme}-layer")

    sparsity, damage = bar_value(page, "Sparsity"), bar_value(page, "Predicted damage")
    row = page.locator("#cluster-table tbody tr").first
    own_damage = row.locator(".damage").inner_text()
    row.locator("input[type=range]").fill("90")
    expect(row.locator(".damage")).not_to_have_text(own_damage)
    expect(row.locator("input[type=number]")).to_have_value(re.compile(r"^(89|90)\.\d$"))
    assert bar_value(page, "Sparsity") > sparsity
    assert bar_value(page, "Predicted damage") != damage
    shoot(page, screenshots, f"{scheme}-cluster")

    page.get_by_role("tab", name="Compare").click()
    page.locator("#prompt textarea").fill("grinning face")
    page.locator("#steps input").fill("6")
    page.locator("#generate").click()
    page.locator("#scores table").wait_for()
    for side in ("dense", "pruned", "difference"):
        image = page.locator(f"#picture-{side} img").first
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128
    scores = page.locator("#scores td").all_inner_texts()
    assert [bool(re.match(r"\d+\.\d\d", score)) for score in scores[:2]] == [True, True]
    assert "bundled emoji-CLIP" in page.locator("#scores caption").inner_text()
    assert points_of_curves(page) == [6, 6]
    shoot(page, screenshots, f"{scheme}-compare")


def points_of_curves(page: Page) -> list[int]:
    return page.evaluate("document.querySelector('#clip-curve .js-plotly-plot')._fullData.map(trace => trace.x.length)")


def test_a_lasso_says_what_it_holds_and_survives_a_slider(page: Page, screenshots):
    open_first_layer(page)
    plot = page.locator("#units .nsewdrag").first
    plot.scroll_into_view_if_needed()
    area = plot.bounding_box()
    x, y, width, height = area["x"], area["y"], area["width"], area["height"]
    page.mouse.move(x + 5, y + 5)
    page.mouse.down()
    for right, down in ((0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.02)):
        page.mouse.move(x + right * width, y + down * height, steps=4)
    page.mouse.up()
    expect(page.locator("#selection")).to_contain_text("selected")
    selected, sparsity = page.locator("#selection").inner_text().split(" selected")
    page.locator("#cluster-table input[type=range]").nth(1).fill("20")
    expect(page.locator("#cluster-table input[type=number]").nth(1)).to_have_value(re.compile(r"^(19|20)\.\d$"))
    expect(page.locator("#selection")).to_contain_text(selected)  # the lasso stays, what it costs follows the slider
    expect(page.locator("#selection")).not_to_contain_text(sparsity)
    shoot(page, screenshots, "lasso")


def test_single_weights_are_a_stratified_sample_over_a_density(page: Page, screenshots):
    open_first_layer(page)
    page.get_by_label("Dots are").click()
    page.get_by_role("option", name="weights").click()
    expect(page.locator("#units")).to_contain_text("20,000 of")
    assert points(page, "units") == 20_000
    shoot(page, screenshots, "weights")


def test_the_statistic_of_the_map_can_be_changed(page: Page):
    page.get_by_label("Colour of the map").click()
    page.get_by_role("option", name="Predicted damage").click()
    expect(page.locator("#layer-map .gtitle").first).to_have_text("Predicted damage")


def test_global_sparsity_prunes_the_model_anew(page: Page):
    page.locator("#sparsity input[type=number]").fill("30")
    page.keyboard.press("Tab")
    expect(page.locator("#bar")).to_contain_text("target 30 %")
    assert bar_value(page, "Sparsity") in ("29.99 %", "30.000 %", "29.999 %", "29.998 %", "29.997 %")


def test_cancel_stops_a_generation_and_the_next_one_runs(page: Page, screenshots):
    page.get_by_role("tab", name="Compare").click()
    page.locator("#prompt textarea").fill("red apple")
    page.locator("#steps input").fill("200")
    page.locator("#generate").click()
    expect(page.locator("#bar")).to_contain_text("denoising")
    shoot(page, screenshots, "busy")
    page.locator("#cancel").click()
    expect(page.locator("#bar")).to_contain_text("Cancelled")
    expect(page.locator("#cancel")).to_have_count(0)
    page.locator("#steps input").fill("2")
    page.locator("#generate").click()
    page.locator("#scores table").wait_for()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("#prompt textarea", "", "The prompt is empty"),
        ("#prompt textarea", "a" * 10_000, "10,000 characters"),
        ("#steps input", "0", "whole number"),
        ("#steps input", "10000", "whole number"),
    ],
)
def test_bad_requests_show_one_sentence(page: Page, field, value, sentence):
    page.get_by_role("tab", name="Compare").click()
    before = bar_value(page, "Sparsity")
    page.locator(field).fill(value)
    page.locator("#generate").click()
    expect(page.locator(".toast-body")).to_contain_text(sentence)
    expect(page.locator("#bar .problem")).to_contain_text(sentence)
    assert not TRACEBACK.search(page.content())
    assert bar_value(page, "Sparsity") == before


def test_an_unknown_model_shows_one_sentence_and_keeps_the_one_that_is_loaded(page: Page, screenshots):
    page.locator("#controls textarea, #controls input[type=text]").first.fill("no such folder")
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.locator("#bar .problem")).to_contain_text("no such folder")
    assert bar_value(page, "Model") == "emoji-flux"
    assert not TRACEBACK.search(page.content())
    shoot(page, screenshots, "mistake")
