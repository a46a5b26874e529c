"""The linked views of the Layer page, in a real browser: what is selected in one shows, counts and acts in all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from playwright.sync_api import Page, expect
from test_app import shoot

PLOT = "document.querySelector('#units .js-plotly-plot')"


def open_layer(page: Page) -> None:
    page.get_by_role("tab", name="Layer").click()
    page.locator("#cluster-table tbody tr").first.wait_for()
    page.wait_for_function(f"{PLOT}?._fullData?.some(trace => trace.meta?.units)")


def drag(page: Page, plot: str, corners: list[tuple[float, float]], key: str | None = None) -> None:
    """The pointer from corner to corner, given in shares of the plot's area."""
    area = page.locator(f"#{plot} .nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    if key:
        page.keyboard.down(key)
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()
    if key:
        page.keyboard.up(key)


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def selected(page: Page) -> int:
    """How many units the page says are selected."""
    found = re.search(r"([\d,]+) \w+ selected", page.locator("#selection").inner_text())
    return int(found[1].replace(",", "")) if found else 0


def expect_shown(page: Page, count: int) -> None:
    """So many dots of the scatter are not grey, as soon as the views have followed the words."""
    traces = f"{PLOT}._fullData.filter(trace => trace.meta?.units)"
    lit = f"{traces}.reduce((sum, trace) => sum + (trace.selectedpoints?.length ?? 0), 0)"
    page.wait_for_function(f"count => {lit} === count", arg=count)


def find(page: Page, unit: int | str) -> None:
    page.locator("#selection-tools textarea, #selection-tools input").first.fill(str(unit))
    page.keyboard.press("Enter")


def sparsity_of(page: Page, unit: int) -> str:
    """The share of one row that is pruned, as the page says it."""
    page.get_by_role("button", name="Clear selection").click()
    expect(page.locator("#selection")).to_contain_text("Draw around dots")  # so that what is read next is new
    find(page, unit)
    expect(page.locator("#selection")).to_contain_text("1 row selected")
    return re.search(r"sparsity ([\d.]+) %", page.locator("#selection").inner_text())[1]


def expect_sparsity(page: Page, unit: int, good: Callable[[str], bool]) -> None:
    """The share of one row that is pruned becomes what it should be."""
    for _ in range(20):
        if good(sparsity_of(page, unit)):
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"{sparsity_of(page, unit)} % of row {unit} are pruned.")


def test_neighbours_are_selected_and_saved(page: Page, tmp_path):
    open_layer(page)
    find(page, 5)
    expect(page.locator("#selection")).to_contain_text("1 row selected")
    page.locator("#add-neighbours").click()
    expect(page.locator("#selection")).to_contain_text("9 rows selected")
    with page.expect_download() as waiting:
        page.locator("#save-units").click()
    assert waiting.value.suggested_filename.endswith("-selection.json")
    waiting.value.save_as(tmp_path / "selection.json")
    found = json.loads((tmp_path / "selection.json").read_text())
    assert 5 in found["units"]
    assert len(found["units"]) == 9


def test_the_unit_under_the_pointer_is_found_in_the_importance_plane(page: Page):
    open_layer(page)
    page.locator("#units .plot").first.focus()
    page.keyboard.press("ArrowRight")
    cross = page.locator("#importance .plot-cross")
    expect(cross).to_have_count(1)
    row, first = int(page.locator("#units .plot-spoken").inner_text().rpartition(" ")[2]), cross.bounding_box()
    area = page.locator("#importance .nsewdrag").first.bounding_box()
    share = (first["y"] - area["y"]) / area["height"]
    rows = page.evaluate(
        "() => document.querySelector('#importance .js-plotly-plot').layout.meta.alt.match(/over (\\d+)/)[1]"
    )
    assert abs(share - row / int(rows)) < 0.02
    expect(page.locator("#units .plot-detail")).to_contain_text("predicted damage")
    page.locator("#selection-tools textarea, #selection-tools input").first.focus()
    expect(cross).to_be_hidden()


def test_a_lasso_becomes_a_cluster_whose_slider_changes_those_rows_alone(page: Page, screenshots):
    open_layer(page)
    rows = page.locator("#cluster-table tbody tr")
    drag(page, "units", box(0.02, 0.02, 0.6, 0.98))
    expect(page.locator("#selection")).to_contain_text("selected")
    first = selected(page)
    assert first > 0
    expect_shown(page, first)
    drag(page, "units", box(0.6, 0.02, 0.98, 0.98), "Shift")
    page.wait_for_function(
        """first => { const words = document.querySelector("#selection").innerText;
            return Number(/([\\d,]+) rows selected/.exec(words)?.[1].replaceAll(",", "")) > first; }""",
        arg=first,
    )
    drag(page, "units", box(0.6, 0.02, 0.98, 0.98), "Alt")
    expect(page.locator("#selection")).to_contain_text(f"{first:,} rows selected")
    expect_shown(page, first)
    chosen = page.evaluate(
        f"{PLOT}._fullData.filter(t => t.meta?.units).map(t => [[...t.customdata], t.selectedpoints ?? []])"
    )
    inside = next(ids[points[0]] for ids, points in chosen if points)
    outside = next(id for ids, points in chosen for i, id in enumerate(ids) if i not in set(points))

    whole = page.evaluate(f"{PLOT}.layout.yaxis.range")
    page.locator("#units").hover()
    page.locator('#units .modebar-btn[data-attr="dragmode"][data-val="zoom"]').click()
    drag(page, "units", [(0.1, 0.2), (0.9, 0.8)])
    page.wait_for_function(f"whole => {PLOT}.layout.yaxis.range[0] !== whole[0]", arg=whole)
    page.wait_for_timeout(500)  # it glides there
    zoom = page.evaluate(f"{PLOT}.layout.yaxis.range")
    page.locator("#carve").click()
    named = rows.filter(has=page.locator("td.name", has_text="selection"))
    expect(named).to_have_count(1)
    expect(named.locator("td").nth(2)).to_have_text(f"{first:,}")
    before = sparsity_of(page, inside), sparsity_of(page, outside)
    named.locator("input[type=range]").fill("96")
    expect(page.locator("#cluster-table tfoot")).to_be_visible()
    expect(named.locator("input[type=number]")).to_have_value(re.compile(r"^9[56]"))
    expect_sparsity(page, inside, lambda now: float(now) > float(before[0]))
    assert sparsity_of(page, outside) == before[1]
    assert page.evaluate(f"{PLOT}.layout.yaxis.range") == zoom  # it survives clusters and sliders
    shoot(page, screenshots, "layer-linked")

    page.locator("#selection").click()
    page.keyboard.press("Control+z")
    expect_sparsity(page, inside, lambda now: now == before[0])
    page.locator("#undo").click()
    expect(named).to_have_count(0)
    page.locator("#redo").click()
    expect(named).to_have_count(1)

    for key, name in (("Escape", "selection"), ("Enter", "loud rows")):
        named.get_by_label(re.compile("^More for")).select_option(label="rename")
        page.get_by_label("Name of the cluster").fill("loud rows")
        page.keyboard.press(key)
        page.wait_for_timeout(500)
        expect(rows.locator("td.name", has_text=name)).to_have_count(1)

    # The other views select as well, and all of them show it.
    page.locator("#units").hover()
    page.locator('#units .modebar-btn[data-attr="dragmode"][data-val="lasso"]').click()
    for plot, corners in (("importance", box(0.1, 0.1, 0.6, 0.4)[:3:2]), ("units", box(0.1, 0.1, 0.5, 0.9))):
        find(page, inside)
        expect(page.locator("#selection")).to_contain_text("1 row selected")
        drag(page, plot, corners)
        expect(page.locator("#selection")).not_to_contain_text("1 row selected")
    page.locator("#cluster-table .name button").first.click()
    units = rows.first.locator("td").nth(2).inner_text()
    expect(page.locator("#selection")).to_contain_text(f"{units} row")
    for plot in ("importance", "cut", "timesteps"):
        assert page.evaluate(
            """id => { const plot = document.querySelector(`#${id} .js-plotly-plot`);
                return plot.layout.shapes?.length || plot._fullData.some(t => /select/.test(t.name)); }""",
            plot,
        )


def test_the_dots_move_through_the_timesteps_while_the_axes_stay(page: Page):
    page.wait_for_timeout(3000)  # until the layer has been sent, and skipped by later updates, before its tab is opened
    open_layer(page)
    heights = f"{PLOT}._fullData.find(trace => trace.meta?.units).y[0]"
    still = page.evaluate(heights)
    axis = page.evaluate(f"{PLOT}.layout.yaxis.range")
    page.locator("#units .plot-steps button").click()
    expect(page.locator("#units .plot-steps output")).to_contain_text("0.")
    page.wait_for_function(f"{heights} !== {still}")
    page.locator("#units .plot-steps button").click()
    assert page.evaluate(f"{PLOT}.layout.yaxis.range") == axis
    page.locator("#units .plot-steps input").fill("0")
    page.wait_for_function(f"{heights} === {still}")

    for plot, kind, start in (("units", "PNG", b"\x89PNG"), ("cut", "SVG", b"<svg")):
        page.locator(f"#{plot} .js-plotly-plot").hover()
        with page.expect_download() as download:
            page.locator(f'#{plot} [data-title="Save as {kind}"]').click()
        assert download.value.path().read_bytes().startswith(start)


def test_layers_are_found_by_name_and_numbers_of_clusters_with_a_curve(page: Page, screenshots):
    open_layer(page)
    find(page, "fused out 7")
    expect(page.locator("#layer-picker input")).to_have_value(re.compile("proj_out"))
    expect(page.locator("#cluster-table caption")).to_contain_text("proj_out:")
    find(page, "nothing of the kind")
    expect(page.locator(".toast-body")).to_contain_text("No layer matches")
    expect(page.locator("#cluster-table caption")).to_contain_text("proj_out:")

    expect(page.locator("#cluster-choice")).to_be_hidden()
    page.get_by_label("How many").click()
    page.get_by_role("option", name="auto", exact=True).click()
    expect(page.locator("#cluster-choice .gtitle")).to_contain_text("highest silhouette")
    shoot(page, screenshots, "choice")
    page.get_by_label("How many").click()
    page.get_by_role("option", name="3", exact=True).click()
    expect(page.locator("#cluster-choice")).to_be_hidden()
