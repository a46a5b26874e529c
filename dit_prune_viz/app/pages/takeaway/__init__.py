"""Trade-off: what sparsity costs, method against method."""
