"""What the Compare page shows of a comparison: while it runs, when it is finished, and before there is any."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr
from PIL.Image import Image

from dit_prune_viz.app import formatting
from dit_prune_viz.app.session.comparison_result import LEFT, MIDDLE, RIGHT, Comparison, Curve, Draft, Frame, Side
from dit_prune_viz.app.session.contact_sheet import contact_sheet, is_wide, places
from dit_prune_viz.app.session.runs import Reference
from dit_prune_viz.app.widgets import picture_view, plot
from dit_prune_viz.figures.clip_curve import clip_curve
from dit_prune_viz.figures.style import message
from dit_prune_viz.generation.frames import frames_of
from dit_prune_viz.metrics.clip_mean import CLIP_UNIT, NO_CLIP, mean_clip
from dit_prune_viz.metrics.destroyed import told

NOT_YET = "CLIP scores of all sides appear here while they denoise."
NO_SCORES = '<p class="note">Scores appear once all sides are finished.</p>'
DRAFT_SCORES = '<p class="note">B is a draft; its scores come with the full pictures.</p>'
NO_A = "A: none yet"
HEIGHT = 200
"""Of a picture, in pixels; the style sheet makes the most of the room there is."""


@dataclass(frozen=True)
class Pictures:
    """The components that show a comparison: dense, A and B, and what B differs in from the dense pictures."""

    left: gr.Image
    a: gr.Image
    right: gr.Image
    difference: gr.Image
    scores: gr.HTML
    curve: gr.HTML
    controls: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.left, self.a, self.right, self.difference, self.scores, self.curve]


def build() -> Pictures:
    """Lay the pictures and their scores out inside the current gradio context; the curve is placed by its caller."""
    with gr.Row(elem_id="pictures"):
        left = _picture("Dense", "dense")
        a = _picture(NO_A, "a")
        right = _picture("B: pruned", "pruned")
        difference = _picture("Difference", "difference")
    controls = picture_view.controls()
    scores = gr.HTML(NO_SCORES, elem_id="scores", apply_default_css=False)
    curve = plot.plot(NOT_YET, height=300, elem_id="clip-curve", render=False)
    return Pictures(left, a, right, difference, scores, curve, controls)


def nothing() -> tuple:
    """Updates for `Pictures.outputs`: as on a fresh page."""
    plain = {"elem_classes": ["picture"]}
    return (
        gr.Image(value=None, label="Dense", **plain),
        gr.Image(value=None, label=NO_A, **plain),
        gr.Image(value=None, label="B: pruned", **plain),
        gr.Image(value=None, label="Difference", **plain),
        NO_SCORES,
        plot.show(message(NOT_YET)),
    )


@dataclass
class Live:
    """A comparison that runs.

    names: side → name. prompts: how many; clip_name: the model that scores. draft: of B, which stays until its full
    pictures are there; it is sent with every update, since the browser may leave out all but the last of several.
    """

    names: dict[str, str] = field(default_factory=lambda: {LEFT: "dense", RIGHT: "pruned"})
    prompts: int = 1
    clip_name: str = ""
    draft: gr.Image | None = None
    started: bool = False
    curves: dict[str, Curve] = field(default_factory=dict)

    def show(self, frame: Frame) -> tuple:
        """Updates for `Pictures.outputs`; the first clears what an earlier run left."""
        first, self.started = not self.started, True
        self.curves[frame.side] = frame.curve
        look = _look(frame.images)
        images: dict[str, Any] = {}
        if self.draft is not None and not (frame.side == RIGHT and frame.step == frame.steps):
            images[RIGHT] = self.draft
        if frame.side not in images:
            label = _label(frame.side, self.names[frame.side], frame)
            images[frame.side] = gr.Image(value=contact_sheet(frame.images), label=label, **look)
        curve = clip_curve(
            {_waiting(side, self.names): points for side, points in self.curves.items()},
            steps=frame.steps,
            model=self.clip_name,
            prompts=self.prompts,
        )
        cleared: tuple = (gr.skip(),) * 2
        if first and self.draft is None:
            for side in (MIDDLE, RIGHT):
                images.setdefault(side, gr.Image(value=None, label=_waiting(side, self.names), **look))
            cleared = gr.Image(value=None, label="Difference", **look), NO_SCORES
        sides = (images.get(side, gr.skip()) for side in (LEFT, MIDDLE, RIGHT))
        return *sides, *cleared, plot.show(curve)

    def show_draft(self, draft: Draft) -> tuple:
        """Updates for `Pictures.outputs`: B in few steps."""
        self.started = True
        label = f"B, draft: {draft.steps} steps, full picture follows"
        self.draft = gr.Image(value=contact_sheet(draft.images), label=label, **_look(draft.images))
        return gr.skip(), gr.skip(), self.draft, gr.skip(), DRAFT_SCORES, gr.skip()


def finished(done: Comparison, a: Reference | None = None) -> tuple:
    """Updates for `Pictures.outputs` of a finished comparison; `a` is the page's A, drawn or not."""
    names = {LEFT: "dense", MIDDLE: done.a.side.name if done.a else "", RIGHT: done.right.name}
    curves = {LEFT: done.dense.curve, **({MIDDLE: done.a.side.curve} if done.a else {}), RIGHT: done.right.curve}
    curve = clip_curve(
        {_waiting(side, names): points for side, points in curves.items()},
        steps=done.requests[0].steps,
        model=done.clip_name,
        prompts=len(done.requests),
    )
    look = _look(done.dense.images)
    middle = contact_sheet(done.a.side.images) if done.a else None
    named = done.a.side.name if done.a else f"{a.name}, not drawn with these prompts yet" if a else ""
    return (
        gr.Image(value=contact_sheet(done.dense.images), label="Dense", **look),
        gr.Image(value=middle, label=f"A: {named}" if named else NO_A, **look),
        gr.Image(value=contact_sheet(done.right.images), label=f"B: {done.right.name}", **look),
        gr.Image(value=contact_sheet(done.differences), label=difference_label(done.gain), **look),
        score_table(done),
        plot.show(curve),
    )


def difference_label(gain: int) -> str:
    """What the picture of differences is called."""
    return f"|dense − B|{f' × {gain}' if gain > 1 else ''}"


def score_table(done: Comparison) -> str:
    """The scores of every prompt and over all, of B and, where there is one, of A; all against the dense pictures."""
    b = escape(done.right.name)
    drawn = ", ".join(f"{side.seconds:.1f} s" for side in _sides(done))
    source = (
        f"CLIP scores by {escape(done.clip_name)}, {CLIP_UNIT}; Δ is to dense. SSIM (at most 1) and PSNR are against "
        f"dense. B is {b}{f', A is {escape(done.a.side.name)}' if done.a else ''}. Drawn in {drawn}; masked weights do "
        "not speed up a dense kernel. The mean PSNR is that of all pixels together."
    )
    if len(frames_of(done.dense.images[0], done.requests[0])) > 1:
        source += " Of a clip, CLIP is the mean over its frames; SSIM and PSNR are of the whole strip."
    if all(map(math.isnan, done.dense.clips)):
        source = f"{NO_CLIP} {source}"
    held = f'{_table(done)}{_unread(done)}<p class="note">{source}</p>'
    return f'<div class="scores-held" tabindex="0" role="region" aria-label="Scores">{held}</div>'


_COLUMNS = (("Δ CLIP", ""), ("SSIM", ""), ("PSNR", ", dB"))


def _sides(done: Comparison) -> list[Side]:
    return [done.dense, *([done.a.side] if done.a else []), done.right]


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


def _table(done: Comparison) -> str:
    """A line per prompt and one for all of them, which is the only one of a single prompt."""
    scored = [*([("A", done.a)] if done.a else []), ("B", done.b)]
    heads = ["prompt", "CLIP dense"]
    heads += [f"{what} {name}{unit}" for what, unit in _COLUMNS for name, _ in scored]
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    signs = places(len(done.requests), is_wide(done.dense.images))
    rows = []
    for i, (sign, request) in enumerate(zip(signs, done.requests, strict=True)):
        dense = mean_clip([done.dense.clips[i]])
        values = [_ruined(done.dense.destroyed[i]) or formatting.score(dense)]
        for _, one in scored:
            values.append(_ruined(one.side.destroyed[i]) or formatting.signed(mean_clip([one.side.clips[i]]) - dense))
        values += [_marked([one.ssims[i] for _, one in scored], place, ".3f") for place in range(len(scored))]
        values += [_decibels(one.psnrs[i]) for _, one in scored]
        rows.append(_row(f"{sign} {escape(request.prompt)}", values))
    mean = [_strong(done.dense.told) or formatting.score(done.dense.clip)]
    mean += [_strong(one.side.told) or formatting.signed(one.side.clip - done.dense.clip) for _, one in scored]
    mean += [_marked([one.ssim for _, one in scored], place, ".3f") for place in range(len(scored))]
    mean += [_decibels(one.psnr) for _, one in scored]
    body = "".join(rows) if len(rows) > 1 else ""
    name = "mean" if body else escape(done.requests[0].prompt)
    foot = f"<tfoot>{_row(name, mean)}</tfoot>"
    return f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{body}</tbody>{foot}</table>'


def _ruined(what: str) -> str:
    """In place of a picture's CLIP score: what has become of the picture, "" for one that is left."""
    return _strong(told(what))


def _strong(words: str) -> str:
    return f'<strong class="destroyed">{escape(words)}</strong>' if words else ""


def _marked(values: list[float], place: int, digits: str) -> str:
    """A figure, in bold if it is the best of several."""
    text = f"{values[place]:{digits}}"
    best = len(values) > 1 and values[place] == max(values) and min(values) < max(values)
    return f"<b>{text}</b>" if best else text


def _row(name: str, values: list[str]) -> str:
    return f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{value}</td>" for value in values) + "</tr>"


def _decibels(psnr: float | None) -> str:
    return "identical" if psnr is None else f"{psnr:.2f}"


def _picture(label: str, name: str) -> gr.Image:
    return gr.Image(
        label=label,
        format="png",
        image_mode=None,
        interactive=False,
        height=HEIGHT,
        min_width=110,
        buttons=["download", "fullscreen"],
        elem_id=f"picture-{name}",
        elem_classes="picture",
    )


def _look(images: Sequence[Image]) -> dict[str, Any]:
    """The class of the pictures: strips get a row of the page each, below each other."""
    return {"elem_classes": ["picture", "wide"] if is_wide(images) else ["picture"]}


def _label(side: str, name: str, frame: Frame) -> str:
    named = _waiting(side, {side: name})
    return named if frame.step == frame.steps else f"{named}: step {frame.step} of {frame.steps}"


def _waiting(side: str, names: Mapping[str, str]) -> str:
    if side not in names:
        return NO_A
    return {LEFT: "Dense", MIDDLE: f"A: {names[side]}", RIGHT: f"B: {names[side]}"}[side]
