"""The real app with the bundled model in a process of its own, and a headless Chromium that looks at it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import sync_playwright
from serving import running_app

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


def pytest_addoption(parser):
    parser.addoption("--screenshots", metavar="DIR", default=None, help="keep the screenshots of the browser tests")


@pytest.fixture(scope="session")
def screenshots(request) -> Path | None:
    """Where the screenshots go: --screenshots, else $SCREENSHOTS; None takes none, which saves half a minute."""
    chosen = request.config.getoption("--screenshots", default=None) or os.environ.get("SCREENSHOTS")
    if not chosen:
        return None
    Path(chosen).mkdir(parents=True, exist_ok=True)
    return Path(chosen)


@pytest.fixture(scope="session")
def app_url(tmp_path_factory):
    """The address of a running `python app.py`, which has measured nothing yet."""
    with running_app(XDG_CACHE_HOME=str(tmp_path_factory.mktemp("cache"))) as url:
        yield url


@pytest.fixture(scope="session")
def browser():
    path = os.environ.get("CHROMIUM")
    if path is None:  # empty is Playwright's own, see tests/run.sh
        path = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path or None, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=["light"])
def scheme(request) -> str:
    return request.param


@pytest.fixture
def visits() -> str:
    """Whether the visitor has been here "before", and dismissed the hints, or comes for the "first" time."""
    return "before"


@pytest.fixture
def page(browser, app_url, scheme, visits):
    """The app, opened and ready. Fails if the page logs an error or asks any other host for anything.

    It asks for reduced motion, so that nothing is looked at while it fades, and nothing is painted over and over.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    if visits == "before":
        page.add_init_script("localStorage.setItem('dit-prune-viz hints seen', 'yes')")
    page.set_default_timeout(60_000)
    errors, elsewhere = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: _note(request.url, elsewhere))
    page.goto(app_url)
    ready = page.get_by_text("Predicted damage", exact=True).first
    ready.wait_for(timeout=300_000)  # the first page waits for the calibration
    page.locator('#layer-map [data-points="78"]').first.wait_for()
    yield page
    context.close()
    assert errors == []
    assert elsewhere == []


def _note(url: str, elsewhere: list[str]) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("data", "blob") and parts.hostname not in ("127.0.0.1", "localhost"):
        elsewhere.append(url)
