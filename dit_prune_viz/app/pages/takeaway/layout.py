"""The components of the Take away page."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.session.takeaway import EXACT, INT8, WORDS
from dit_prune_viz.export.ways import WAYS, Way

NOTE = (
    "Choose what to keep of your work and press **Write**. Everything goes into one folder on the machine that runs "
    "the app, whole or not at all. The same on the command line: "
    "`dit-prune-viz prune MODEL --recipe FILE --out FOLDER --as packed,report`."
)
OPEN_NOTE = (
    "A recipe that was saved here, on the command line or by hand. One that was made for another model is refused, "
    "unless you ask for what fits to be carried over."
)
VALUES = [("without loss", EXACT), ("rounded to int8, smaller", INT8)]


@dataclass(frozen=True)
class WayFields:
    """One way out: what it would weigh, the button that writes it, and the download once it is there."""

    way: Way
    size: gr.HTML
    write: gr.Button
    download: gr.DownloadButton


@dataclass(frozen=True)
class OpenFields:
    """A recipe file to open, and what was said about it."""

    file: gr.File
    carry_over: gr.Checkbox
    open: gr.Button
    notes: gr.Markdown


@dataclass(frozen=True)
class TakeawayLayout:
    """The whole page; `told` says what was written last."""

    headline: gr.HTML
    name: gr.Textbox
    overwrite: gr.Checkbox
    values: gr.Dropdown
    ways: tuple[WayFields, ...]
    told: gr.Markdown
    opening: OpenFields

    @property
    def shown(self) -> list:
        """What follows the session: headline, name and sizes."""
        return [self.headline, self.name, *(way.size for way in self.ways)]

    @property
    def written(self) -> list:
        """What follows a file that was written."""
        return [self.told, *(way.download for way in self.ways)]


def lay_out(folder: str) -> TakeawayLayout:
    """Lay the page out inside the current gradio context. `folder` is where files go, for people."""
    headline = gr.HTML("", elem_id="takeaway-headline", apply_default_css=False, padding=False)
    gr.Markdown(NOTE, elem_classes="note")
    with gr.Row(equal_height=True, elem_classes="tab-controls"):
        name = gr.Textbox(label=f"Name, inside {folder}", max_lines=1, scale=3, min_width=240, elem_id="takeaway-name")
        values = gr.Dropdown(
            VALUES, value=EXACT, label="Values of the packed folder", scale=2, min_width=200, elem_id="takeaway-values"
        )
        overwrite = gr.Checkbox(
            False, label="Replace what has this name", scale=2, min_width=200, elem_id="takeaway-overwrite"
        )
    with gr.Row(elem_id="takeaway-ways"):
        ways = tuple(_way(way) for way in WAYS.values())
    told = gr.Markdown("", elem_id="takeaway-told", elem_classes="note")
    with gr.Accordion("Open a recipe", open=False, elem_id="takeaway-open"):
        gr.Markdown(OPEN_NOTE, elem_classes="note")
        file = gr.File(
            label="Recipe, .json", file_types=[".json"], type="filepath", height=120, elem_id="takeaway-recipe"
        )
        with gr.Row(elem_classes="tab-controls"):
            carry_over = gr.Checkbox(False, label="Carry over what fits from another model", elem_id="takeaway-carry")
            button = gr.Button("Open", size="sm", scale=0, min_width=90, elem_id="takeaway-open-run")
        notes = gr.Markdown("", elem_classes="note", elem_id="takeaway-notes")
    return TakeawayLayout(headline, name, overwrite, values, ways, told, OpenFields(file, carry_over, button, notes))


def _way(way: Way) -> WayFields:
    with gr.Column(elem_classes=["card", "way"], min_width=250, elem_id=f"way-{way.name}"):
        gr.Markdown(f"### {way.name.replace('-', ' ').capitalize()}", elem_classes="way-title")
        size = gr.HTML("", elem_classes="way-size", apply_default_css=False, padding=False)
        gr.Markdown(WORDS[way.name], elem_classes="note")
        with gr.Row(elem_classes="way-buttons"):
            write = gr.Button("Write", size="sm", variant="primary", min_width=70, elem_id=f"write-{way.name}")
            download = gr.DownloadButton(
                "Download", size="sm", interactive=False, min_width=90, elem_id=f"download-{way.name}"
            )
    return WayFields(way, size, write, download)
