"""Number fields. What a page sends is handed on as it is: whatever takes it says what is wrong in a sentence.

gradio itself answers a number that is out of bounds, or a text, with a fault and a traceback. In the browser
`pages/number_fields.js` refuses what is impossible before it is sent.
"""

from __future__ import annotations

from typing import Any

import gradio as gr


def number(value: float, label: str, low: float | None = None, high: float | None = None, **look: Any) -> gr.Number:
    """A field for any number between the bounds, where there are any."""
    return as_sent(gr.Number(value, label=label, minimum=low, maximum=high, **look))


def whole_number(value: int, label: str, low: int, high: int, **look: Any) -> gr.Number:
    """A field for a whole number."""
    return number(value, label, low, high, precision=0, elem_classes="whole", **look)


def slider(low: float, high: float, value: float, label: str, **look: Any) -> gr.Slider:
    """A slider with a field beside it."""
    return as_sent(gr.Slider(low, high, value, label=label, **look))


def as_sent(component: Any) -> Any:
    """The component, whose listeners get what the page sends, unread."""
    component.preprocess = lambda payload: payload
    return component
