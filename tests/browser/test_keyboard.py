"""The page by keyboard: lists close behind Tab and keep the focus, and what is opened gets it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

expect.set_options(timeout=60_000)


def test_lists_close_behind_tab_and_a_choice_keeps_the_focus(page: Page):
    colour = page.get_by_label("Map colour", exact=True)
    lists = page.locator("div.options")
    colour.focus()
    page.keyboard.press("ArrowDown")
    expect(lists).to_have_count(1)
    page.keyboard.press("Tab")
    expect(page.locator("#map-other")).to_be_focused()
    expect(lists).to_have_count(0)
    page.keyboard.press("Shift+Tab")  # a list that gets the focus opens, and closes behind it again
    page.keyboard.press("Shift+Tab")
    expect(colour).not_to_be_focused()
    expect(lists).to_have_count(0)

    colour.focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(lists).to_have_count(0)
    expect(colour).to_be_focused()
    chosen = colour.input_value()
    page.keyboard.press("ArrowUp")  # it still works
    expect(lists).to_have_count(1)
    page.keyboard.press("Enter")
    expect(colour).not_to_have_value(chosen)
    expect(colour).to_be_focused()

    colour.click()
    lists.get_by_role("option").first.click()  # with the mouse as well
    expect(lists).to_have_count(0)
    expect(colour).to_be_focused()


def test_a_layer_that_is_opened_by_keyboard_takes_the_focus_along(page: Page):
    page.get_by_label("Search layers").focus()
    row = page.locator("#layer-list tbody td.name button").first
    for _ in range(12):  # past the header, to the one row that is a tab stop
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('td.name') !== null"):
            break
    expect(row).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Layer")).to_be_focused()

    picker = page.locator("#layer-picker input")
    expect(page.locator("#cluster-table caption")).to_contain_text(picker.input_value().split(" ")[0])
    picker.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    chosen = picker.input_value().split(" ")[0]
    expect(page.locator("#cluster-table caption")).to_contain_text(f"{chosen}:")
    expect(picker).to_be_focused()


@pytest.mark.parametrize("visits", ["first"])
def test_every_hint_is_about_something_on_the_screen(page: Page, visits):
    page.set_viewport_size({"width": 1280, "height": 720})
    outlined = """() => [...document.querySelectorAll("#layer-plane, #controls, #topbar, #tabs [role=tablist]")]
        .filter((one) => getComputedStyle(one).outlineStyle === "solid" && one.offsetParent)
        .map((one) => one.getBoundingClientRect())
        .map(({ top, bottom }) => Math.min(bottom, innerHeight) - Math.max(top, 0))"""
    page.mouse.wheel(0, 1500)
    page.wait_for_timeout(300)
    for number in range(1, 5):
        expect(page.locator(".hints-step")).to_have_text(re.compile(f"^{number} of"))
        if number > 1:  # the first is shown where the page opens
            (seen,) = page.evaluate(outlined)
            assert seen > 25, number
        page.locator("[data-do=next]").evaluate("button => button.click()")
