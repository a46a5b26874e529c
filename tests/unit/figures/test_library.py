"""The script that draws figures has what the figures consist of, in the version that makes them."""

from __future__ import annotations

import re
from pathlib import Path

import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType
from plotly.offline import get_plotlyjs_version

import dit_prune_viz
from dit_prune_viz.figures.library import PLOTLY_JS, TRACES


def test_it_has_the_version_of_the_plotly_package():
    assert PLOTLY_JS.read_text(encoding="utf-8").startswith(f"/**\n* plotly.js v{get_plotlyjs_version()} ")


def test_it_draws_the_trace_types_that_it_names():
    found = re.findall(r'moduleType:"trace",name:"(\w+)"', PLOTLY_JS.read_text(encoding="utf-8"))
    assert sorted(found) == sorted(TRACES)


def test_no_figure_has_another_trace_type():
    known = [getattr(go, name) for name in dir(go)]
    types = {one.__name__.lower() for one in known if isinstance(one, type) and issubclass(one, BaseTraceType)}
    code = "\n".join(path.read_text(encoding="utf-8") for path in Path(dit_prune_viz.__file__).parent.rglob("*.py"))
    made = set(re.findall(r"\bgo\.(\w+)\(", code)) | set(re.findall(r"\.add_(\w+)\(", code))
    used = {name.lower() for name in made} & types
    assert {"scatter", "heatmap"} <= used <= set(TRACES)
