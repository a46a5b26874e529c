"""The CLIP that scores the pictures of a command."""

from __future__ import annotations

from dit_prune_viz.metrics.clip import ClipScorer, load_clip
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.source import local_path
from dit_prune_viz.resources import BUNDLED_CLIP, BUNDLED_CLIP_NAME, BUNDLED_MODEL

OTHER_CLIP = "openai/clip-vit-base-patch32"


def choose_clip(asked: str | None, model: str) -> tuple[str, str | None]:
    """Folder or hub id of a CLIP, and the name under which it is known; None for its own.

    Args:
        asked: as in `load_chosen_clip`, but not "none".
        model: folder, file or hub id of the model whose pictures are scored.
    """
    folder = local_path(model)
    bundled = folder is not None and folder.resolve() == BUNDLED_MODEL
    chosen = asked or (str(BUNDLED_CLIP) if bundled else OTHER_CLIP)
    path = local_path(chosen)
    return chosen, BUNDLED_CLIP_NAME if path is not None and path.resolve() == BUNDLED_CLIP else None


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
    chosen, name = choose_clip(asked, model.source)
    return load_clip(chosen, name=name, device=model.device)
