"""`dit-prune-viz models`: public models by name, what they need and how they are drawn with."""

from __future__ import annotations

import argparse

from dit_prune_viz.pipelines.known_models import KNOWN_MODELS, KnownModel, drawing


def add_models(commands) -> list[argparse.ArgumentParser]:
    """Add the command to the parsers of a command line."""
    parser = commands.add_parser("models", help="name public models: size, settings, licence")
    parser.set_defaults(do=_models)
    return [parser]


def _models(options: argparse.Namespace) -> None:
    print("| model | hub id | transformer | memory, bfloat16 | download | settings | licence |")
    print("|---|---|---|---|---|---|---|")
    for model in KNOWN_MODELS.values():
        print(_line(model))
    notes = [f"{model.name}: {model.instead}." for model in KNOWN_MODELS.values() if model.instead]
    print("\n* " + "\n* ".join(notes))


def _line(model: KnownModel) -> str:
    download = f"{model.download:.0f} GB" if model.download else "–"
    licence = model.licence + (", gated" if model.gated else "")
    name = model.name + (" *" if model.instead else "")
    size = f"{model.transformer:.1f} B | {model.memory:.0f} GB | {download}"
    return f"| {name} | {model.hub_id} | {size} | {drawing(model)} | {licence} |"
