"""Arrays in, Plotly figures out: one file per picture, no state, no model, no page."""

from plotly.graph_objects import Figure

__all__ = ["Figure"]
