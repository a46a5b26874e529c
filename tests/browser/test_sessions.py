"""Work survives: a page that is loaded again, a second tab, a network gap and a restart of the server lose nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

READY_MS = 120_000


@pytest.fixture
def address(app_url) -> str:
    return app_url


def ready(page: Page, url: str) -> Page:
    """A page that is opened and shows its map."""
    page.set_default_timeout(60_000)
    page.add_init_script("localStorage.setItem('dit-prune-viz hints seen', 'yes')")
    page.goto(url)
    page.get_by_text("Predicted damage", exact=True).first.wait_for(timeout=READY_MS)
    return page


@pytest.fixture
def visitor(browser, address) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield ready(context.new_page(), address)
    context.close()


def fact(page: Page, name: str) -> str:
    return page.locator(f'[data-fact="{name}"] .fact-value').inner_text()


def set_sparsity(page: Page, percent: int) -> None:
    field = page.locator("#sparsity input[type=number]")
    field.fill(str(percent))
    field.press("Enter")
    expect(page.locator('[data-fact="Sparsity"] .fact-value')).to_have_text(re.compile(rf"^{percent}\b"))


def draw(page: Page) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.locator("#steps input").fill("2")
    page.locator("#steps input").press("Tab")
    page.get_by_role("button", name="Generate", exact=True).click()
    page.locator("#runs .run").first.wait_for()


def test_a_page_that_is_loaded_again_finds_plan_undo_and_runs(visitor, browser, address):
    set_sparsity(visitor, 40)
    draw(visitor)
    expect(visitor.locator("#cancel")).to_be_hidden()
    link = visitor.url
    assert re.search(r"[?&]session=[\w-]{32}$", link)
    visitor.reload()
    expect(visitor.locator('[data-fact="Sparsity"] .fact-value')).to_have_text(re.compile("^40"))
    visitor.get_by_role("tab", name="Compare").click()
    expect(visitor.locator("#runs .run")).to_have_count(1)
    expect(visitor.locator("#picture-pruned img")).to_be_visible()
    # Another browser with the link finds the same, and each hears of the other.
    other = browser.new_context()
    guest = ready(other.new_page(), link)
    expect(guest.locator('[data-fact="Sparsity"] .fact-value')).to_have_text(re.compile("^40"))
    expect(guest.get_by_role("button", name="Undo")).to_be_enabled()
    guest.get_by_role("button", name="Undo").click()
    expect(visitor.locator('[data-fact="Sparsity"] .fact-value')).to_have_text(re.compile("^50"), timeout=15_000)
    stranger = ready(other.new_page(), address + "?session=new")
    assert fact(stranger, "Sparsity").startswith("50")
    assert stranger.url != guest.url
    expect(stranger.get_by_role("button", name="Undo")).to_be_disabled()
    other.close()


def test_a_gap_in_the_network_says_so_and_goes_on_without_loading_the_page_again(visitor):
    visitor.evaluate("window.mark = 'still here'")
    draw(visitor)
    visitor.context.set_offline(True)
    expect(visitor.locator("#connection")).to_have_text("Reconnecting …")
    visitor.wait_for_timeout(3000)
    visitor.context.set_offline(False)
    expect(visitor.locator("#connection")).to_have_count(0)
    expect(visitor.locator("#runs .run")).to_have_count(1)
    visitor.get_by_role("tab", name="Map").click()
    set_sparsity(visitor, 30)
    visitor.get_by_role("button", name="Undo").click()
    expect(visitor.locator('[data-fact="Sparsity"] .fact-value')).to_have_text(re.compile("^50"))
    assert visitor.evaluate("window.mark") == "still here"
