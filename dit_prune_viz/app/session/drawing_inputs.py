"""What some models are given besides a prompt: a number of frames, and a picture to start from."""

from __future__ import annotations

from dit_prune_viz.pipelines.families import described, draws_classes, frames_argument
from dit_prune_viz.pipelines.input_picture import wants_picture
from dit_prune_viz.pipelines.model import Model


def takes_frames(model: Model | None) -> bool:
    """Whether the model draws clips."""
    return model is not None and frames_argument(model.pipeline) is not None


def takes_picture(model: Model | None) -> bool:
    """Whether the model starts from a picture."""
    return model is not None and wants_picture(model.pipeline)


def takes_classes(model: Model | None) -> bool:
    """Whether the model draws classes and not texts."""
    return model is not None and draws_classes(model.pipeline)


def example_prompts(model: Model, count: int) -> tuple[str, ...]:
    """At most `count` of the model's prompts, evenly spread; of classes their names, where the model lists them."""
    prompts = model.defaults.prompts
    chosen = prompts[:: max(1, len(prompts) // count)][:count] or ("",)
    return tuple(described(model.pipeline, prompt) if prompt else prompt for prompt in chosen)


def taken(model: Model, frames: int | None, picture: bytes | None) -> tuple[int, bytes | None]:
    """Of what a page holds, that which the model takes: fields that it hides may hold what an earlier model took."""
    return (frames or 1) if takes_frames(model) else 1, picture if takes_picture(model) else None
