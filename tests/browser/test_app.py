"""What a person does, in a real browser, with the bundled model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

expect.set_options(timeout=60_000)
TRACEBACK = re.compile(r"Traceback|File \".*\", line \d+")


def shoot(page: Page, screenshots: Path | None, name: str) -> None:
    """Keep a picture of the whole page where screenshots are asked for."""
    if screenshots is not None:
        page.wait_for_timeout(700)  # plots fade in
        page.screenshot(path=screenshots / f"{name}.png", full_page=True)


def bar_value(page: Page, label: str) -> str:
    fact = page.locator("#bar .fact").filter(has=page.get_by_text(label, exact=True))
    return fact.locator(".fact-value").first.inner_text()


def points(page: Page, plot: str) -> int:
    """How many dots the plot has."""
    page.locator(f"#{plot} .js-plotly-plot").wait_for()  # what nobody can see is not drawn
    return page.evaluate(
        """id => document.querySelector(`#${id} .js-plotly-plot`)._fullData
            .filter(trace => trace.type.startsWith("scatter") && trace.customdata)
            .reduce((sum, trace) => sum + trace.x.length, 0)""",
        plot,
    )


def open_first_layer(page: Page) -> None:
    page.locator('#layer-map [data-points="78"]').first.wait_for()
    page.locator("#layer-map .plot").first.focus()
    page.keyboard.press("ArrowRight")
    layer = page.locator("#layer-map .plot-spoken").first.inner_text().split(",")[0]
    page.keyboard.press("Enter")
    # The table of the layer that the page had opened by itself must not be taken for this one.
    expect(page.locator("#layer-picker input")).to_have_value(re.compile(rf"^{re.escape(layer)} "))
    expect(page.locator("#cluster-table caption")).to_contain_text(f"{layer}:")
    expect(page.locator("#units")).to_contain_text(layer)
    page.locator("#cluster-table tbody tr").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"], indirect=True)
def test_the_main_journey(page: Page, screenshots, scheme):
    assert bar_value(page, "Model") == "emoji-flux"
    assert bar_value(page, "Sparsity") == "50 %"
    assert points(page, "layer-dots") == 78
    shoot(page, screenshots, f"{scheme}-map")

    cell = page.locator("#layer-map .nsewdrag").bounding_box()
    page.mouse.click(cell["x"] + 30, cell["y"] + 6)
    page.locator("#cluster-table tbody tr").first.wait_for()
    expect(page.get_by_role("tab", name="Layer")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#layer-picker input")).to_have_value(re.compile("adaLN"))
    assert points(page, "units") > 100
    shoot(page, screenshots, f"{scheme}-layer")

    exact = page.locator('.fact[data-fact="Sparsity"]')  # its counts, on hover: it is one cluster of many
    count, damage = exact.get_attribute("title"), bar_value(page, "Predicted damage")
    row = page.locator("#cluster-table tbody tr").last  # the one with most energy
    own_damage = row.locator(".damage").inner_text()
    row.locator("input[type=range]").fill("90")
    expect(row.locator(".damage")).not_to_have_text(own_damage)
    expect(row.locator("input[type=number]")).to_have_value(re.compile(r"^(89|90)(\.\d)?$"))
    expect(exact).not_to_have_attribute("title", count)
    expect(page.locator('.fact[data-fact="Predicted damage"] .fact-value')).not_to_have_text(damage)
    shoot(page, screenshots, f"{scheme}-cluster")

    page.get_by_role("tab", name="Compare").click()
    page.locator("#prompt textarea").fill("grinning face")
    page.locator("#steps input").fill("6")
    page.locator("#generate").click()
    page.locator("#scores tfoot").wait_for()
    for side in ("dense", "pruned", "difference"):
        if side == "difference":  # which is not loaded before somebody looks at it
            page.get_by_role("button", name="difference", exact=True).click()
        image = page.locator(f"#picture-{side} img").first
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128
    clip, change, ssim, psnr = page.locator("#scores tfoot td").all_inner_texts()
    assert re.fullmatch(r"\d+\.\d\d", clip)
    assert re.fullmatch(r"[+−]\d+\.\d\d", change)
    assert re.fullmatch(r"0\.\d{3}", ssim)
    assert re.fullmatch(r"\d+\.\d\d", psnr)
    assert "bundled emoji-CLIP" in page.locator("#scores .note").inner_text()
    assert points_of_curves(page) == [6, 6]
    shoot(page, screenshots, f"{scheme}-compare")


def points_of_curves(page: Page) -> list[int]:
    """Of the CLIP line, below the first screen."""
    if not page.locator("#clip-curve .js-plotly-plot").is_visible():
        page.locator("#clip-line button").first.click()
    page.locator("#clip-curve .js-plotly-plot").wait_for()
    return page.evaluate("document.querySelector('#clip-curve .js-plotly-plot')._fullData.map(trace => trace.x.length)")


def generate(page: Page, prompts: str, steps: int = 2) -> None:
    page.locator("#prompt textarea").fill(prompts)
    page.locator("#steps input").fill(str(steps))
    page.locator("#generate").click()


def test_four_prompts_a_cluster_alone_and_back_to_earlier_runs(page: Page, screenshots):
    cards, makes = page.locator("#runs li"), page.locator("#runs button.make-a")
    middle, right = page.locator("#picture-a label").first, page.locator("#picture-pruned label").first
    page.get_by_role("tab", name="Compare").click()
    page.locator("#redraw input").uncheck()
    expect(page.locator("#runs")).to_contain_text("Versions appear here")
    generate(page, "grinning face\nred apple\nowl\nmoon cake")
    expect(page.locator("#scores tbody tr")).to_have_count(4)
    expect(page.locator("#scores tfoot th")).to_have_text("mean")
    page.get_by_role("button", name="difference", exact=True).click()
    page.wait_for_function("document.querySelector('#picture-difference img')?.naturalWidth > 2 * 128")
    assert points_of_curves(page) == [2, 2]
    expect(cards).to_have_count(1)
    in_view = page.evaluate(
        """() => ["#layer-board", "#pictures", "#scores table", "#evidence", "#runs"].every(one =>
            document.querySelector(one).getBoundingClientRect().bottom <= 720)"""
    )
    assert in_view  # with the page at its top: the whole workbench without scrolling on a screen of 1280 × 720

    expect(page.locator("#paint-cluster input")).to_have_value(re.compile("cluster 3"))
    page.locator("#prompt textarea").fill("owl")
    page.locator("#paint-run").click()
    expect(cards).to_have_count(2)
    expect(right).to_contain_text("B: without cluster 3")
    expect(middle).to_have_text(re.compile("A: none yet"))
    assert bar_value(page, "Sparsity") == "50 %"  # the session's own masks are as they were

    page.locator("#controls-toggle button").click()
    page.locator("#sparsity input[type=number]").fill("80")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#bar")).to_contain_text("target 80 %")
    page.locator("#controls-toggle button").click()
    makes.nth(1).focus()  # the strip works with the keyboard, and keeps the focus when it is drawn anew
    page.keyboard.press("Enter")
    expect(makes.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(makes.nth(1)).to_be_focused()
    generate(page, "owl")
    expect(cards).to_have_count(3)
    expect(middle).to_contain_text("A: run 1 (DiT-Pruning 50 %)")
    expect(page.locator("#scores .note")).to_contain_text("A is run 1")
    expect(page.locator("#scores thead")).to_contain_text("SSIM A")
    shoot(page, screenshots, "dense-a-b")

    page.locator('#runs button[data-does="restore"][data-run="1"]').click()
    expect(page.locator("#bar")).to_contain_text("target 50 %")
    expect(page.locator("#prompt textarea")).to_have_value("grinning face\nred apple\nowl\nmoon cake")
    expect(page.locator("#scores tbody tr")).to_have_count(4)
    expect(middle).to_contain_text("A: run 1")
    expect(page.locator("#scores thead")).to_contain_text("SSIM A")  # A's pictures of these prompts are at hand

    generate(page, "a\nb\nc\nd\ne")
    expect(page.locator("#bar .problem")).to_contain_text("There are 5 prompts")
    generate(page, "owl", steps=200)
    expect(right).to_contain_text("DiT-Pruning 50 %")
    expect(page.locator("#picture-dense label").first).to_contain_text("step")
    page.locator("#cancel").click()
    expect(page.locator("#bar")).to_contain_text("Cancelled")
    expect(page.locator("#scores tbody tr")).to_have_count(4)  # back to what was shown before
    expect(page.locator("#picture-dense label").first).to_have_text(re.compile("Dense$"))
    expect(cards).to_have_count(3)


def ranges(page: Page):
    return page.locator("#cluster-table input[type=range]")


def fields(page: Page):
    return page.locator("#cluster-table input[type=number]")


def move(page: Page, moves: list[tuple[int, int]]) -> None:
    """Sliders (row, percent) moved faster than any answer can come back."""
    page.evaluate(
        """moves => {
            const sliders = document.querySelectorAll("#cluster-table input[type=range]");
            for (const [row, percent] of moves) {
                sliders[row].value = percent;
                sliders[row].dispatchEvent(new Event("input", { bubbles: true }));
            }
        }""",
        moves,
    )


def rest(page: Page, texts: Locator, seconds: int = 4) -> None:
    """Wait until the texts have stayed the same for so long."""
    before, since = texts.all_inner_texts(), 0
    for _ in range(60):
        page.wait_for_timeout(1000)
        now = texts.all_inner_texts()
        before, since = now, since + 1 if now == before else 0
        if since >= seconds:
            return
    raise AssertionError(f"still changing: {before}")


def about(percent: int) -> re.Pattern:
    """What a slider set to `percent` comes to once it is applied: counts are rounded down."""
    return re.compile(rf"^({percent - 1}|{percent})(\.\d)?$")


def test_of_many_quick_moves_the_last_of_every_row_is_applied(page: Page):
    open_first_layer(page)
    middle = fields(page).nth(1).input_value()
    move(page, [(0, 10), (0, 30), (2, 60), (0, 95), (2, 20), (0, 80)])
    own = page.locator("#cluster-table .damage")
    rest(page, own)  # anything that is still on its way arrives, and does harm if it can
    expect(fields(page).nth(0)).to_have_value(about(80))
    expect(fields(page).nth(2)).to_have_value(about(20))
    expect(fields(page).nth(1)).to_have_value(middle)
    # The masks, not only the sliders: another look at the layer finds the same.
    damages = own.all_inner_texts()
    page.get_by_label("View", exact=True).click()
    page.get_by_role("option", name="PCA").click()
    expect(page.locator("#units")).to_contain_text("first component")
    assert own.all_inner_texts() == damages
    assert "with a sparsity per cluster" in page.locator("#cluster-table caption").inner_text()
    assert sparsity_in_caption(page) == pytest.approx(sparsity_of_rows(page), abs=0.06)


def sparsity_of_rows(page: Page) -> float:
    """Of the whole layer, in percent, summed over the clusters as the table shows them."""
    rows = page.locator("#cluster-table tbody tr").count()
    weights = [int(cell.replace(",", "")) for cell in page.locator("#cluster-table .weights").all_inner_texts()]
    shares = [float(fields(page).nth(row).input_value()) for row in range(rows)]
    return sum(weight * share for weight, share in zip(weights, shares, strict=True)) / sum(weights)


def sparsity_in_caption(page: Page) -> float:
    """Of the whole layer, in percent."""
    caption = page.locator("#cluster-table caption").inner_text()
    return float(re.search(r"Sparsity ([\d.]+) %", caption).group(1))


def test_a_slider_moved_while_the_clusters_are_found_anew_leaves_a_table_that_tells_the_truth(page: Page):
    open_first_layer(page)
    page.get_by_label("How many").click()
    page.get_by_role("option", name="6", exact=True).click()
    # Of the four clusters that are still shown: it counts if it comes before the new ones, else it is refused.
    ranges(page).nth(0).fill("100")
    expect(page.locator("#cluster-table tbody tr")).to_have_count(6)
    for _ in range(40):  # a busy machine answers late; what stands then must be true
        page.wait_for_timeout(500)
        if sparsity_in_caption(page) == pytest.approx(sparsity_of_rows(page), abs=0.06):
            break
    assert sparsity_in_caption(page) == pytest.approx(sparsity_of_rows(page), abs=0.06)
    ranges(page).nth(5).fill("90")  # and the table goes on working
    expect(fields(page).nth(5)).to_have_value(about(90))
    expect(page.locator("#cluster-table caption")).to_contain_text("with a sparsity per cluster")


def draw_around_everything(page: Page) -> None:
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


def test_a_lasso_says_what_it_holds_and_survives_a_slider(page: Page, screenshots):
    open_first_layer(page)
    draw_around_everything(page)
    words = page.locator("#selection").inner_text()
    selected, sparsity = re.search(r"([\d,]+ rows) selected(.*)", words).groups()
    ranges(page).nth(1).fill("20")
    expect(fields(page).nth(1)).to_have_value(about(20))
    expect(page.locator("#selection")).to_contain_text(selected)  # the lasso stays, what it costs follows the slider
    expect(page.locator("#selection")).not_to_contain_text(sparsity)
    shoot(page, screenshots, "lasso")


def test_loading_and_calibrating_after_a_lasso_forget_it_without_a_word_of_error(page: Page):
    open_first_layer(page)
    draw_around_everything(page)
    for button in ("Load", "Calibrate"):  # the startup's calibration, kept; loading ends with it, too
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.locator("#selection")).to_contain_text("Draw around dots")
        expect(page.locator("#bar")).to_contain_text("Ready")
        page.locator("#cluster-table tbody tr").first.wait_for()
        draw_around_everything(page)
    assert page.locator(".toast-body").count() == 0


def test_work_that_waits_for_another_visitor_says_so_and_can_be_cancelled(page: Page, app_url, screenshots):
    page.get_by_role("tab", name="Compare").click()
    page.locator("#steps input").fill("200")
    page.locator("#generate").click()
    expect(page.locator("#bar")).to_contain_text("denoising")
    context = page.context.browser.new_context()
    other = context.new_page()
    other.goto(app_url)
    other.get_by_text("Predicted damage", exact=True).first.wait_for(timeout=60_000)
    expect(other.locator("#bar")).to_contain_text("Ready")
    open_first_layer(other)
    other.get_by_label("Inputs", exact=True).fill("16")
    other.get_by_role("button", name="Calibrate", exact=True).click()
    expect(other.locator("#bar")).to_contain_text("Waiting for other work on the model")
    shoot(other, screenshots, "waiting")
    layer = other.locator("#layer-picker input").input_value()
    other.locator("#cancel").click()
    expect(other.locator("#bar")).to_contain_text("Cancelled; nothing has changed.")
    other.wait_for_timeout(1500)  # a cancelled calibration leaves the page as it was, its sentence too
    expect(other.locator("#bar")).to_contain_text("Cancelled; nothing has changed.")
    assert other.locator("#layer-picker input").input_value() == layer
    expect(other.locator("#cluster-table table")).to_be_visible()
    assert bar_value(other, "Sparsity") == "50 %"
    context.close()
    expect(page.locator("#bar")).to_contain_text("denoising")  # nor did it stop the first visitor's work
    page.locator("#cancel").click()
    expect(page.locator("#bar")).to_contain_text("Cancelled")


def test_single_weights_are_a_stratified_sample_over_a_density(page: Page, screenshots):
    open_first_layer(page)
    page.get_by_label("Dots are").click()
    page.get_by_role("option", name="weights").click()
    expect(page.locator("#units")).to_contain_text("20,000 of")
    assert points(page, "units") == 20_000
    shoot(page, screenshots, "weights")


def test_the_map_s_statistic_and_the_global_sparsity_are_chosen(page: Page):
    title = page.locator("#layer-map .gtitle").first
    expect(title).to_have_text("Predicted damage at 50 % sparsity")
    page.locator("#map-other").click()
    expect(title).to_have_text("Row heterogeneity (G_out)")
    page.get_by_label("Map colour").click()
    page.get_by_role("option", name="Predicted damage").click()
    expect(title).to_have_text("Predicted damage at 50 % sparsity")
    page.locator("#sparsity input[type=number]").fill("30")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#bar")).to_contain_text("target 30 %")
    assert bar_value(page, "Sparsity") in ("29.99 %", "30 %")


def test_a_long_recipe_says_how_long_it_takes_before_it_starts(page: Page):
    page.locator("#method input").click()
    page.get_by_role("option", name=re.compile("^swap-mask")).click()
    expect(page.locator("#method-words")).to_contain_text(
        re.compile(r"Time here: (about|roughly) .* before the next image")
    )
    expect(page.locator("#bar")).to_contain_text(re.compile("(about|roughly).*, computed with the next image"))
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare-wait")).to_contain_text("The next image first finishes the recipe")


def test_a_method_is_chosen_changed_and_drawn_with_its_update(page: Page, screenshots):
    def choose(field: str, option: str) -> None:
        page.locator(f"#{field} input").click()
        # A recipe may say how long it takes, which depends on the machine.
        page.get_by_role("option", name=re.compile(rf"^{re.escape(option)}( ·|$)")).click()

    choose("method", "tempered-mean")  # the others first run the model for a while
    expect(page.locator("#method-words")).to_contain_text("biases make up for the lost mean")
    expect(page.locator("#bar")).to_contain_text("computed with the next image")
    expect(page.locator("#granularity input")).to_have_value("CAG: by row heterogeneity")
    page.locator("#finer button").first.click()
    expect(page.locator("#update input")).to_have_value("Correct biases for the lost mean")
    shoot(page, screenshots, "methods")
    choose("granularity", "N:M pattern, such as 2:4")
    expect(page.locator("#method input")).to_have_value("Custom")
    expect(page.locator("#sparsity")).to_be_hidden()
    page.locator("#pattern textarea, #pattern input").first.fill("3:7")
    page.keyboard.press("Enter")
    expect(page.locator("#bar .problem")).to_contain_text("3:7 does not fit layer")
    page.locator("#pattern textarea, #pattern input").first.fill("1:4")
    page.keyboard.press("Tab")
    expect(page.locator("#bar")).to_contain_text("target 75 %")
    page.get_by_role("tab", name="Compare").click()
    page.locator("#steps input").fill("2")
    page.locator("#generate").click()
    page.locator("#scores tfoot").wait_for()
    expect(page.locator("#bar")).to_contain_text("current")


def test_layers_kept_dense_and_bounds_stay_while_the_slider_moves(page: Page, screenshots):
    page.locator("#finer button").first.click()
    dense, bounds = (page.locator(f"#{name} textarea, #{name} input").first for name in ("ignore", "bounds"))
    dense.fill("nowhere")
    dense.press("Enter")
    expect(page.locator("#bar .problem")).to_contain_text("'nowhere' means no prunable layer of this model")
    dense.fill("block 0")
    dense.press("Enter")
    expect(page.locator("#bar .problem")).to_be_hidden()
    bounds.fill("adaLN: 0-20")
    bounds.press("Tab")
    expect(page.locator("#bar")).to_contain_text("target 50 %")
    expect(page.locator("#method input")).to_have_value("DiT-Pruning")
    page.locator("#sparsity input[type=number]").fill("30")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#bar")).to_contain_text("target 30 %")
    expect(dense).to_have_value("block 0")
    expect(bounds).to_have_value("adaLN: 0-20")
    assert bar_value(page, "Sparsity") == "30 %"
    shoot(page, screenshots, "dense-layers")


def test_masks_are_distilled_when_a_picture_needs_them(page: Page, screenshots):
    page.locator("#finer button").first.click()
    page.locator("#search-distil input").check()
    steps = page.locator("#search-distil-steps input[type=number]")
    steps.fill("2")
    steps.press("Tab")
    expect(page.locator("#bar")).to_contain_text("Distil masks, steps = 2")
    expect(page.locator("#bar")).to_contain_text("computed with the next image")
    sparsity = bar_value(page, "Sparsity")
    page.get_by_role("tab", name="Compare").click()
    page.locator("#steps input").fill("2")
    page.locator("#generate").click()
    page.locator("#cancel").click(trial=True)  # nothing of the bar lies over it
    shoot(page, screenshots, "distilling")
    page.locator("#scores tfoot").wait_for()
    expect(page.locator("#bar")).to_contain_text("current")
    assert bar_value(page, "Sparsity") == sparsity


def test_the_timesteps_that_calibrate_are_picked_by_hand(page: Page, screenshots):
    damage = bar_value(page, "Predicted damage")
    page.locator("#finer button").first.click()
    page.locator("#timestep input").click()
    page.get_by_role("option", name="By hand", exact=True).click()
    bins = page.locator("#timestep-bins input")
    expect(bins).to_have_count(10)
    for bin in range(5, 10):
        bins.nth(bin).uncheck()
    page.locator("#use-bins").click()
    expect(page.locator("#weights textarea")).to_have_value("1, 1, 1, 1, 1, 0, 0, 0, 0, 0")
    expect(page.locator("#method input")).to_have_value("Custom")
    expect(page.locator("#bar")).not_to_contain_text(damage)
    shoot(page, screenshots, "bins")


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
    page.locator("#scores tfoot").wait_for()


def test_methods_are_compared_and_the_figures_taken_away(page: Page, screenshots):
    page.get_by_role("tab", name="Trade-off").click()
    for field, value in (("levels", "50"), ("prompts", "2"), ("steps", "2")):
        page.locator(f"#tradeoff-{field} input, #tradeoff-{field} textarea").first.fill(value)
    page.locator("#tradeoff-run").click()
    rows = page.locator("#tradeoff-table tbody tr")
    expect(rows).to_have_count(4, timeout=240_000)  # dense, magnitude, Wanda, DiT-Pruning
    expect(page.locator("#bar")).to_contain_text("Ready")
    shoot(page, screenshots, "tradeoff")
    page.locator("#tradeoff-over label", has_text="size").click()
    expect(page.locator("#tradeoff-curves .xtitle")).to_have_text("transformer as stored, MB")
    shoot(page, screenshots, "tradeoff-size")
    with page.expect_download() as download:
        page.locator("#tradeoff-csv").click()
    table = download.value.path().read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["recipe", "dense", "magnitude", "wanda", "dit-pruning"]


def test_words_that_are_not_read_and_prompt_files_are_told(page: Page, tmp_path):
    """The bundled model and its CLIP read 16 tokens, two of them marks at most."""
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#prompt textarea")).not_to_have_value("")  # a suggestion, which comes with the model
    page.locator("#prompt textarea").fill("red apple " * 6 + "beside the pizza and the very last lamp")
    page.locator("#steps input").fill("1")
    page.locator("#generate").click()
    expect(page.locator("#scores .unread")).to_contain_text("lamp”")
    expect(page.locator("#scores .unread")).to_contain_text("not drawn")
    (tmp_path / "set.jsonl").write_text('{"tag": "one", "prompt": "red apple"}\n{"tag": "two", "prompt": "owl"}\n')
    (tmp_path / "table.csv").write_text("name,value\nowl,1\n")
    page.get_by_role("tab", name="Trade-off").click()
    page.get_by_text("Your own prompts").click()
    file = page.locator("#prompt-set input[type=file]")
    file.set_input_files(tmp_path / "table.csv")
    expect(page.locator("#prompt-preview [role=alert]")).to_contain_text("no column Prompt, caption or text")
    page.locator("#prompt-set").get_by_label("Clear").click()
    expect(page.locator("#prompt-preview")).not_to_contain_text("column")
    page.locator("#prompt-set input[type=file]").set_input_files(tmp_path / "set.jsonl")
    words = "2 prompts in 2 categories; 0 duplicates; 0 too long."
    expect(page.locator("#prompt-preview [role=status]")).to_have_text(words)


BAD_REQUESTS = (
    ("#prompt textarea", "", "The prompt is empty"),
    ("#prompt textarea", "a" * 10_000, "10,000 characters"),
)


def test_bad_requests_show_one_sentence_each(page: Page):
    page.get_by_role("tab", name="Compare").click()
    before = bar_value(page, "Sparsity")
    for field, value, sentence in BAD_REQUESTS:
        good = page.locator(field).input_value()
        page.locator(field).fill(value)
        page.locator("#generate").click()
        expect(page.locator("#bar .problem")).to_contain_text(sentence)
        assert page.locator(".toast-body").count() == 0  # nothing is said twice
        page.locator(field).fill(good)
    assert not TRACEBACK.search(page.content())
    assert bar_value(page, "Sparsity") == before


def test_an_unknown_model_shows_one_sentence_and_keeps_the_one_that_is_loaded(page: Page, screenshots):
    page.locator("#controls textarea, #controls input[type=text]").first.fill("no such folder")
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.locator("#bar .problem")).to_contain_text("no such folder")
    assert bar_value(page, "Model") == "emoji-flux"
    assert not TRACEBACK.search(page.content())
    shoot(page, screenshots, "mistake")


def test_a_grid_over_two_settings_grows_and_its_png_says_how_to_repeat_it(page: Page, screenshots):
    page.get_by_role("tab", name="Compare").click()
    page.locator("#prompt textarea").fill("slice of pizza")
    page.locator("#steps input").fill("3")
    page.locator("#xy-grid button").first.click()
    page.locator("#xy-columns input").click()
    page.get_by_role("option", name="seed", exact=True).click()
    values = page.locator("#xy-columns-values textarea")
    expect(values).to_have_value("0-3")
    values.fill("0-1")
    page.locator("#xy-rows-values textarea").fill("dense, present")
    page.locator("#xy-draw").click()
    pictures = page.locator("table.xy-grid img")
    expect(page.locator("#xy-pictures [role=status]")).to_have_text("4 of 4 pictures")
    expect(pictures).to_have_count(4)
    assert pictures.last.get_attribute("alt") == "Picture: present: DiT-Pruning, seed 1"
    expect(page.locator("table.xy-grid td").last).to_contain_text("SSIM")
    shoot(page, screenshots, "xy-grid")
    expect(page.locator("#xy-download")).to_be_enabled()
    with page.expect_download() as download:
        page.locator("#xy-download").click()
    with Image.open(download.value.path()) as sheet:
        told = json.loads(sheet.text["dit_prune_viz grid"])
        assert sheet.width > 2 * 128
    assert [cell["request"]["seed"] for cell in told["cells"]] == [0, 1, 0, 1]
    assert [cell["recipe"] for cell in told["cells"]] == [None, None, 0, 0]


def test_which_part_does_what_grows_is_cancelled_and_opens_in_full(page: Page, screenshots):
    cards = page.locator("#parts-grid li.part")
    page.get_by_role("tab", name="Compare").click()
    # Cancel stops what waits as well, such as the clustering of the first layer: let that end before.
    expect(page.locator("#paint-cluster input")).to_have_value(re.compile("cluster 3"))
    page.locator("#prompt textarea").fill("red apple")
    page.locator("#steps input").fill("8")
    page.get_by_role("button", name="Which part does what?").click()
    page.locator("#parts-start").click()
    cards.nth(1).wait_for()  # the dense picture and the first block
    page.locator("#cancel").click()
    expect(page.locator("#parts-grid .parts-words")).to_contain_text("stopped")
    assert 2 <= cards.count() < 10  # what was drawn stays
    page.locator("#parts-start").click()
    expect(cards).to_have_count(10)
    expect(page.locator("#parts-grid .parts-words")).to_contain_text("9 parts")
    widths = page.evaluate(
        """async () => {
            const images = [...document.querySelectorAll("#parts-grid img")];
            await Promise.all(images.map((image) => image.decode()));
            return images.map((image) => image.naturalWidth);
        }"""
    )
    assert widths == [128] * 19  # of all but the dense one the difference, too
    ssims = [float(text) for text in page.locator("#parts-grid dl div:nth-child(2) dd").all_inner_texts()]
    assert ssims == sorted(ssims)
    page.get_by_label("Order of the cards").first.select_option("order")
    names = page.locator("#parts-grid li.part strong").all_inner_texts()
    assert names == ["Dense", *(f"block {i}" for i in range(9))]
    expect(page.locator("#parts-words")).to_contain_text("Rank correlation")
    shoot(page, screenshots, "parts")
    cards.nth(1).get_by_role("button").click()
    expect(page.locator("#picture-pruned label").first).to_contain_text("B: without block 0")
    expect(page.locator("#runs li")).to_have_count(1)

    page.get_by_role("tab", name="Layer").click()
    expect(page.locator("#layer-paint-cluster input")).to_have_value(re.compile("cluster 3"))
    page.locator("#layer-paint-start").click()
    expect(page.locator("#layer-paint-grid li.part")).to_have_count(2)
    expect(page.locator("#layer-paint-grid")).to_contain_text("cluster")
    page.locator("#layer-paint-grid button").click()
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#runs li")).to_have_count(2)
