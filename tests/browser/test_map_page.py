"""The map's line and list, the first steps, narrow screens, and an accessibility check of every page."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect
from test_app import bar_value, shoot

PAGES = ("Map", "Layer", "Compare", "Trade-off", "Take away")
PHONE = {"width": 390, "height": 844}


def open_page(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")
    page.wait_for_timeout(500)


FADED = """() => Promise.all(document.getAnimations()
    .filter((one) => Number.isFinite(one.effect.getComputedTiming().endTime))
    .map((one) => one.finished.catch(() => {})))"""
"""What scripts fade, reduced motion does not stop."""


def violations(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical, once nothing fades in or out any more."""
    page.wait_for_timeout(1000)
    page.evaluate(FADED)
    return [
        f"{found['id']}: {node['html'][:200]}"
        for found in Axe().run(page).response["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


def fades(page: Page) -> bool:
    return page.evaluate("parseFloat(getComputedStyle(document.querySelector('#undo')).transitionDuration) > 0")


@pytest.mark.parametrize("scheme", ["light", "dark"], indirect=True)
def test_every_page_is_accessible(page: Page, scheme):
    for name in PAGES:
        open_page(page, name)
        assert violations(page) == [], name
    assert not fades(page)  # the page fixture asks for reduced motion
    page.emulate_media(reduced_motion="no-preference")
    assert fades(page)


@pytest.mark.parametrize("scheme", ["dark"], indirect=True)
def test_every_page_fits_a_phone(page: Page, screenshots, scheme):
    page.set_viewport_size(PHONE)
    for name in PAGES:
        open_page(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], name
        shoot(page, screenshots, f"{scheme}-phone-{name}")
    expect(page.locator("#controls")).to_be_hidden()
    toggle = page.get_by_role("button", name="Model, calibration and recipe")
    toggle.click()
    expect(page.locator("#controls")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert violations(page) == []
    toggle.click()
    expect(page.locator("#controls")).to_be_hidden()


def by_row(page: Page) -> int:
    """How many layers the page says lie above the line."""
    return int(page.locator(".threshold-words strong").first.inner_text())


FILLED = """document.querySelector("#layer-dots .js-plotly-plot").data
    .flatMap(trace => trace.marker.symbol).filter(symbol => !symbol.endsWith("-open")).length"""
"""How many dots are filled, that is, how many layers are ranked row by row."""


def wait_filled(page: Page, count: int) -> None:
    """The plot may be drawn a moment after the list."""
    page.wait_for_function(f"{FILLED} === {count}")


def ranked_by_row(page: Page) -> int:
    """How many rows of the list say so: that is what the masks were made with."""
    return page.locator("#layer-list td.ranked", has_text="by row").count()


ASKED_AND_FOUND = """() => {
  const [entries, asked] = [Object.entries, (window.asked = [0, 0])];
  Object.entries = (object) => {
    const isHidden = (one) => one?.show_progress === "hidden" && one.fn_index !== undefined;
    const found = entries(object);
    if (Object.values(object).some(isHidden)) asked[0] += 1;
    if (found.some(([, one]) => isHidden(one))) asked[1] += 1;
    return found;
  };
}"""


def test_a_key_looks_up_nothing_whose_progress_is_hidden(page: Page):
    page.evaluate(ASKED_AND_FOUND)
    own = by_row(page)
    page.locator(".cag-line").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#layer-list td.ranked", has_text="by row")).to_have_count(own + 1)
    asked, found = page.evaluate("window.asked")
    assert asked > 10  # else gradio works otherwise now, and the script has no use any more
    assert found == 0


def test_the_line_moves_layers_between_row_by_row_and_whole(page: Page, screenshots):
    line = page.locator(".cag-line")
    line.wait_for()
    own, damage = by_row(page), bar_value(page, "Predicted damage")
    rows = page.locator("#layer-list tbody tr")
    expect(rows).to_have_count(78)
    wait_filled(page, own)
    assert own == ranked_by_row(page)
    damages = [float(cell.split()[0]) for cell in page.locator("#layer-list td.damage").all_inner_texts()]
    assert damages == sorted(damages, reverse=True)

    line.focus()
    page.keyboard.press("ArrowDown")  # one layer more
    assert by_row(page) == own + 1  # at once
    expect(page.locator("#layer-list td.ranked", has_text="by row")).to_have_count(own + 1)
    wait_filled(page, own + 1)
    page.keyboard.press("End")
    assert by_row(page) == 0
    expect(page.locator("#layer-list td.ranked", has_text="by row")).to_have_count(0)

    page.get_by_role("button", name="Back to the model's own").click()
    expect(page.locator("#layer-list td.ranked", has_text="by row")).to_have_count(own)
    expect(page.locator("#bar")).to_contain_text(damage)

    box = line.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 60, steps=6)
    assert by_row(page) > own + 5  # before the pointer is let go
    page.mouse.up()
    after = by_row(page)
    expect(page.locator("#layer-list td.ranked", has_text="by row")).to_have_count(after)
    wait_filled(page, after)
    assert bar_value(page, "Predicted damage") != damage
    shoot(page, screenshots, "line")

    page.get_by_role("spinbutton", name="Threshold of row heterogeneity").fill("0")
    page.keyboard.press("Tab")
    expect(page.locator("#layer-list td.ranked", has_text="by row")).to_have_count(78)
    page.locator("#method input").click()
    page.get_by_role(
        "option", name="Wanda", exact=True
    ).click()  # which ranks every layer row by row: there is no line to move
    expect(page.locator(".threshold-note")).to_contain_text("Choose CAG")
    expect(line).to_be_hidden()


def test_one_layer_is_marked_in_all_views_and_opened_from_the_list(page: Page, screenshots):
    page.locator(".cag-line").wait_for()
    page.locator("#layer-map .plot").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    layer = page.locator("#layer-map .plot-spoken").first.inner_text().split(",")[0]
    marked = page.locator("#layer-list tr.marked")
    expect(marked).to_have_count(1)
    expect(marked).to_have_attribute("data-layer", layer)
    page.locator("#layer-list .layers-scroll").scroll_into_view_if_needed()
    expect(marked).to_be_in_viewport()  # the list has scrolled to it
    expect(page.locator("#layer-dots .plot-ring")).to_be_visible()

    page.get_by_label("Search layers").fill("ADALN 3")
    expect(page.locator("#layer-list tbody tr")).to_have_count(2)
    page.get_by_label("Search layers").fill("nothing of the kind")
    expect(page.locator(".layers-empty")).to_have_text("No matching layers.")
    page.get_by_label("Search layers").fill("")
    page.get_by_role("button", name="weights").click()
    expect(page.locator("#layer-list th[data-key=weights]")).to_have_attribute("aria-sort", "descending")
    first = page.locator("#layer-list tbody tr").first
    name = first.get_attribute("data-layer")
    first.get_by_role("button").press("Enter")
    expect(page.get_by_role("tab", name="Layer")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#layer-picker input")).to_have_value(re.compile(rf"^{re.escape(name)} "))
    open_page(page, "Map")
    page.mouse.move(0, 0)
    expect(page.locator("#layer-list [aria-current=true]")).to_have_attribute("title", name)


@pytest.mark.parametrize("visits", ["first"])
def test_the_first_steps_are_shown_once_and_come_back_when_asked_for(page: Page):
    hints = page.get_by_role("region", name="First steps")
    expect(hints).to_contain_text("1 of 4")
    page.get_by_role("button", name="Next", exact=True).click()
    expect(hints).to_contain_text("2 of 4")
    page.locator("#layer-map .nsewdrag").click(position={"x": 30, "y": 6})  # they never stand in the way
    expect(page.get_by_role("tab", name="Layer")).to_have_attribute("aria-selected", "true")
    page.get_by_role("button", name="Dismiss the hints").click()
    expect(hints).to_be_hidden()
    again = page.context.new_page()
    again.goto(page.url)
    again.locator('#layer-map [data-points="78"]').first.wait_for()
    hints = again.get_by_role("region", name="First steps")
    expect(hints).to_be_hidden()
    again.get_by_role("button", name="Show the first steps").click()
    expect(hints).to_contain_text("1 of 4")
    for _ in range(4):
        again.keyboard.press("Enter")  # on Next, which has the focus
    expect(hints).to_be_hidden()


def test_two_plans_stand_side_by_side_and_change_places(page: Page, screenshots):
    expect(page.locator("#plan-pair-views")).to_be_hidden()
    page.locator("#keep-plan").click()
    words = page.locator("#plan-pair-table")
    expect(words).to_contain_text("Both plans prune the same weights")
    page.locator("#sparsity input[type=number]").fill("70")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#bar")).to_contain_text("target 70 %")
    expect(words).to_contain_text("of 78 layers")
    expect(words).to_contain_text("DiT-Pruning 70 %")
    for side in "ab":
        expect(page.locator(f"#plan-{side}-map [data-points='78']")).to_have_count(1)
    shoot(page, screenshots, "two-plans")
    page.locator("#swap").click()
    expect(page.locator("#bar")).to_contain_text("target 50 %")
    expect(words.locator("tbody").first.locator("td").first).to_have_text("DiT-Pruning 70 %")
    page.locator("#undo").click()
    expect(page.locator("#bar")).to_contain_text("target 70 %")
    page.locator("#forget-plan").click()
    expect(words).to_be_hidden()


def sparsities(page: Page) -> dict[str, str]:
    """Layer → sparsity, as the list shows it."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("#layer-list tbody tr")]
            .map(row => [row.dataset.layer, row.querySelector(".sparsity input[type=number]").value]))"""
    )


def sparsity_of(page: Page, layer: str) -> Locator:
    """The field of a layer in the list."""
    return page.locator(f'#layer-list tr[data-layer="{layer}"] .sparsity input[type=number]')


def opened_by(page: Page, group: str) -> set[str]:
    """The layers whose dots are drawn in a group."""
    return set(
        page.evaluate(
            "group => document.querySelector('#layer-plane .js-plotly-plot').data.find(t => t.name === group).text",
            group,
        )
    )


def test_a_group_s_slider_prunes_its_layers_and_no_others(page: Page, screenshots):
    page.locator('#layer-plane [data-points="78"]').first.wait_for()
    rows = page.locator("#layer-groups tbody tr")
    assert page.locator(".plot-card .plot").first.evaluate("plot => plot.closest('#layer-plane') !== null")
    row = rows.filter(has=page.locator("td.name", has_text="mlp in")).first
    name = row.locator("td.name").inner_text()
    before, inside = sparsities(page), opened_by(page, name)
    achieved = bar_value(page, "Sparsity")
    row.locator("input[type=range]").fill("80")
    expect(sparsity_of(page, min(inside))).not_to_have_value(before[min(inside)])
    after = sparsities(page)
    assert {layer for layer in before if after[layer] != before[layer]} == inside
    assert bar_value(page, "Sparsity") != achieved
    page.locator("#undo").click()
    expect(page.locator("#bar")).to_contain_text(achieved)

    # The unlocked groups make up for it.
    other = rows.filter(has_not=page.locator("td.name", has_text=name)).first
    held = opened_by(page, other.locator("td.name").inner_text())
    other.locator(".lock").click()
    expect(other.locator(".lock")).to_have_attribute("aria-pressed", "true")
    page.locator("#layer-groups .cluster-tools input").check()
    row.locator("input[type=number]").fill("20")
    page.keyboard.press("Tab")
    expect(sparsity_of(page, min(inside))).not_to_have_value(before[min(inside)])
    expect(page.locator("#bar")).to_contain_text(achieved)
    after = sparsities(page)
    assert all(after[layer] == before[layer] for layer in held)
    assert sum(after[layer] != before[layer] for layer in before) > len(inside)
    shoot(page, screenshots, "layer-groups")


def test_layers_that_are_drawn_around_become_a_group(page: Page, screenshots):
    page.locator('#layer-plane [data-points="78"]').first.wait_for()
    rows = page.locator("#layer-groups tbody tr")
    many = rows.count()
    area = page.locator("#layer-plane .nsewdrag").bounding_box()
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.45), (0.02, 0.45), (0.02, 0.02)]
    places = [(area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()
    words = page.locator("#layer-selection")
    expect(words).to_contain_text("selected")
    chosen = int(re.search(r"(\d+) layers? selected", words.inner_text())[1])
    page.locator("#carve-layers").click()
    made = rows.filter(has=page.locator("td.name", has_text="selection"))
    expect(made.locator("td").nth(2)).to_have_text(str(chosen))
    expect(page.get_by_label("Group layers by")).to_have_value("by hand")
    page.locator("#undo").click()
    expect(rows).to_have_count(many)

    page.get_by_label("Group layers by").click()
    page.get_by_role("option", name="k-means", exact=True).click()
    expect(page.locator("#layer-groups caption")).to_contain_text("in k-means groups")
    page.get_by_label("Number of groups").click()
    page.get_by_role("option", name="5", exact=True).click()
    expect(rows).to_have_count(5)
    rows.first.locator(".name button").click()
    expect(words).to_contain_text(f"{rows.first.locator('td').nth(2).inner_text()} layer")
    shoot(page, screenshots, "layer-groups-found")

    page.locator("#layer-plane .plot").focus()
    page.keyboard.press("ArrowRight")
    layer = page.locator("#layer-plane .plot-spoken").inner_text().split(",")[0]
    page.keyboard.press("Enter")
    expect(page.locator("#layer-picker input")).to_have_value(re.compile(rf"^{re.escape(layer)} "))
