"""The command `dit-prune-viz`, also `python -m dit_prune_viz`: the app, or one of the commands below.

Each of them is imported only when it is asked for, so that the app does not wait for the others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import MappingProxyType

from dit_prune_viz.app.process import stopping_at_once
from dit_prune_viz.errors import UserError
from dit_prune_viz.plugins import load_plugins

PROGRAM = "dit-prune-viz"
PARTS = "parts"
"""It works as the app does, on a session."""

COMMANDS = MappingProxyType(
    {
        "prune": "prune a model by a recipe, say what it costs, write the result",
        "sweep": "measure methods × sparsities × prompts × seeds",
        "grid": "draw a grid of pictures over two settings, with scores, as one PNG",
        PARTS: "take each part of a model away alone: one PNG with scores, and the numbers",
        "converge": "how much masks change with more calibration samples",
        "table": "print what a sweep measured",
        "export": "write a sweep's files",
        "list": "name methods and presets",
        "models": "name public models: size, settings, licence",
        "placement": "say where a model's parts would lie on given GPUs",
    }
)
"""The commands beside the app, each with a few words of help."""

_ALIASES = {"run": "sweep"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the app or a command; returns the exit status."""
    try:
        arguments = load_plugins(sys.argv[1:] if arguments is None else arguments)
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    if not arguments or arguments[0].startswith("-"):
        with stopping_at_once():
            from dit_prune_viz.app.serve import main as serve

            return serve(arguments, PROGRAM, tuple(COMMANDS))
    if arguments[0] not in COMMANDS and arguments[0] not in _ALIASES:
        names = ", ".join(COMMANDS)
        print(f"error: There is no command {arguments[0]!r}; use {names}, or none for the app.", file=sys.stderr)
        return 2
    if arguments[0] == PARTS:
        from dit_prune_viz.app.parts_command import main as run_parts

        return run_parts(arguments[1:], f"{PROGRAM} {PARTS}")
    from dit_prune_viz.experiments.cli import main as run_command

    return run_command(arguments, PROGRAM)
