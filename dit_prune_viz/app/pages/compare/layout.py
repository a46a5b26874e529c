"""The components of the Compare page."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.compare import view
from dit_prune_viz.app.pages.compare.view import Pictures
from dit_prune_viz.app.pages.parts import layout as parts_layout
from dit_prune_viz.app.session.drawn_model import ONLY, WITHOUT
from dit_prune_viz.app.session.evidence import EMPTY
from dit_prune_viz.app.session.tradeoff import SIZE, SPARSITY
from dit_prune_viz.app.widgets import layer_board, plot, runs_strip, saved_versions
from dit_prune_viz.app.widgets.choice import choice
from dit_prune_viz.app.widgets.number import whole_number
from dit_prune_viz.generation.request import MAX_FRAMES, MAX_SEED, MAX_STEPS
from dit_prune_viz.resources import BUNDLED_PICTURE

SUGGESTIONS = 7
PROMPTS = "Prompts: up to four, one per line"
CLASSES = "Classes: up to four names or numbers"
NUMBERS = "Classes: up to four numbers, one per line. The model lists no names, so CLIP scores say nothing here"
MODES = [("remove this cluster", WITHOUT), ("keep only this cluster of its layer", ONLY)]
REDRAW = "redraw after changes: a draft, then in full"
SCORES = [("SSIM", "ssim"), ("CLIP", "clip")]
OVER = [("sparsity", SPARSITY), ("bytes", SIZE)]
EVIDENCE_HELP = "A click on a dot brings its run back; Shift+click, or Shift+Enter, makes it A."
CLUSTER_NOTE = (
    "**What does this cluster paint?** Everything else stays dense, so the difference shows what its weights do. "
    "Clusters are made on the Layer page."
)

PICTURE_NOTE = (
    "**This model changes a picture.** It is cut to the size of the one that is drawn; both sides start from the same."
)


@dataclass(frozen=True)
class PictureFields:
    """The picture that a model starts from: `own` holds an upload's bytes, None for the bundled one."""

    own: gr.State
    row: gr.Row
    shown: gr.Image
    upload: gr.UploadButton
    bundled: gr.Button

    @property
    def outputs(self) -> list:
        return [self.own, self.shown, self.bundled]


@dataclass(frozen=True)
class RequestFields:
    """What is drawn: prompts, seed and steps, with prompts to try.

    frames is shown for models that draw clips, the picture for those that change one; own: the bytes of an upload.
    """

    prompt: gr.Textbox
    seed: gr.Number
    steps: gr.Number
    generate: gr.Button
    redraw: gr.Checkbox
    examples: gr.Dataset
    four: gr.Button
    frames: gr.Number
    picture: PictureFields

    @property
    def inputs(self) -> list:
        return [self.prompt, self.seed, self.steps, self.frames, self.picture.own]

    @property
    def restored(self) -> list:
        """What going back to an earlier run writes."""
        return [*self.inputs[:-1], *self.picture.outputs]


@dataclass(frozen=True)
class ClusterFields:
    """Which cluster of which layer is drawn, and how."""

    layer: gr.Dropdown
    cluster: gr.Dropdown
    mode: gr.Dropdown
    show: gr.Button


@dataclass(frozen=True)
class EvidenceFields:
    """The runs as dots before measured curves: which score, over what."""

    score: gr.Radio
    over: gr.Radio
    plot: gr.HTML

    @property
    def inputs(self) -> list:
        return [self.score, self.over]


@dataclass(frozen=True)
class VersionFields:
    """The present plan's name, and what is said of a version that was saved."""

    name: gr.Textbox
    save: gr.Button
    take: gr.Button
    words: gr.HTML


@dataclass(frozen=True)
class CompareLayout:
    """The whole page; `wait` says what the next image waits for, `strip` holds the earlier runs."""

    board: gr.HTML
    request: RequestFields
    wait: gr.Markdown
    pictures: Pictures
    evidence: EvidenceFields
    versions: VersionFields
    strip: gr.HTML
    cluster: ClusterFields
    parts: parts_layout.PartFields

    @property
    def outputs(self) -> list:
        """What a comparison updates: pictures, strip and evidence."""
        return [*self.pictures.outputs, self.strip, self.evidence.plot]


def lay_out() -> CompareLayout:
    """Lay the page out inside the current gradio context: map, pictures and evidence on one screen, all else below."""
    with gr.Column(elem_id="workbench"):
        with gr.Row(elem_id="bench"):
            with gr.Column(scale=0, min_width=280, elem_id="bench-map"):
                board = layer_board.board()
            with gr.Column(scale=1, min_width=280, elem_id="bench-pictures"):
                request = _request_fields()
                wait = gr.Markdown("", elem_classes="note", elem_id="compare-wait", visible=False)
                pictures = view.build()
            with gr.Column(scale=0, min_width=280, elem_id="bench-evidence"):
                evidence = _evidence_fields()
        with gr.Column(elem_id="bench-runs"):
            versions = _version_fields()
            strip = runs_strip.strip()
    with gr.Row(elem_id="prompt-examples"):
        request.examples.render()
    with gr.Accordion("CLIP score while denoising", open=False, elem_id="clip-line"):
        pictures.curve.render()
    with gr.Column(elem_id="cluster-paints"):
        gr.Markdown(CLUSTER_NOTE, elem_classes="note")
        with gr.Row(equal_height=True, elem_classes="tab-controls"):
            cluster = ClusterFields(
                layer=choice([], label="Layer", scale=4, min_width=220, elem_id="paint-layer"),
                cluster=choice([], label="Cluster", scale=3, min_width=160, elem_id="paint-cluster"),
                mode=gr.Dropdown(MODES, value=WITHOUT, label="What to do with it", scale=3, min_width=200),
                show=gr.Button("Show what it paints", scale=1, min_width=170, elem_id="paint-run"),
            )
    parts = parts_layout.lay_out()
    return CompareLayout(board, request, wait, pictures, evidence, versions, strip, cluster, parts)


def _evidence_fields() -> EvidenceFields:
    with gr.Row(elem_id="evidence-axes"):
        score = gr.Radio(SCORES, value="ssim", label="Score", container=False, min_width=120, elem_id="evidence-score")
        over = gr.Radio(OVER, value=SPARSITY, label="Over", container=False, min_width=140, elem_id="evidence-over")
    drawn = plot.plot(EMPTY, height=330, elem_id="evidence")
    gr.Markdown(EVIDENCE_HELP, elem_classes="note")
    return EvidenceFields(score, over, drawn)


def _version_fields() -> VersionFields:
    with gr.Row(elem_id="versions"):
        name = gr.Textbox(
            placeholder="Name of this plan", show_label=False, label="Name of this plan", container=False,
            max_lines=1, scale=0, min_width=220, elem_id="version-name",
        )  # fmt: skip
        save = gr.Button("Save version", size="sm", scale=0, min_width=110, elem_id="version-save")
        take = gr.Button("Export …", size="sm", scale=0, min_width=90, elem_id="version-export")
        words = saved_versions.saved()
    return VersionFields(name, save, take, words)


def _request_fields() -> RequestFields:
    with gr.Row(equal_height=True, elem_id="request"):
        prompt = gr.Textbox(
            label=PROMPTS,
            placeholder="Shift+Enter generates",
            lines=2,
            max_lines=2,
            scale=5,
            min_width=160,
            elem_id="prompt",
        )
        seed = whole_number(0, "Seed", 0, MAX_SEED, scale=1, min_width=56, elem_id="seed")
        steps = whole_number(20, "Steps", 1, MAX_STEPS, scale=1, min_width=56, elem_id="steps")
        frames = whole_number(1, "Frames", 1, MAX_FRAMES, scale=1, min_width=56, elem_id="frames", visible=False)
        with gr.Column(scale=1, min_width=104, elem_id="request-buttons"):
            generate = gr.Button("Generate", variant="primary", size="sm", elem_id="generate")
            four = gr.Button("Four prompts", size="sm", elem_id="four-prompts")
    redraw = gr.Checkbox(True, label=REDRAW, container=False, elem_id="redraw")
    examples = gr.Dataset(
        components=[prompt],
        samples=[],
        label="Prompts to try",
        show_label=False,
        type="values",
        samples_per_page=SUGGESTIONS,
        render=False,
    )
    picture = _picture_fields()
    return RequestFields(prompt, seed, steps, generate, redraw, examples, four, frames, picture)


def _picture_fields() -> PictureFields:
    with gr.Row(visible=False, elem_id="input-picture") as row:
        shown = gr.Image(
            str(BUNDLED_PICTURE),
            label="Starts from: bundled",
            format="png",
            interactive=False,
            height=140,
            min_width=140,
            scale=0,
            buttons=[],
            elem_id="input-picture-shown",
        )
        with gr.Column(scale=1, min_width=240):
            gr.Markdown(PICTURE_NOTE, elem_classes="note")
            upload = gr.UploadButton(
                "Upload a picture of your own",
                file_types=["image"],
                size="sm",
                elem_id="input-picture-upload",
            )
            bundled = gr.Button(
                "Back to the bundled picture", size="sm", visible=False, elem_id="input-picture-bundled"
            )
    return PictureFields(gr.State(None), row, shown, upload, bundled)
