"""What sliders of whole layers do: of blocks and kinds, of the list, and of the board. All send sparsities as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.events import value_of
from dit_prune_viz.app.session.block_edits import set_by_text
from dit_prune_viz.app.session.board import set_overall
from dit_prune_viz.app.session.browser_values import read_whole
from dit_prune_viz.app.session.jobs import Reporter
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.widgets import messages


class SparsityListeners:
    """The listeners of one widget, whose events are as in `block_strip`; `show` is its value at a time."""

    def __init__(self, actions: Actions, name: str, show: Callable[[Session | None, float], str]) -> None:
        self._actions, self._name, self._show = actions, name, show

    def edit(self, session: Session | None, request: gr.Request, event: gr.EventData) -> Iterator[tuple]:
        """What the sliders say comes true. The session is handed on by `settle`."""
        number, text = value_of(event, "number"), value_of(event, "text")
        overall = value_of(event, "overall")
        keep, gesture = value_of(event, "keep") is True, read_whole(value_of(event, "gesture"))

        def answer(changed: bool) -> gr.HTML:
            newest = self._actions.newest(request, session)
            return messages.answer(number, changed=changed, show=lambda at: self._show(newest, at))

        def verb(now: Session, report: Reporter) -> Session:
            if overall is None:
                return set_by_text(now, text, keep_overall=keep, progress=report)
            return set_overall(now, overall / 100 if isinstance(overall, int | float) else overall, report)

        updates = self._actions.answer(
            request,
            session,
            verb,
            answer,
            step=f"sparsities set in {self._name}, gesture {gesture}…",
        )
        for _, *rest in updates:
            yield (gr.skip(), *rest)

    def refresh(self, session: Session | None, request: gr.Request) -> str:
        """The widget's value. A listener that waited for its turn holds a session of before the last edit."""
        at = messages.now()
        return self._show(self._actions.newest(request, session), at)


def wire(frame: Frame, actions: Actions, widget: gr.HTML, show: Callable[[Session | None, float], str]) -> None:
    """Have a widget's sliders change the session, and every view follow once they rest; keep the widget up to date."""
    listeners = SparsityListeners(actions, widget.elem_id, show)
    # "always_last" would send the first event again, not the last; each carries its own data.
    widget.input(listeners.edit, frame.session, [*frame.outputs, widget], trigger_mode="multiple", **INTERNAL)
    frame.shown.change(listeners.refresh, frame.session, widget, trigger_mode="always_last", **INTERNAL)
    widget.submit(actions.settle, frame.session, frame.session, trigger_mode="multiple", **INTERNAL)
