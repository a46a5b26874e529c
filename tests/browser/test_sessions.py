"""Work survives: a page that is loaded again, a second tab, a network gap and a restart of the server lose nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from serving import free_port, running_app

READY_MS = 180_000
expect.set_options(timeout=60_000)


def ready(page: Page, url: str) -> Page:
    """A page that is opened and shows its map."""
    page.set_default_timeout(60_000)
    page.add_init_script("localStorage.setItem('dit-prune-viz hints seen', 'yes')")
    page.goto(url)
    page.locator('[data-fact="Predicted damage"]').wait_for(timeout=READY_MS)
    return page


@pytest.fixture
def visitor(browser, app_url) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield ready(context.new_page(), app_url)
    context.close()


def fact(page: Page, name: str) -> str:
    return page.locator(f'[data-fact="{name}"] .fact-value').inner_text()


def set_sparsity(page: Page, percent: int) -> None:
    field = page.locator("#sparsity input[type=number]")
    field.fill(str(percent))
    field.press("Enter")
    field.press("Tab")
    expect(page.locator('[data-fact="Sparsity"] .fact-value')).to_have_text(re.compile(rf"^{percent}\b"))


def draw(page: Page) -> None:
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#prompt textarea")).not_to_have_value("")
    page.locator("#steps input").fill("2")
    page.locator("#steps input").press("Tab")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator("#runs .run")).to_have_count(1)


def test_a_page_that_is_loaded_again_finds_plan_undo_and_runs(visitor, browser, app_url):
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
    expect(visitor.locator('[data-fact="Sparsity"] .fact-value')).to_have_text(re.compile("^50"))
    stranger = ready(other.new_page(), app_url + "/?session=new")
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


def test_after_a_restart_of_the_server_the_same_page_has_its_work_back(browser, tmp_path):
    port, state = free_port(), ("--state", str(tmp_path / "state"))
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    with running_app(*state, port=port) as url:
        page = ready(context.new_page(), url)
        page.evaluate("window.mark = 'still here'")
        set_sparsity(page, 35)
        draw(page)
        expect(page.locator("#cancel")).to_be_hidden()
        page.wait_for_timeout(3000)  # until it is saved
        page.get_by_role("tab", name="Map").click()
    expect(page.locator("#connection")).to_have_text("Reconnecting …")
    with running_app(*state, port=port):
        expect(page.locator("#connection")).to_have_count(0)
        expect(page.locator("#bar")).to_contain_text("is back", timeout=READY_MS)
        expect(page.locator('[data-fact="Sparsity"] .fact-value')).to_have_text(re.compile("^35"))
        page.get_by_role("tab", name="Compare").click()
        expect(page.locator("#runs .run")).to_have_count(1)
        expect(page.locator("#picture-pruned img")).to_be_visible()
        page.get_by_role("button", name="Undo").click()
        expect(page.locator('[data-fact="Sparsity"] .fact-value')).to_have_text(re.compile("^50"))
        assert page.evaluate("window.mark") == "still here"
    context.close()
