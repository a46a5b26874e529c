"""Draw pictures with the dense or the pruned model from the same noise, streamed step by step."""
