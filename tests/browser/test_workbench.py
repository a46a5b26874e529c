"""The workbench in a browser: a plan tuned on the board, judged beside A, named, and opened again by its link."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from test_app import bar_value, shoot

expect.set_options(timeout=60_000)


NOTE_LABELS = """() => {
    window.labelsOfB = [];
    const note = () => window.labelsOfB.push(document.querySelector("#picture-pruned label")?.textContent ?? "");
    new MutationObserver(note).observe(document.querySelector("#picture-pruned"), {
        subtree: true, childList: true, characterData: true,
    });
}"""
"""What B is called, one after another: a draft may be there for a moment only."""


def open_workbench(page: Page) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.locator("#layer-board .board-cell").first.wait_for()
    expect(page.locator("#prompt textarea")).not_to_have_value("")


def dots(page: Page) -> list[int]:
    """The numbers of the runs that the evidence shows."""
    return page.evaluate(
        """() => document.querySelector("#evidence .js-plotly-plot").data
            .filter((trace) => trace.customdata)
            .flatMap((trace) => trace.customdata.map(([number]) => number)).sort()"""
    )


def shares(page: Page) -> dict[str, str]:
    """Layer's kind and block → its sparsity, as the board's cells say them."""
    told = page.locator("#layer-board .board-cell").evaluate_all(
        "cells => cells.map((cell) => cell.getAttribute('aria-label'))"
    )
    return dict(re.match(r"(.*?): ([\d.]+) %", words).groups() for words in told)


def test_a_plan_is_tuned_judged_named_and_opened_by_its_link(page: Page, screenshots, app_url):
    open_workbench(page)
    page.set_viewport_size({"width": 1280, "height": 720})
    page.locator("#prompt textarea").fill("owl\nred apple")
    page.locator("#steps input").fill("16")
    page.locator("#generate").click()
    expect(page.locator("#scores tbody tr")).to_have_count(2)
    page.locator("#runs .make-a").first.click()
    expect(page.locator("#picture-a label").first).to_contain_text("A: run 1 (DiT-Pruning 50 %)")

    # A kind by its header, with the rest making up for it; the pictures follow by themselves, a draft first.
    before, sparsity = shares(page), bar_value(page, "Sparsity")
    page.evaluate(NOTE_LABELS)
    page.get_by_role("rowheader", name="Kind adaLN", exact=True).click()
    expect(page.locator(".board-words")).to_contain_text("Chosen: 9 layers")
    number = page.locator(".board-number input")
    number.fill("30")
    number.press("Enter")
    expect(page.locator("#runs li")).to_have_count(2)
    noted = page.evaluate("window.labelsOfB")
    assert any("draft: 3 steps, full picture follows" in label for label in noted), noted
    expect(page.locator("#scores thead")).to_contain_text("SSIM B")
    after = shares(page)
    chosen = {name for name in after if name.startswith("adaLN,")}
    assert {after[name] for name in chosen} == {"30"}
    assert all(float(after[name]) > float(before[name]) for name in after.keys() - chosen)
    assert bar_value(page, "Sparsity") == sparsity
    assert dots(page) == [1, 2]
    shoot(page, screenshots, "workbench")

    # A click on a dot goes back, and its pictures are there without being drawn.
    page.locator("#evidence .plot").focus()
    page.keyboard.press("ArrowRight")
    spoken = page.locator("#evidence .plot-spoken")
    expect(spoken).to_have_text(re.compile("run: [12]"))
    if spoken.inner_text() != "run: 1":
        page.keyboard.press("ArrowRight")
    expect(spoken).to_have_text("run: 1")
    page.keyboard.press("Enter")
    expect(page.locator("#picture-pruned label").first).to_have_text(re.compile(r"B: DiT-Pruning 50 %\s*$"))
    expect(page.locator('#layer-board .board-cell[aria-label^="adaLN, block 0: 50 %"]')).to_be_visible()
    assert shares(page) == before
    page.locator('#runs [data-does="restore"][data-run="2"]').click()
    expect(page.locator("#picture-pruned label").first).to_contain_text("by hand")

    page.locator("#version-name input, #version-name textarea").first.fill("adaLN spared")
    page.locator("#version-save").click()
    link = page.locator("#version-words a")
    expect(link).to_be_visible()
    expect(page.locator("#runs li").first).to_contain_text("adaLN spared")
    address = app_url.rstrip("/") + "/" + link.get_attribute("href") + "&session=new"  # as somebody else would open it
    page = page.context.new_page()  # gradio logs every answer that is on its way when a page is left
    page.set_default_timeout(60_000)
    page.goto(address)
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#prompt textarea")).to_have_value("owl\nred apple")
    expect(page.locator('#layer-board .board-cell[aria-label^="adaLN, block 0: 30 %"]')).to_be_visible()
    page.locator("#undo").click()
    expect(page.locator('#layer-board .board-cell[aria-label^="adaLN, block 0: 50 %"]')).to_be_visible()
    page.get_by_label("Saved versions").select_option("adaLN spared")  # this browser remembers it
    expect(page.locator('#layer-board .board-cell[aria-label^="adaLN, block 0: 30 %"]')).to_be_visible()


def test_the_board_by_keyboard_and_a_layer_and_back(page: Page):
    open_workbench(page)
    first = page.locator('#layer-board [data-row="1"][data-column="1"]')
    first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    expect(first).to_have_attribute("aria-selected", "true")
    slider = page.locator("#layer-board input[type=range]")
    slider.focus()
    expect(page.locator(".board-words")).to_contain_text("Chosen: 2 layers")
    page.keyboard.press("End")
    expect(page.locator(".board-words")).to_contain_text("100 % pruned")
    expect(page.locator("#layer-board .board-cell.hand")).to_have_count(2)  # all others make up for them
    first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Layer")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#layer-picker input")).to_have_value(re.compile("adaLN"))
    page.locator("#to-workbench").wait_for()
    page.keyboard.press("Escape")
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")


def test_one_a_on_both_pages_and_b_is_swiped_and_differs(page: Page):
    page.locator("#keep-plan").click()
    expect(page.locator("#plan-pair-table")).to_contain_text("both plans prune the same weights", ignore_case=True)
    open_workbench(page)
    page.locator("#layer-board .board-number input").fill("70")
    page.keyboard.press("Enter")
    expect(page.locator("#bar")).to_contain_text("target 70 %")
    page.locator("#steps input").fill("2")
    page.locator("#generate").click()
    expect(page.locator("#picture-a label").first).to_contain_text("A: DiT-Pruning 50 %")
    expect(page.locator("#scores thead")).to_contain_text("SSIM A")
    page.get_by_role("button", name="swipe").click()
    line = page.get_by_label("Where the line lies")
    expect(page.locator("#picture-pruned .swipe-cover img")).to_be_visible()
    line.focus()
    page.keyboard.press("Home")
    assert page.locator(".swipe-cover").evaluate("cover => cover.style.getPropertyValue('--at')") == "0%"
    page.get_by_role("button", name="difference").click()
    expect(page.locator("#picture-difference label").first).to_contain_text("|dense − B| × 4")
    page.get_by_label("Differences are shown times").select_option("8")
    expect(page.locator("#picture-difference label").first).to_contain_text("× 8")
    page.get_by_role("tab", name="Map").click()
    page.locator("#forget-plan").click()
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#picture-a label").first).to_contain_text("A: none yet")
