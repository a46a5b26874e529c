"""The strip of sliders on an empty page with FLUX.1's 57 blocks, and on the real page: text in, sliders out."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, expect
from test_app import bar_value
from test_scripts import blank, mount  # noqa: F401 - a fixture

from dit_prune_viz.app.theme import SHEETS
from dit_prune_viz.app.widgets import block_strip

ROOM = 940
"""Pixels that the strip has on a page 1280 wide, beside the column of controls."""
KINDS = ("adaLN", "adaLN context", "q", "k", "v", "attn out", "context q", "context k", "context v", "context out")
KINDS += ("mlp in", "mlp out", "context mlp in", "context mlp out", "fused out")


def bar(key: str, name: str, stack: str = "", **changes) -> dict:
    plain = {"mean": 50, "low": 50, "high": 50, "by_hand": False, "fixed": False}
    return {"key": key, "name": name, "stack": stack, **plain, **changes}


def shown(at: float = 1, **changes) -> str:
    stacks = ["transformer_blocks"] * 19 + ["single_transformer_blocks"] * 38
    blocks = [bar(str(i), f"block {i}", stack) for i, stack in enumerate(stacks)]
    blocks[7] |= {"mean": 44, "low": 20, "high": 70, "by_hand": True}
    kinds = [bar(kind, kind) for kind in KINDS]
    value = {"note": "", "blocks": blocks, "kinds": kinds, "text": "all:50", "presets": [], "base": 50, **changes}
    return json.dumps({"at": at, **value})


@pytest.fixture
def strip(blank: Page):  # noqa: F811
    """The strip as wide as it is on the page."""
    blank.set_viewport_size({"width": 1280, "height": 720})
    blank.add_style_tag(content="\n".join(sheet.read_text() for sheet in SHEETS))
    mount(blank, block_strip.TEMPLATE, block_strip.SCRIPT, value=shown(), answered={"number": 0, "at": None})
    blank.evaluate(f"widget.element.style.width = '{ROOM}px'")
    return blank


def sent(page: Page) -> list[dict]:
    return [content for kind, content in page.evaluate("widget.sent") if kind == "input"]


def answer(page: Page, value: str | None = None, number: int | None = None) -> None:
    """Answers the last event; with a value, the session has changed."""
    number = len(sent(page)) if number is None else number
    at = None if value is None else json.loads(value)["at"]
    page.evaluate(
        "([value, answered]) => { if (value) widget.props.value = value; widget.props.answered = answered; "
        "widget.watched.value(); widget.watched.answered(); }",
        [value, {"number": number, "at": at}],
    )


def test_the_blocks_of_flux_fit_beside_the_column_of_controls(strip: Page):
    blocks = strip.locator(".strip-blocks [role=slider]")
    expect(blocks).to_have_count(57)
    assert strip.locator(".strip-blocks").evaluate("host => host.scrollWidth - host.clientWidth") == 0
    boxes = blocks.evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().toJSON())")
    assert all(box["width"] >= 12 and box["right"] <= 8 + ROOM for box in boxes)
    expect(strip.locator(".strip-kinds [role=slider]")).to_have_count(len(KINDS))
    assert strip.locator("[role=slider][tabindex='0']").count() == 2  # one tab stop for blocks, one for kinds
    mixed = blocks.nth(7)
    expect(mixed).to_have_attribute("aria-valuetext", "44 %, its layers 20 to 70 %, set by hand")
    assert mixed.locator(".strip-span").is_visible()
    assert mixed.locator(".strip-dot").is_visible()
    assert not blocks.nth(8).locator(".strip-span").is_visible()


def test_keys_change_a_slider_and_with_shift_several(strip: Page):
    blocks = strip.locator(".strip-blocks [role=slider]")
    blocks.first.focus()
    strip.keyboard.press("ArrowRight")
    expect(blocks.nth(1)).to_be_focused()
    strip.keyboard.press("ArrowUp")
    expect(blocks.nth(1)).to_have_attribute("aria-valuenow", "51")
    assert [event["text"] for event in sent(strip)] == ["1:51"]
    strip.keyboard.press("PageDown")  # waits for the answer to the first
    assert len(sent(strip)) == 1
    answer(strip, shown(2))
    expect(blocks.nth(1)).to_have_attribute("aria-valuenow", "41")  # the answer does not know of it
    strip.wait_for_function("widget.sent.length === 2")
    answer(strip, shown(3))
    strip.keyboard.press("Shift+ArrowRight")
    strip.keyboard.press("Shift+ArrowRight")
    strip.wait_for_timeout(120)
    strip.keyboard.press("End")
    assert sent(strip)[-1]["text"] == "1:100, 2:100, 3:100"
    answer(strip)  # refused: back to what was shown before
    for index in (1, 2, 3):
        expect(blocks.nth(index)).to_have_attribute("aria-valuenow", "50")


def test_a_drag_sets_one_slider_and_with_shift_a_range(strip: Page):
    track = strip.locator(".strip-blocks .strip-track")
    box = track.nth(4).bounding_box()
    middle, quarter = box["y"] + box["height"] / 2, box["y"] + 0.75 * box["height"]
    strip.mouse.move(box["x"] + 5, middle)
    strip.mouse.down()
    strip.mouse.move(box["x"] + 60, quarter, steps=4)
    strip.mouse.up()
    values = strip.locator(".strip-blocks [role=slider]").evaluate_all("all => all.map(one => one.ariaValueNow)")
    assert values[4] == "25"
    assert set(values[:4] + values[8:]) == {"50"}
    end = track.nth(9).bounding_box()
    strip.keyboard.down("Shift")
    strip.mouse.move(box["x"] + 5, quarter)
    strip.mouse.down()
    strip.mouse.move(end["x"] + 5, box["y"] + 0.25 * box["height"], steps=4)
    strip.mouse.up()
    strip.keyboard.up("Shift")
    values = strip.locator(".strip-blocks [role=slider]").evaluate_all("all => all.map(one => one.ariaValueNow)")
    assert values[4:10] == ["75"] * 6
    assert values[3] == values[10] == "50"


def test_a_typed_text_is_kept_until_it_is_applied_and_refused_ones_stay(strip: Page):
    field = strip.locator(".strip-field input")
    field.fill("0-4:30, nothing:3")
    field.press("Enter")
    assert sent(strip)[-1]["text"] == "0-4:30, nothing:3"
    answer(strip)
    expect(field).to_have_value("0-4:30, nothing:3")
    field.fill("0-4:30")
    field.press("Enter")
    strip.wait_for_function("widget.sent.filter(([kind]) => kind === 'input').length === 2")
    answer(strip, shown(2, text="all:50, 0-4:30"))
    expect(field).to_have_value("all:50, 0-4:30")


def test_a_preset_is_applied_as_it_is(strip: Page):
    presets = [{"name": "Uniform", "text": "all:40", "about": "Everywhere."}]
    strip.evaluate("value => { widget.props.value = value; widget.watched.value(); }", shown(2, presets=presets))
    strip.locator(".strip-keep input").check()
    strip.locator("select").select_option(label="Uniform")
    assert sent(strip) == [{"text": "all:40", "keep": False, "gesture": 1, "number": 1}]
    answer(strip, shown(3, text="all:40"))
    strip.locator(".strip-field input").press("Enter")
    strip.wait_for_function("widget.sent.filter(([kind]) => kind === 'input').length === 2")
    assert sent(strip)[-1]["keep"] is True


def test_text_and_sliders_of_the_page_say_the_same_and_undo_takes_them_back(page: Page):
    strip = page.locator("#block-strip")
    blocks = strip.locator(".strip-blocks [role=slider]")
    expect(blocks).to_have_count(9)
    field, before = strip.get_by_label("As text"), bar_value(page, "Predicted damage")
    own = field.input_value()
    field.fill("0-2:30, adaLN:40")
    field.press("Enter")
    expect(strip.locator(".strip-kinds [data-key=adaLN]")).to_have_attribute("aria-valuenow", "40")
    sparsities = page.locator("#layer-list tr[data-layer='transformer_blocks.0.attn.to_q'] input[type=number]")
    expect(sparsities).to_have_value("30")
    assert bar_value(page, "Predicted damage") != before
    page.get_by_role("button", name="Undo").click()
    expect(field).to_have_value(own)
    expect(page.locator("#bar")).to_contain_text(before)
    sparsities.fill("10")
    sparsities.press("Enter")
    expect(field).not_to_have_value(own)
