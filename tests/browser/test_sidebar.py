"""The left column and the top bar, as somebody new uses them: Cancel, odd numbers, layers set by hand, scrolling."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, expect

from dit_prune_viz.app.widgets.scripts import script
from dit_prune_viz.formatting import percent

expect.set_options(timeout=60_000)

SLOW = "swap-update"
"""Planning takes it some seconds here."""


def recipe_of(page: Page) -> str:
    return page.locator("#method input").input_value()


def fact(page: Page, label: str):
    return page.locator(f'#bar [data-fact="{label}"]')


def test_one_cancel_stops_a_recipe_and_the_column_says_what_the_plan_is(page: Page):
    plan = fact(page, "Sparsity").get_attribute("title")
    page.locator("#method input").click()
    page.locator("#method [role=option]", has_text=SLOW).first.click()
    page.locator("#bar .busy").wait_for()
    page.locator("#cancel").click()
    expect(page.locator("#bar .problem")).to_contain_text("Cancelled")
    expect(page.locator("#method input")).to_have_value("DiT-Pruning")
    page.wait_for_timeout(2000)  # it would begin again by now
    expect(page.locator("#bar .busy")).to_have_count(0)
    assert recipe_of(page) == "DiT-Pruning"
    assert fact(page, "Sparsity").get_attribute("title") == plan
    # The same recipe can be asked for again.
    page.locator("#method input").click()
    page.locator("#method [role=option]", has_text=SLOW).first.click()
    # It takes long enough to be asked to go on; the bar is drawn anew all the time, and each press counts.
    stays = page.get_by_role("button", name="Keep going when I leave")
    for pressed in ("true", "false"):
        stays.click()
        expect(stays).to_have_attribute("aria-pressed", pressed)
    page.locator("#cancel").click()
    expect(page.locator("#method input")).to_have_value("DiT-Pruning")


def test_numbers_that_cannot_be_are_told_in_a_sentence_and_the_old_ones_come_back(page: Page):
    errors = []
    page.on("response", lambda response: errors.append(response.url) if response.status >= 400 else None)
    problem = page.locator(".field-problem")
    sparsity = page.locator("#sparsity input[type=number]")
    for keys, given in (("150", "150"), ("", "empty"), ("-3", "-3")):
        sparsity.click()
        sparsity.press("Control+a")
        sparsity.press("Delete")
        page.keyboard.type(keys)
        sparsity.press("Tab")
        expect(problem).to_have_text(f"Global sparsity, % is a number from 0 to 100, not {given}; it is 50 again.")
        expect(sparsity).to_have_value("50")
    samples = page.get_by_label("Inputs", exact=True).first
    for given in ("0", "2.5", "99999", ""):
        samples.fill(given)
        samples.press("Tab")
        expect(problem).to_contain_text("Inputs is a whole number from 1 to 4,096")
        expect(samples).to_have_value("128")
    row = page.locator("#layer-list tbody tr").first
    row.locator("input[type=number]").fill("101")
    page.keyboard.press("Tab")
    expect(problem).to_contain_text("percent is a number from 0 to 100, not 101")
    page.get_by_role("tab", name="Compare").click()
    page.locator("#steps input").fill("0")
    page.keyboard.press("Tab")
    expect(problem).to_have_text("Steps is a whole number from 1 to 200, not 0; it is 20 again.")
    # What can be is taken once it is complete, not digit by digit.
    page.get_by_role("tab", name="Map").click()
    sparsity.click()
    sparsity.press("Control+a")
    page.keyboard.type("62")
    page.wait_for_timeout(300)
    expect(fact(page, "Sparsity")).to_contain_text("50 %")
    sparsity.press("Enter")
    expect(fact(page, "Sparsity")).to_contain_text("62 %")
    expect(problem).to_be_hidden()
    assert errors == []


def test_layers_set_by_hand_stay_when_the_global_slider_moves(page: Page):
    expect(page.locator("#by-hand")).to_be_hidden()
    group = page.locator("#layer-groups tbody tr").first
    group.locator("input[type=number]").fill("20")
    page.keyboard.press("Enter")
    expect(page.locator("#by-hand")).to_contain_text("9 layers are set by hand")
    page.locator("#sparsity input[type=number]").fill("60")
    page.keyboard.press("Enter")
    expect(fact(page, "Sparsity")).to_contain_text("60 %")
    expect(fact(page, "Sparsity")).to_have_attribute(
        "title", "DiT-Pruning: 12,165,120 of 20,275,200 prunable weights are pruned"
    )
    expect(group.locator("input[type=number]")).to_have_value("20")
    page.locator("#discard-by-hand").click()
    expect(page.locator("#by-hand")).to_be_hidden()
    expect(group.locator("input[type=number]")).to_have_value("60")


def test_the_bar_stays_in_sight_when_the_page_is_scrolled(page: Page):
    page.set_viewport_size({"width": 1280, "height": 720})
    page.mouse.move(900, 400)
    page.mouse.wheel(0, 600)
    page.wait_for_function("scrollY >= 500")
    expect(page.locator("#bar .fact").first).to_be_in_viewport()
    assert page.locator("#topbar").bounding_box()["y"] == pytest.approx(0, abs=1)
    assert page.locator("#controls").bounding_box()["y"] < 120
    expect(page.locator("#method input")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_browser_writes_percentages_as_python_does(browser):
    page = browser.new_page()
    helpers = script("widgets/shared.js")
    start = helpers.index("function percent")
    source = helpers[start : helpers.index("\n}\n", start) + 3]
    shares = [0, 1e-6, 1e-5, 0.000415, 0.00512, 0.0999, 0.09994, 0.3333, 0.4999999, 0.625, 0.9996, 0.99995, 1, 2.5]
    told = page.evaluate(f"(shares) => {{ {source}; return shares.map((share) => percent(share)); }}", shares)
    page.close()
    assert told == [percent(share) for share in shares], json.dumps(told)
