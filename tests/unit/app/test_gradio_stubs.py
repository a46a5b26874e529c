"""What gradio reads while it is imported, counted by Python's own audit events."""

import subprocess
import sys

import pytest

COUNT = """
import sys
stubs = []
sys.addaudithook(lambda event, args: event == "open" and str(args[0]).endswith(".pyi") and stubs.append(args[0]))
from dit_prune_viz.app.gradio_stubs import without_stubs
{}
import gradio
print(len(stubs), gradio.Slider(1, 5).value)
"""


@pytest.mark.parametrize(
    ("inside", "quiet"), [("with without_stubs(): import gradio", True), ("with without_stubs(): pass", False)]
)
def test_only_the_import_inside_skips_the_stubs_and_its_components_work(inside, quiet):
    run = subprocess.run([sys.executable, "-c", COUNT.format(inside)], capture_output=True, text=True, check=True)
    opened, value = run.stdout.split()
    assert (opened == "0") == quiet
    assert float(value) == 1
