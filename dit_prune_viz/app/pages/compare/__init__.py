"""Compare: dense and pruned pictures side by side."""
