"""The page's scripts on an empty page, and the page when the script that draws its charts does not come."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from layer_searches import LAYERS, SEARCHES
from playwright.sync_api import Page, Route, expect

from dit_prune_viz.app.pages.topbar import hints
from dit_prune_viz.app.widgets import block_strip, cluster_table, layer_list, messages, plot, threshold_line
from dit_prune_viz.app.widgets.scripts import script
from dit_prune_viz.figures import style

# Does what gr.HTML does: a div with the template, then the script, once.
MOUNT = """([template, script, props]) => {
  const element = document.createElement("div");
  element.innerHTML = template;
  document.body.append(element);
  const widget = { element, props, sent: [], watched: {} };
  const trigger = (kind, content) => widget.sent.push([kind, content]);
  const watch = (name, action) => (widget.watched[name] = action);
  new Function("element", "trigger", "props", "server", "upload", "watch", script)(
    element, trigger, props, {}, null, watch);
  window.widget = widget;
}"""
OUTLIVING = ("document", "document.body", "document.documentElement", "window")


@pytest.fixture
def blank(browser):
    """An empty page. Fails if a script on it does."""
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def mount(page: Page, template: str, text: str, **props) -> None:
    page.evaluate(MOUNT, [template, text, props])


def listeners(page: Page) -> Counter:
    """The kinds of listeners on what outlives a widget, and how many there are of each."""
    client = page.context.new_cdp_session(page)
    found = Counter()
    for target in OUTLIVING:
        remote = client.send("Runtime.evaluate", {"expression": target})["result"]["objectId"]
        for listener in client.send("DOMDebugger.getEventListeners", {"objectId": remote})["listeners"]:
            found[target, listener["type"]] += 1
    client.detach()
    return found


def figure() -> str:
    drawn = style.blank("Dots", alt="dots", x="x", y="y", revision="dots")
    drawn.add_scatter(x=[1, 2], y=[1, 2], mode="markers", customdata=[["a"], ["b"]], name="kind")
    return plot.show(drawn)


WIDGETS = {
    "plot": lambda: plot.plot(height=200, elem_id="plot"),
    "cluster table": cluster_table.table,
    "threshold line": lambda: threshold_line.line("plot"),
    "block strip": block_strip.strip,
    "layer list": lambda: layer_list.layers("none"),
    "hints": hints.strip,
}


@pytest.mark.parametrize("name", WIDGETS)
def test_a_widget_that_leaves_the_page_takes_its_listeners_along(blank: Page, name):
    widget = WIDGETS[name]()
    props = {"plot": "plot", "steps": list(hints.STEPS), "value": figure() if name == "plot" else ""}
    blank.add_script_tag(path=plot.PLOTLY_JS)
    blank.evaluate("window.plotlyLoaded = Promise.resolve()")
    blank.evaluate("Plotly.newPlot(document.body.appendChild(document.createElement('div')), [])")  # has its own once
    before = listeners(blank)
    for _ in range(3):
        mount(blank, widget.html_template, widget.js_on_load, **props)
        if name == "plot":
            blank.locator("[data-points='2']").wait_for()
            assert listeners(blank)["window", "resize"] == before["window", "resize"] + 1
        if name not in ("cluster table", "block strip"):  # which have none
            assert listeners(blank) > before
        blank.evaluate("widget.element.remove()")
        blank.wait_for_timeout(50)
        assert listeners(blank) == before


def test_gradio_does_not_find_those_whose_progress_is_hidden(blank):
    blank.evaluate("text => (0, eval)(text)", script("pages/hidden_status.js"))
    statuses = {"3": {"fn_index": 1, "show_progress": "hidden"}, "4": {"fn_index": 2, "show_progress": "full"}, "5": {}}
    assert blank.evaluate("Object.entries", statuses) == [["4", statuses["4"]], ["5", {}]]
    for other in ({}, {"a": None, "b": 1, "c": {"show_progress": "hidden"}}, ["x", "y"]):
        expected = other.items() if isinstance(other, dict) else zip("01", other, strict=True)
        assert blank.evaluate("Object.entries", other) == [list(pair) for pair in expected]


def test_a_widget_that_only_moves_keeps_its_listeners(blank: Page):
    mount(blank, "", script("widgets/shared.js") + "document.addEventListener('moved', () => 0, { signal: removed });")
    blank.evaluate("document.body.append(document.createElement('main')); document.body.prepend(widget.element)")
    blank.wait_for_timeout(50)
    assert listeners(blank)["document", "moved"] == 1


LIST_ROW = {"granularity": "row", "sparsity": 0.5, "given": 50, "removed": 8, "movable": True, "damage": 0.1}


@pytest.fixture
def layer_rows(blank: Page) -> Page:
    """The list of layers with those of `layer_searches`."""
    rows = [
        {
            "name": one.name,
            "kind": one.kind,
            "place": one.place,
            "weights": one.weights,
            "sensitivity": None,
            **LIST_ROW,
        }
        for one in LAYERS
    ]
    widget = layer_list.layers("none")
    mount(blank, widget.html_template, widget.js_on_load, value=json.dumps({"at": 1.0, "rows": rows}), empty="none")
    expect(blank.locator("tbody tr")).to_have_count(len(LAYERS))
    return blank


def test_the_list_of_layers_finds_what_people_type(layer_rows: Page):
    for text, names in SEARCHES.items():
        layer_rows.locator("input[type=search]").fill(text)
        found = layer_rows.evaluate("[...document.querySelectorAll('tbody tr')].map(row => row.dataset.layer)")
        assert sorted(found) == sorted(names), text


def test_the_list_of_layers_is_one_tab_stop_and_arrow_keys_walk_through_it(layer_rows: Page):
    stops = layer_rows.locator("tbody tr td.name button:not([tabindex='-1'])")
    assert stops.count() == 1
    stops.focus()
    focused = "document.activeElement.closest('tr')?.sectionRowIndex"
    for key, row in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", len(LAYERS) - 1), ("Home", 0)):
        layer_rows.keyboard.press(key)
        assert layer_rows.evaluate(focused) == row
    assert stops.count() == 1
    layer_rows.keyboard.press("Enter")
    first = layer_rows.locator("tbody tr").first.get_attribute("data-layer")
    assert layer_rows.evaluate("widget.sent") == [["click", {"id": first}]]


PROBE = (
    messages.SCRIPT
    + """
const wishes = [];
const log = (window.log = []);
const exchange = messages({
  pending: () => wishes.length > 0,
  take: () => ({ last: wishes.splice(0).at(-1) }),
  answered: (changed) => log.push(changed),
  settled: (number) => log.push(`settled ${number}`),
});
window.wish = (value) => { wishes.push(value); exchange.send(); };
window.read = () => exchange.read({ note: "none" });
"""
)


def answer(page: Page, number: int, at: float | None) -> None:
    page.evaluate(
        "answer => { widget.props.answered = answer; widget.watched.answered(); }", {"number": number, "at": at}
    )


def test_one_event_at_a_time_and_the_last_wish_of_those_made_meanwhile(blank: Page):
    mount(blank, "", PROBE, answered={"number": 0, "at": None})
    for value in (1, 2, 3):
        blank.evaluate("wish", value)
    assert blank.evaluate("widget.sent") == [["input", {"last": 1, "number": 1}]]
    answer(blank, 7, 5.0)  # not to what was asked
    assert blank.evaluate("widget.sent.length") == 1
    answer(blank, 1, 5.0)
    assert blank.evaluate("widget.sent[1]") == ["input", {"last": 3, "number": 2}]
    answer(blank, 2, None)
    assert blank.evaluate("log") == [True, False, "settled 2"]
    assert blank.evaluate("widget.sent.length") == 2


def test_a_value_that_an_answer_has_overtaken_is_not_shown(blank: Page):
    mount(blank, "", PROBE, value=json.dumps({"at": 4.0, "note": "old"}), answered={"number": 0, "at": None})
    assert blank.evaluate("read()") == {"at": 4.0, "note": "old"}
    blank.evaluate("wish", 1)
    answer(blank, 1, 5.0)
    assert blank.evaluate("read()") is None
    blank.evaluate("value => (widget.props.value = value)", json.dumps({"at": 5.5, "note": "new"}))
    assert blank.evaluate("read()") == {"at": 5.5, "note": "new"}


ADDED = """
<div class="block"><label data-testid="block-label"> Dense </label>
  <div class="image-container"><button>x</button></div></div>
<div><p>text</p><div class="empty" aria-label="late"></div></div>
<div class="toast-header" role="button" tabindex="0">Note</div>"""


def test_parts_of_gradio_get_their_names_without_a_search_through_the_page(blank: Page):
    blank.set_content('<div class="empty" aria-label="early"></div>')
    blank.evaluate(
        """([script, added]) => {
          window.searches = 0;
          const search = Document.prototype.querySelectorAll;
          Document.prototype.querySelectorAll = function (selector) {
            window.searches += 1;
            return search.call(this, selector);
          };
          Function(`return (${script})`)()();
          document.body.insertAdjacentHTML("beforeend", added);
        }""",
        [script("pages/accessible.js"), ADDED],
    )
    expect(blank.get_by_role("img")).to_have_count(2)
    expect(blank.get_by_role("button")).to_have_accessible_name("Dense")
    assert blank.locator(".toast-header").get_attribute("tabindex") is None
    assert blank.evaluate("searches") == 0


@pytest.fixture
def opened(browser, app_url):
    """A page that has not been opened yet, and on which plotly.min.js may fail."""
    page = browser.new_page()
    page.goto_app = lambda: page.goto(app_url)
    yield page
    page.close()


@pytest.mark.parametrize("come", ["not at all", "as something else"])
def test_without_plotly_the_charts_say_what_to_do(opened: Page, come, screenshots):
    def fail(route: Route) -> None:
        if come == "not at all":
            route.abort()
        else:
            route.fulfill(status=200, content_type="text/html", body="<h1>Log in</h1>")

    opened.route("**/plotly.min.js", fail)
    opened.goto_app()
    for place in ("#layer-map", "#layer-dots"):
        expect(opened.locator(f"{place} .plot-problem")).to_contain_text("did not load. Reload the page.")
    expect(opened.locator("#layer-list tbody tr")).to_have_count(78, timeout=300_000)  # the rest of the page works
    if screenshots is not None:
        opened.screenshot(path=screenshots / f"no-plotly-{come.replace(' ', '-')}.png")


def test_when_plotly_is_late_the_charts_say_so_until_it_comes(opened: Page):
    held: list[Route] = []
    opened.route("**/plotly.min.js", lambda route: held.append(route))
    opened.clock.install()
    opened.goto_app()
    problem = opened.locator("#layer-map .plot-problem")
    opened.wait_for_function("document.querySelector('#layer-map .plot') !== null")
    expect(problem).to_have_count(0)
    opened.clock.fast_forward(20_000)
    expect(problem).to_contain_text("has not arrived within 20 seconds")
    held[0].continue_()
    expect(opened.locator("#layer-map .js-plotly-plot")).to_have_count(1)
    expect(problem).to_have_count(0)
