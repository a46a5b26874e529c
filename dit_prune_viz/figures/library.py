"""The script that draws figures in a browser."""

from __future__ import annotations

from pathlib import Path

TRACES = ("scatter", "scattergl", "bar", "contour", "heatmap")
"""The trace types that it draws."""

PLOTLY_JS = Path(__file__).parent / "plotly" / "plotly.min.js"
"""plotly.js with those alone, so that no CDN is needed: a third of the bytes of the one in the plotly package, which a
browser takes a second to read. `build.mjs` beside it makes it from the npm package of the same version."""
