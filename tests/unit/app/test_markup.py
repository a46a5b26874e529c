"""What people wrote, as Markdown, messages and figures show it: letter by letter. `tests/browser` has the real page."""

from __future__ import annotations

import json
from html import unescape
from html.parser import HTMLParser

import pytest
from hostile_recipes import MARKUP
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dit_prune_viz.app.formatting import markdown
from dit_prune_viz.app.pages.map.view import dense_words
from dit_prune_viz.app.pages.updates import error_message
from dit_prune_viz.app.session.tradeoff import curves
from dit_prune_viz.errors import UserError
from dit_prune_viz.experiments.results import Row


class Tags(HTMLParser):
    """Notes every tag of a text, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def rendered(text: str) -> Tags:
    """A paragraph of Markdown with raw HTML, links and tables, by a renderer of its own."""
    return Tags(MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").render(text))


@pytest.mark.parametrize(
    "text", [*MARKUP, "*a* __b__ ~c~ | d |", "# e", "- f", "1. g", "> h", "![](x)", "<x@y.z>", "&lt;b&gt;"]
)
def test_markdown_shows_every_letter(text):
    found = rendered(f"Opened: {markdown(text)}")
    assert found.tags == ["p"]
    assert found.text.strip() == f"Opened: {text}".strip()
    alone = rendered(markdown(text))
    assert alone.tags == ["p"]


@given(st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1))
def test_no_text_at_all_is_markup(text):
    found = rendered(f"x{markdown(text)}x")
    assert found.tags == ["p"]
    assert found.text.strip() == f"x{text}x"


@pytest.mark.parametrize("text", MARKUP)
def test_messages_of_the_page_are_text_and_clients_get_the_sentence(text):
    shown = error_message(UserError(f"There is no {text}."))
    assert Tags(shown.message).tags == []
    assert unescape(shown.message) == f"There is no {text}."
    assert error_message(UserError(text), shown=False).message == text


@pytest.mark.parametrize("text", ["<a href='https://evil.example'>x</a>", "<b>y</b><br>z"])
def test_curves_name_recipes_letter_by_letter(text):
    rows = [Row("e", text, "a", "50 %", 0.5, 0, 0.1, 1.0, 1.0, {"ssim": [0.5]})]
    figure = json.loads(curves(rows, "ssim").to_json())
    for trace in figure["data"]:
        assert Tags(trace["name"]).tags == []
        assert unescape(trace["name"]) == text
        assert text not in trace["hovertemplate"]


def test_what_stays_dense_is_told_as_text(ready):
    words = dense_words(ready)
    assert words
    assert rendered(words).tags == ["p"]
