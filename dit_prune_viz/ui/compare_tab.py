"""Compare: dense and pruned from the same noise, streamed while they denoise, with scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

import gradio as gr

from dit_prune_viz.figures.clip_curve import clip_curve
from dit_prune_viz.figures.style import message
from dit_prune_viz.ui import scatter
from dit_prune_viz.ui.actions import INTERNAL, Actions, Frame, idle
from dit_prune_viz.ui.comparison import Comparison, compare
from dit_prune_viz.ui.comparison import Frame as Preview
from dit_prune_viz.ui.jobs import Reporter, Result
from dit_prune_viz.ui.session import Session

SUGGESTIONS = 7
NOT_YET = "The CLIP scores of both pictures will grow here while they denoise."
NO_SCORES = '<p class="note">Scores appear when both pictures are finished.</p>'


@dataclass
class _Curves:
    """The CLIP lines of one comparison as they grow. clip_name: the model that scores."""

    clip_name: str = ""
    steps: int = 1
    sides: dict = field(default_factory=lambda: {"dense": (), "pruned": ()})

    def add(self, preview: Preview) -> None:
        self.steps, self.sides[preview.side] = preview.steps, preview.curve

    def show(self) -> str:
        return scatter.show(
            clip_curve(self.sides["dense"], self.sides["pruned"], steps=self.steps, model=self.clip_name)
        )


@dataclass(frozen=True)
class CompareTab:
    """The components that follow the model."""

    prompt: gr.Textbox
    examples: gr.Dataset
    steps: gr.Number


def build(frame: Frame, actions: Actions) -> CompareTab:
    with gr.Row(equal_height=True, elem_classes="tab-controls"):
        prompt = gr.Textbox(label="Prompt", lines=1, max_lines=3, scale=5, min_width=260, elem_id="prompt")
        seed = gr.Number(0, label="Seed", precision=0, scale=1, min_width=80)
        steps = gr.Number(20, label="Steps", precision=0, scale=1, min_width=80, elem_id="steps")
        generate = gr.Button("Generate", variant="primary", scale=1, min_width=120, elem_id="generate")
    examples = gr.Dataset(
        components=[prompt], samples=[], label="Prompts to try", type="values", samples_per_page=SUGGESTIONS
    )
    with gr.Row():
        dense = _picture("Dense", "dense")
        pruned = _picture("Pruned", "pruned")
        difference = _picture("Difference |dense − pruned|", "difference")
    scores = gr.HTML(NO_SCORES, elem_id="scores", apply_default_css=False)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            slider = gr.ImageSlider(
                label="Dense ◂ ▸ pruned", format="png", interactive=False, max_height=320, elem_id="before-after"
            )
        with gr.Column(scale=3, min_width=340):
            curve = scatter.plot(message(NOT_YET), height=320, elem_id="clip-curve")

    pictures = [dense, pruned, difference, slider, curve, scores]

    def run(session: Session, prompt: str, seed: float, steps: float, request: gr.Request) -> Iterator[tuple]:
        curves = _Curves()

        def work(session: Session, report: Reporter) -> tuple[Session, Comparison]:
            curves.clip_name = session.workspace.clip_name
            return session, compare(session, prompt, seed, steps, emit=report.emit, progress=report)

        for update in actions.watch(request, session, work):
            if isinstance(update, Preview):
                curves.add(update)
                yield (*(gr.skip() for _ in frame.outputs), *_preview(update, curves.show()))
            elif isinstance(update, Result):
                session, result = update.value
                yield (*idle(session), *_finished(result))
            else:
                yield (*update, *(gr.skip() for _ in pictures))

    gr.on(
        [generate.click, prompt.submit],
        run,
        [frame.session, prompt, seed, steps],
        [*frame.outputs, *pictures],
        **INTERNAL,
    )
    examples.click(lambda sample: sample[0], examples, prompt, **INTERNAL)
    return CompareTab(prompt, examples, steps)


def suggestions(session: Session) -> tuple[str, gr.Dataset, int]:
    """Prompt, examples and steps for the session's model."""
    if session.model is None:
        return "", gr.Dataset(samples=[]), 20
    defaults = session.model.defaults
    prompts = defaults.prompts[:: max(1, len(defaults.prompts) // SUGGESTIONS)][:SUGGESTIONS]
    return (prompts[0] if prompts else ""), gr.Dataset(samples=[[text] for text in prompts]), defaults.steps


def _picture(label: str, name: str) -> gr.Image:
    return gr.Image(
        label=label,
        format="png",
        interactive=False,
        height=280,
        min_width=180,
        buttons=["download", "fullscreen"],
        elem_id=f"picture-{name}",
        elem_classes="picture",
    )


def _preview(preview: Preview, curve: str) -> tuple:
    """Updates for the pictures while one side denoises; the first preview clears what an earlier run left."""
    first = preview.side == "dense"
    dense = preview.image if first else gr.skip()
    pruned = None if first else preview.image
    return dense, pruned, None, None, curve, NO_SCORES


def _finished(result: Comparison) -> tuple:
    sides = {"dense": result.dense.curve, "pruned": result.pruned.curve}
    return (
        result.dense.image,
        result.pruned.image,
        result.difference,
        (result.dense.image, result.pruned.image),
        _Curves(result.clip_name, result.request.steps, sides).show(),
        _score_table(result),
    )


def _score_table(result: Comparison) -> str:
    psnr = "identical" if result.psnr is None else f"{result.psnr:.2f} dB"
    scores = (
        ("CLIP dense", f"{result.dense.clip:.2f}", "100·max(cos, 0)"),
        ("CLIP pruned", f"{result.pruned.clip:.2f}", "100·max(cos, 0)"),
        ("Δ CLIP", f"{result.delta:+.2f}".replace("-", "−"), "pruned − dense"),
        ("SSIM", f"{result.ssim:.3f}", "to dense, 1 is equal"),
        ("PSNR", psnr, "to dense"),
        ("Time", f"{result.dense.seconds:.1f} s · {result.pruned.seconds:.1f} s", "dense · pruned"),
    )
    cells = "".join(
        f'<div><dt>{name}</dt><dd>{value}</dd><dd class="fact-detail">{note}</dd></div>' for name, value, note in scores
    )
    source = f"Scores by {escape(result.clip_name)}. Masked weights do not make a dense kernel faster."
    return f'<dl class="scores">{cells}</dl><p class="note">{source}</p>'
