"""Trade-off in a browser: what it shows before anything is measured, and what stays of a stopped comparison."""

from __future__ import annotations

import csv
import re

from PIL import Image
from playwright.sync_api import Page, expect

expect.set_options(timeout=60_000)


def curves(page: Page) -> list[str]:
    return page.evaluate(
        "[...new Set(document.querySelector('#tradeoff-curves .js-plotly-plot')?.data?.map(trace => trace.name))]"
    )


def test_shipped_curves_a_stopped_comparison_and_its_files(page: Page, tmp_path):
    page.get_by_role("tab", name="Trade-off").click()
    expect(page.locator("#tradeoff-table caption")).to_contain_text("shipped with the app: emoji-flux, 64 prompts")
    page.wait_for_function("document.querySelector('#tradeoff-curves .js-plotly-plot')?.data?.length")
    assert set(curves(page)) == {"magnitude", "wanda", "dit-pruning"}
    page.get_by_label("swap-update").check()
    expect(page.locator("#tradeoff-table")).to_contain_text("swap-update")
    page.wait_for_function(
        """() => document.querySelector("#tradeoff-curves .js-plotly-plot").data
            .some((trace) => trace.name === "swap-update")"""
    )
    page.get_by_label("swap-update").uncheck()

    page.get_by_label("the plan at hand").check()
    for field, value in (("levels", "50"), ("prompts", "4"), ("steps", "20")):
        page.locator(f"#tradeoff-{field} :is(input, textarea)").fill(value)
    expect(page.locator("#tradeoff-time")).to_contain_text("5 rows with the dense one × 4 prompts × 1 seed")
    expect(page.locator("#tradeoff-time strong")).to_have_text(re.compile("^(about|roughly) "))
    page.locator("#tradeoff-run").click()
    rows = page.locator("#tradeoff-table tbody th")
    expect(page.locator("#tradeoff-table caption")).not_to_contain_text("shipped")  # the first row is there
    expect(rows.first).to_have_text("dense")
    page.locator("#cancel").click()
    expect(page.locator("#bar")).to_contain_text("the rows that are finished stay")
    files = {}
    for kind in ("csv", "png"):
        button = page.locator(f"#tradeoff-{kind}")
        expect(button).to_be_enabled()
        with page.expect_download() as waiting:
            button.click()
        files[kind] = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(files[kind])
    shown = rows.all_inner_texts()
    with files["csv"].open() as file:
        assert [line["recipe"] for line in csv.DictReader(file)] == shown
    assert Image.open(files["png"]).width > 500
