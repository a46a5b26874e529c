"""The script that draws figures in a browser."""

from __future__ import annotations

from pathlib import Path

import plotly

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
"""It comes with the plotly package, so that no CDN is needed."""
