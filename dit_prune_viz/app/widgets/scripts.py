"""The scripts of the page, read from the package: gr.HTML and launch() take JavaScript as text, not as files."""

from __future__ import annotations

from importlib.resources import files

APP = files("dit_prune_viz.app")


def script(*names: str) -> str:
    """One script made of several files, for `js_on_load`.

    All files share one scope: those that define helpers come first, the widget's own comes last.

    Args:
        names: Files below `dit_prune_viz/app`, for example "widgets/shared.js".

    Returns:
        Their text, in this order.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    return "\n".join(APP.joinpath(name).read_text(encoding="utf-8") for name in names)
