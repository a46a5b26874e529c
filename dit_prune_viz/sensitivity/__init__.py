"""Measured sensitivity: what pruning one layer alone does to the transformer's output."""
