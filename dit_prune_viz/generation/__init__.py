"""Draw pictures with the dense or the pruned model from the same noise, streamed step by step."""

from dit_prune_viz.generation.paint import Painting, paint
from dit_prune_viz.generation.request import Request, check_request, check_together
from dit_prune_viz.generation.runner import BatchStep, Step, generate, stream, stream_batch

__all__ = [
    "BatchStep",
    "Painting",
    "Request",
    "Step",
    "check_request",
    "check_together",
    "generate",
    "paint",
    "stream",
    "stream_batch",
]
