"""The CLIP that scores the pictures of a command."""

from __future__ import annotations

from dit_prune_viz.metrics.clip import ClipScorer, load_clip
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.source import local_path
from dit_prune_viz.resources import BUNDLED_CLIP, BUNDLED_CLIP_NAME, BUNDLED_MODEL

OTHER_CLIP = "openai/clip-vit-base-patch32"


def load_chosen_clip(asked: str | None, model: Model) -> ClipScorer | None:
    """The CLIP that was asked for, else the one that fits the model.

    Args:
        asked: folder or hub id; "none" for none; None takes the bundled one for the bundled model, else OpenAI's.
        model: whose pictures are scored.

    Raises:
        UserError: as in `load_clip`.
    """
    if asked == "none":
        return None
    folder = local_path(model.source)
    bundled = folder is not None and folder.resolve() == BUNDLED_MODEL
    chosen = asked or (str(BUNDLED_CLIP) if bundled else OTHER_CLIP)
    path = local_path(chosen)
    name = BUNDLED_CLIP_NAME if path is not None and path.resolve() == BUNDLED_CLIP else None
    return load_clip(chosen, name=name, device=model.device)
