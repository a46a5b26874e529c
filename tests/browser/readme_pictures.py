"""Make the README's screenshots anew, in both themes: `python tests/browser/readme_pictures.py [map layer …]`.

Needs Playwright and Chromium, as the browser tests do. Look at the pictures before committing them.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from conftest import FLAGS, NAMES
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from serving import running_app
from test_layer_page import box, drag

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "screenshots"
LAYER = "transformer_blocks.1.norm1.linear"


def map_page(page: Page) -> None:
    page.locator('#layer-dots [data-points="78"]').first.wait_for()


def layer_page(page: Page) -> None:
    page.locator("#layer-list button", has_text=LAYER).first.click()
    page.locator("#cluster-table tbody tr").first.wait_for()
    drag(page, "units", box(0.6, 0.15, 0.95, 0.55))
    expect(page.locator("#selection")).to_contain_text("rows selected")


def compare_page(page: Page) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.locator("#prompt textarea").fill("grinning face\nred apple\nowl\nhot beverage")
    page.locator("#generate").click()
    expect(page.locator("#scores")).to_contain_text("mean", timeout=180_000)
    page.locator("#runs .run").first.wait_for()


def tradeoff_page(page: Page) -> None:
    page.get_by_role("tab", name="Trade-off").click()
    page.locator("#tradeoff-methods label", has_text="tempered-mean").locator("input").check()
    for field, value in (("levels", "50,70"), ("prompts", "2"), ("seeds", "2"), ("steps", "6")):
        page.locator(f"#tradeoff-{field} input, #tradeoff-{field} textarea").first.fill(value)
    page.locator("#tradeoff-run").click()
    expect(page.locator("#tradeoff-table tbody tr")).to_have_count(9, timeout=300_000)
    page.locator("#cancel").wait_for(state="hidden")


PAGES = {"map": map_page, "layer": layer_page, "compare": compare_page, "tradeoff": tradeoff_page}


def main() -> None:
    path = next(filter(None, map(shutil.which, NAMES)))
    with (
        tempfile.TemporaryDirectory() as cache,
        running_app(XDG_CACHE_HOME=cache) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        for scheme, ending in (("light", ""), ("dark", "-dark")):
            for name in sys.argv[1:] or PAGES:
                page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
                page.add_init_script("localStorage.setItem('dit-prune-viz hints seen', 'yes')")
                page.goto(url)
                page.locator('#layer-map [data-points="78"]').first.wait_for(timeout=60_000)
                PAGES[name](page)
                page.mouse.move(0, 0)
                page.wait_for_timeout(2000)  # animations end
                shot = Image.open(io.BytesIO(page.screenshot(full_page=True)))
                shot.convert("RGB").quantize(256).save(FOLDER / f"{name}{ending}.png", optimize=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
