"""Arrays in, Plotly figures out: one file per picture, no state, no model, no page."""
