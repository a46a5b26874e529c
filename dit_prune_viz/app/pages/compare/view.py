"""What the Compare page shows of a comparison: while it runs, when it is finished, and before there is any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr
from PIL.Image import Image

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.comparison import LEFT, RIGHT, Comparison, Curve, Frame
from dit_prune_viz.app.session.contact_sheet import contact_sheet, is_wide, places
from dit_prune_viz.app.widgets import plot
from dit_prune_viz.figures.clip_curve import clip_curve
from dit_prune_viz.figures.style import message
from dit_prune_viz.generation.frames import frames_of
from dit_prune_viz.metrics.clip_mean import CLIP_UNIT, mean_clip

NOT_YET = "CLIP scores of both sides appear here while they denoise."
NO_SCORES = '<p class="note">Scores appear once both sides are finished.</p>'
HEIGHTS = {1: 284, 2: 240, 3: 224, 4: 214}
"""Of the pictures by the number of prompts, in pixels, so that they and their scores fit on one screen."""
WIDE = 120
"""Of one strip."""


@dataclass(frozen=True)
class Pictures:
    """The components that show a comparison."""

    left: gr.Image
    right: gr.Image
    difference: gr.Image
    scores: gr.HTML
    slider: gr.ImageSlider
    curve: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.left, self.right, self.difference, self.scores, self.slider, self.curve]


def build() -> Pictures:
    """Lay them out inside the current gradio context."""
    with gr.Row(elem_id="pictures"):
        left = _picture("Dense", "dense")
        right = _picture("Pruned", "pruned")
        difference = _picture("Difference", "difference")
    scores = gr.HTML(NO_SCORES, elem_id="scores", apply_default_css=False)
    with gr.Row(elem_id="closer"):
        with gr.Column(scale=2, min_width=280):
            slider = gr.ImageSlider(
                label=_between("dense", "pruned"),
                format="png",
                interactive=False,
                max_height=320,
                elem_id="before-after",
            )
        with gr.Column(scale=3, min_width=300):
            curve = plot.plot(message(NOT_YET), height=320, elem_id="clip-curve")
    return Pictures(left, right, difference, scores, slider, curve)


def nothing() -> tuple:
    """Updates for `Pictures.outputs`: as on a fresh page."""
    plain = {"height": HEIGHTS[1], "elem_classes": ["picture"]}
    return (
        gr.Image(value=None, label="Dense", **plain),
        gr.Image(value=None, label="Pruned", **plain),
        gr.Image(value=None, label="Difference", **plain),
        NO_SCORES,
        gr.ImageSlider(value=None, label=_between("dense", "pruned")),
        plot.show(message(NOT_YET)),
    )


@dataclass
class Live:
    """A comparison that runs. names: of its sides; prompts: how many; clip_name: the model that scores."""

    names: tuple[str, str] = ("dense", "pruned")
    prompts: int = 1
    clip_name: str = ""
    started: bool = False
    curves: dict[str, Curve] = field(default_factory=lambda: {LEFT: (), RIGHT: ()})

    def show(self, frame: Frame) -> tuple:
        """Updates for `Pictures.outputs`; the first clears what an earlier run left."""
        first, self.started = not self.started, True
        self.curves[frame.side] = frame.curve
        look = _look(frame.images, self.prompts)
        label = _label(self.names[frame.side == RIGHT], frame)
        images = {frame.side: gr.Image(value=contact_sheet(frame.images), label=label, **look)}
        curve = clip_curve(
            self.curves[LEFT],
            self.curves[RIGHT],
            steps=frame.steps,
            model=self.clip_name,
            names=self.names,
            prompts=self.prompts,
        )
        cleared: tuple = (gr.skip(),) * 3
        if first:
            images.setdefault(RIGHT, gr.Image(value=None, label=_title(self.names[1]), **look))
            cleared = gr.Image(value=None, label="Difference", **look), NO_SCORES, gr.ImageSlider(value=None)
        return images.get(LEFT, gr.skip()), images.get(RIGHT, gr.skip()), *cleared, plot.show(curve)


def finished(done: Comparison) -> tuple:
    """Updates for `Pictures.outputs` of a finished comparison."""
    left, right = contact_sheet(done.left.images), contact_sheet(done.right.images)
    curve = clip_curve(
        done.left.curve,
        done.right.curve,
        steps=done.requests[0].steps,
        model=done.clip_name,
        names=(done.left.name, done.right.name),
        prompts=len(done.requests),
    )
    gain = f" × {done.gain}" if done.gain > 1 else ""
    look = _look(done.left.images, len(done.requests))
    return (
        gr.Image(value=left, label=_title(done.left.name), **look),
        gr.Image(value=right, label=_title(done.right.name), **look),
        gr.Image(value=contact_sheet(done.differences), label=f"Difference |left − right|{gain}", **look),
        score_table(done),
        gr.ImageSlider(value=(left, right), label=_between(done.left.name, done.right.name)),
        plot.show(curve),
    )


def score_table(done: Comparison) -> str:
    """The scores of one prompt as large figures, of several as a table with their means."""
    left, right = escape(done.left.name), escape(done.right.name)
    source = (
        f"CLIP scores by {escape(done.clip_name)}, {CLIP_UNIT}; Δ is {right} − {left}. SSIM (at "
        f"most 1) and PSNR are against {left}. Drawn in {done.left.seconds:.1f} s and {done.right.seconds:.1f} s; "
        "masked weights do not speed up a dense kernel."
    )
    if len(frames_of(done.left.images[0], done.requests[0])) > 1:
        source += " Of a clip, CLIP is the mean over its frames; SSIM and PSNR are of the whole strip."
    shown = _figures(done) if len(done.requests) == 1 else _table(done)
    return f'{shown}{_unread(done)}<p class="note">{source}</p>'


def _unread(done: Comparison) -> str:
    """A line for every prompt that the model or the CLIP does not read to its end."""
    text = ""
    for place, unread in zip(places(len(done.requests), is_wide(done.left.images)), done.unread, strict=False):
        if unread.drawn and unread.drawn == unread.scored:
            told = [_told("not drawn and not scored", "neither the model nor CLIP reads further", unread.drawn)]
        else:
            ends = (("drawn", "the model", unread.drawn), ("scored", "CLIP", unread.scored))
            told = [_told(f"not {what}", f"{reader} reads no further", words) for what, reader, words in ends if words]
        if told:
            text += f'<p class="unread">{place} {"; ".join(told)}</p>'
    return text


def _told(what: str, why: str, words: str) -> str:
    return f"<strong>{what}</strong>, because {why}: “{escape(words)}”"


def _figures(done: Comparison) -> str:
    scores = (
        ("CLIP", f"{done.left.clip:.2f}", done.left.name),
        ("CLIP", f"{done.right.clip:.2f}", done.right.name),
        ("Δ CLIP", formatting.signed(done.delta), "right − left"),
        ("SSIM", f"{done.ssim:.3f}", f"to {done.left.name}"),
        ("PSNR", _decibels(done.psnr), f"to {done.left.name}"),
    )
    cells = "".join(
        f'<div><dt>{name}</dt><dd>{value}</dd><dd class="fact-detail" title="{escape(note)}">{escape(note)}</dd></div>'
        for name, value, note in scores
    )
    return f'<dl class="scores">{cells}</dl>'


def _table(done: Comparison) -> str:
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("prompt", "CLIP left", "CLIP right", "Δ CLIP", "SSIM", "PSNR")
    )
    rows = zip(
        places(len(done.requests), is_wide(done.left.images)),
        done.requests,
        (mean_clip([score]) for score in done.left.clips),
        (mean_clip([score]) for score in done.right.clips),
        done.ssims,
        done.psnrs,
        strict=True,
    )
    body = "".join(
        _row(f"{place} {escape(request.prompt)}", left, right, ssim, psnr)
        for place, request, left, right, ssim, psnr in rows
    )
    mean = _row("mean", done.left.clip, done.right.clip, done.ssim, done.psnr)
    return f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{body}</tbody><tfoot>{mean}</tfoot></table>'


def _row(name: str, left: float, right: float, ssim: float, psnr: float | None) -> str:
    values = (f"{left:.2f}", f"{right:.2f}", formatting.signed(right - left), f"{ssim:.3f}", _decibels(psnr))
    return f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{value}</td>" for value in values) + "</tr>"


def _decibels(psnr: float | None) -> str:
    return "identical" if psnr is None else f"{psnr:.2f} dB"


def _picture(label: str, name: str) -> gr.Image:
    return gr.Image(
        label=label,
        format="png",
        image_mode=None,
        interactive=False,
        height=HEIGHTS[1],
        min_width=180,
        buttons=["download", "fullscreen"],
        elem_id=f"picture-{name}",
        elem_classes="picture",
    )


def _look(images: Sequence[Image], prompts: int) -> dict[str, Any]:
    """Height and class of the pictures: strips get a row of the page each, below each other."""
    if is_wide(images):
        return {"height": min(WIDE * prompts, 3 * WIDE) + 24, "elem_classes": ["picture", "wide"]}
    return {"height": HEIGHTS[prompts], "elem_classes": ["picture"]}


def _title(name: str) -> str:
    return name[:1].upper() + name[1:]


def _label(name: str, frame: Frame) -> str:
    return _title(name) if frame.step == frame.steps else f"{_title(name)}: step {frame.step} of {frame.steps}"


def _between(left: str, right: str) -> str:
    return f"{_title(left)} ◂ ▸ {right}"
