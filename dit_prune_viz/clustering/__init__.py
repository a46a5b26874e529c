"""Clusters of a layer's rows, columns or single weights, and the planes in which they are found and drawn."""
