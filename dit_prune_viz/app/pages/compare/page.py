"""Compare: one to four prompts drawn by two pruned or dense models from the same noise, streamed, with scores.

The left side is the dense model or a run that was pinned, the right one the session's masks, or those of one cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from dit_prune_viz.app.pages.actions import INTERNAL, Actions, Frame
from dit_prune_viz.app.pages.compare import input_picture, xy_grid
from dit_prune_viz.app.pages.compare.layout import CLASSES, NUMBERS, PROMPTS, SUGGESTIONS, lay_out
from dit_prune_viz.app.pages.compare.listeners import CompareListeners, offer_clusters, offer_layers
from dit_prune_viz.app.session.comparison import MAX_PROMPTS
from dit_prune_viz.app.session.drawing_inputs import example_prompts, takes_classes, takes_frames, takes_picture
from dit_prune_viz.app.session.runs import Runs
from dit_prune_viz.app.session.session import Session


@dataclass(frozen=True)
class CompareTab:
    """The components that follow the model and the layer that is open, and the page's earlier comparisons."""

    runs: gr.State
    prompt: gr.Textbox
    examples: gr.Dataset
    steps: gr.Number
    frames: gr.Number
    picture: gr.Row
    layer: gr.Dropdown
    cluster: gr.Dropdown


def build(frame: Frame, actions: Actions) -> CompareTab:
    """Lay out the tab and wire it."""
    runs = gr.State(Runs())  # never an output: it changes in place
    layout = lay_out()
    xy_grid.build(frame, actions, layout.request)
    listeners = CompareListeners(frame, actions, layout)
    asked, strip, cluster = layout.request, layout.strip, layout.cluster
    drawn = [*frame.outputs, *layout.outputs]
    gr.on(
        [asked.generate.click, asked.prompt.submit],
        listeners.generate,
        [frame.session, runs, *asked.inputs],
        drawn,
        **INTERNAL,
    )
    chosen = [cluster.layer, cluster.cluster, cluster.mode]
    cluster.show.click(listeners.paint_cluster, [frame.session, runs, *chosen, *asked.inputs], drawn, **INTERNAL)
    strip.submit(
        listeners.restore, [frame.session, runs], [*drawn, *asked.restored], trigger_mode="multiple", **INTERNAL
    )
    strip.select(listeners.pin, runs, layout.outputs, trigger_mode="multiple", **INTERNAL)
    frame.session.change(listeners.follow_model, [frame.session, runs], layout.outputs, **INTERNAL)
    asked.examples.click(lambda sample: sample[0], asked.examples, asked.prompt, **INTERNAL)
    asked.four.click(_four, frame.session, asked.prompt, **INTERNAL)
    picture = asked.picture
    picture.upload.upload(input_picture.upload, picture.upload, picture.outputs, **INTERNAL)
    picture.bundled.click(lambda: input_picture.show(None), None, picture.outputs, **INTERNAL)
    cluster.layer.input(offer_clusters, [frame.session, cluster.layer], cluster.cluster, **INTERNAL)
    return CompareTab(
        runs, asked.prompt, asked.examples, asked.steps, asked.frames, picture.row, cluster.layer, cluster.cluster
    )


def follow_layer(frame: Frame, tab: CompareTab, open_layer: gr.Dropdown, page: gr.Tab) -> None:
    """Offer the clusters there are, those of the layer that is open first."""
    offered = gr.State(None)
    gr.on(
        [frame.session.change, page.select],
        offer_layers,
        [frame.session, open_layer, offered],
        [offered, tab.layer, tab.cluster],
        **INTERNAL,
    )


def suggestions(session: Session) -> tuple:
    """Prompt, examples and steps for the session's model, and whether it takes frames and a picture."""
    takes = gr.Number(visible=takes_frames(session.model)), gr.Row(visible=takes_picture(session.model))
    if session.model is None:
        return "", gr.Dataset(samples=[]), 20, *takes
    prompts = example_prompts(session.model, SUGGESTIONS)
    label = PROMPTS
    if takes_classes(session.model):
        label = NUMBERS if prompts[0].isdecimal() else CLASSES
    return (
        gr.Textbox(value=prompts[0], label=label),
        gr.Dataset(samples=[[text] for text in prompts]),
        session.model.defaults.steps,
        *takes,
    )


def _four(session: Session | None) -> str:
    return "\n".join(example_prompts(session.model, SUGGESTIONS)[:MAX_PROMPTS]) if session and session.model else ""
