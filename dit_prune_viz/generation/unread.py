"""Words of prompts that a model does not draw, or a CLIP does not score, because they read no further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dit_prune_viz.metrics.clip import ClipScorer
from dit_prune_viz.pipelines.families import described
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.unread_words import words_not_drawn


@dataclass(frozen=True)
class Unread:
    """The end of a prompt that no text encoder of the model reads, and the end that the CLIP does not; "" for none."""

    drawn: str = ""
    scored: str = ""

    @property
    def named(self) -> dict[str, str]:
        """What there is of it, as answers and tables call it: `not_drawn`, `not_scored`."""
        return {name: words for name, words in (("not_drawn", self.drawn), ("not_scored", self.scored)) if words}


def find_unread(model: Model, prompts: Sequence[str], clip: ClipScorer | None) -> tuple[Unread, ...]:
    """What is cut off each prompt; the model's lock is held meanwhile.

    Args:
        model: what draws.
        prompts: texts that it may be asked for.
        clip: what scores, None for nothing.
    """
    with model.lock.hold():
        return tuple(
            Unread(
                words_not_drawn(model, prompt),
                clip.words_not_scored(described(model.pipeline, prompt)) if clip else "",
            )
            for prompt in prompts
        )
