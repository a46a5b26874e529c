"""Draw pictures with the dense or the pruned model from the same noise, streamed step by step."""

from dit_prune_viz.generation.request import Request, check_request
from dit_prune_viz.generation.runner import Step, generate, stream

__all__ = ["Request", "Step", "check_request", "generate", "stream"]
