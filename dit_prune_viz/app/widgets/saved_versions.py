"""The versions that a visitor has saved: a link to the newest, and a list that this browser remembers.

Its value names the version that was just saved; a `select` event asks for one by its `id`.
"""

from __future__ import annotations

import json

import gradio as gr

from dit_prune_viz.app.session.versions import Version
from dit_prune_viz.app.widgets.scripts import script

SCRIPT = script("widgets/shared.js", "widgets/saved_versions.js")
ASKED = "version"
"""The parameter of the page's address that names a version."""
TEMPLATE = (
    '<div class="saved"><select class="plain" aria-label="Saved versions" hidden></select>'
    '<span class="saved-words" role="status"></span>'
    '<button type="button" class="plain" data-does="copy" hidden>Copy link</button></div>'
)


def saved() -> gr.HTML:
    """The list, and the link once something was saved."""
    return gr.HTML(
        value="",
        html_template=TEMPLATE,
        js_on_load=SCRIPT,
        elem_id="version-words",
        apply_default_css=False,
        padding=False,
    )


def show(version: Version) -> str:
    """The component's value after a version was saved or opened."""
    return json.dumps({"id": version.id, "name": version.name, "link": f"?{ASKED}={version.id}"})
