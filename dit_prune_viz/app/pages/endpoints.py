"""How a function becomes an endpoint of the API: it hangs on hidden components, which the endpoints share."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr
from gradio.components import Component


def endpoint(fn: Callable, state: gr.State, inputs: list, extra: list | None = None) -> None:
    """One that changes the session, and answers with it, `extra` and a JSON object. Its job knows what has to wait."""
    inputs, outputs = map(_shared, inputs), map(_shared, [*(extra or []), gr.JSON(label="result")])
    button = _shared(gr.Button("call"))
    button.click(fn, [state, *inputs], [state, *outputs], api_name=fn.__name__, concurrency_limit=None)


def view(fn: Callable, state: gr.State, inputs: list) -> None:
    """An endpoint that reads the session and its weights: it does not wait for work on the model."""
    inputs, result, button = map(_shared, inputs), _shared(gr.JSON(label="result")), _shared(gr.Button("call"))
    button.click(fn, [state, *inputs], result, api_name=fn.__name__, concurrency_limit=None)


def _shared(component: Component) -> Component:
    """An equal one that is there already, in its place: whatever a page consists of takes time when it opens."""

    def look(one: Component) -> tuple:
        return type(one), one.label, one.value

    for other in component.parent.children:
        if other is not component and look(other) == look(component):
            component.unrender()
            return other
    return component
