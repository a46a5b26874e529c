"""Names that are markup, in every place that shows what people wrote: letter by letter, behind a login."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gradio_client import Client
from playwright.sync_api import Page, expect
from serving import running_app

LOGIN = ("ada", "secret")
ELSEWHERE = "evil.example"
NAMES = (
    '<img src=x data-evil onerror="window.evil=1">',
    f"[a](https://{ELSEWHERE}) ![b](https://{ELSEWHERE}/b.png) `c` **d**",
    f'<a href="https://{ELSEWHERE}" data-evil>e</a><b data-evil>f</b>',
    "${window.evil=1} {{7*7}} %{customdata} $$g$$",
)
FOUND = """() => ({
    marked: document.querySelectorAll("[data-evil]").length,
    links: [...document.querySelectorAll("a")].filter(
        (a) => `${a.getAttribute("href")} ${a.getAttribute("xlink:href")}`.includes("evil.example")).length,
    pictures: [...document.querySelectorAll("img")].filter(
        (img) => img.getAttribute("src") === "x" || img.src.includes("evil.example")).length,
    ran: window.evil ?? null,
})"""
NOTHING = {"marked": 0, "links": 0, "pictures": 0, "ran": None}

expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def app_url(tmp_path_factory):
    """An app with a login."""
    folder = tmp_path_factory.mktemp("markup")
    logins = folder / "logins"
    logins.write_text(":".join(LOGIN), encoding="utf-8")
    logins.chmod(0o600)
    with running_app("--auth-file", str(logins), "--out", str(folder / "out"), XDG_CACHE_HOME=str(folder)) as url:
        yield url


@pytest.fixture
def page(browser, app_url):
    """The app's page, logged in and ready; fails where it logs an error, opens a dialog or asks anybody else."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(60_000)
    page.add_init_script("localStorage.setItem('dit-prune-viz hints seen', 'yes')")
    wrong: list[str] = []
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if ELSEWHERE in request.url else None)
    page.goto(app_url)
    page.locator("input[type=password]").wait_for()
    # The page asks whether somebody is logged in, and is told that nobody is.
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.get_by_label("username").fill(LOGIN[0])
    page.locator("input[type=password]").fill(LOGIN[1])
    page.get_by_role("button", name="Login").click()
    page.locator('#layer-map [data-points="78"]').first.wait_for(timeout=300_000)
    yield page
    page.context.close()
    assert wrong == []


def recipe_file(app_url: str, folder: Path, layer: str) -> Path:
    """A recipe as the API saves it, with other names."""
    client = Client(app_url, auth=LOGIN, verbose=False)
    client.predict("magnitude", "auto", 0.5, api_name="/prune")
    client.predict(layer, "row", "kmeans", len(NAMES), api_name="/cluster")
    for cluster in range(len(NAMES)):
        client.predict(layer, cluster, 0.3 + cluster / 10, api_name="/set_cluster_sparsity")
    values = json.loads(client.predict(api_name="/save_recipe")["recipe"])
    (tuned,) = [one for one in values["tuned"] if "clusters" in one]
    tuned["clusters"]["tags"] = [{"name": name, "look": i, "locked": False} for i, name in enumerate(NAMES)]
    path = folder / "<b data-evil>mine.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_names_are_shown_letter_by_letter(page: Page, app_url, tmp_path):
    page.get_by_role("tab", name="Layer").click()
    page.locator("#cluster-table tbody tr").first.wait_for()
    layer = page.locator("#layer-picker input").input_value().partition(" ")[0]
    file = recipe_file(app_url, tmp_path, layer)

    page.get_by_role("tab", name="Take away").click()
    page.locator("#takeaway-open button").first.click()
    page.locator("#takeaway-recipe input[type=file]").set_input_files(str(file))
    page.locator("#takeaway-recipe").get_by_role("cell").first.wait_for()
    page.locator("#takeaway-open-run").click()
    expect(page.locator("#takeaway-notes")).to_contain_text("Opened: ")
    assert page.evaluate(FOUND) == NOTHING

    page.get_by_role("tab", name="Layer").click()
    for name in NAMES:
        row = page.locator("#cluster-table tbody").get_by_role("button", name=name, exact=True)
        expect(row.first).to_be_visible()
    page.wait_for_function(
        "name => [...document.querySelectorAll('#units .legendtext')].some((one) => one.textContent.includes(name))",
        arg=NAMES[0][:12],
    )
    assert page.evaluate(FOUND) == NOTHING

    # A sentence that quotes what was typed, in a message of gradio's.
    find = page.get_by_placeholder("Find units: 12, 40-60")
    find.fill(NAMES[0])
    find.press("Enter")
    expect(page.get_by_test_id("toast-text").first).to_contain_text("<img src=x data-evil")
    assert page.evaluate(FOUND) == NOTHING

    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#prompt textarea")).not_to_have_value("")
    page.locator("#version-name input, #version-name textarea").first.fill(NAMES[2][:60])
    page.locator("#version-save").click()
    page.locator("#prompt textarea").fill("\n".join(NAMES))
    page.locator("#steps input").fill("2")
    page.locator("#generate").click()
    expect(page.locator("#scores tbody tr")).to_have_count(len(NAMES))
    expect(page.locator("#scores")).to_contain_text(NAMES[0])
    expect(page.locator("#runs li")).to_contain_text("e</a>")
    page.locator("#evidence .plot").focus()
    page.keyboard.press("ArrowRight")  # shows what hovering shows
    page.locator("#evidence .hoverlayer .hovertext").first.wait_for()
    assert page.evaluate(FOUND) == NOTHING

    page.get_by_role("tab", name="Trade-off").click()
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([{"prompt": name, "category": name} for name in NAMES]), encoding="utf-8")
    page.get_by_role("button", name="Your own prompts").first.click()
    page.locator("#prompt-set input[type=file]").set_input_files(str(prompts))
    expect(page.locator("#prompt-preview")).to_contain_text(NAMES[0])
    assert page.evaluate(FOUND) == NOTHING
