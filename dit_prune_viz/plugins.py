"""Files of a person's own, run before anything else: `--plugin FILE.py` on every command."""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from dit_prune_viz.errors import UserError

HELP = "Python file of your own to run first, for example one that registers a method; may be given several times"


def add_plugin_option(parser: argparse.ArgumentParser) -> None:
    """Let a parser's help mention --plugin. `load_plugins` has taken the option out before any parser sees it."""
    parser.add_argument("--plugin", action="append", metavar="FILE.py", help=HELP)


def load_plugins(arguments: Sequence[str]) -> list[str]:
    """Run the files of every --plugin among command-line arguments, in their order.

    Returns:
        The other arguments.

    Raises:
        UserError: a file is missing or fails; the message names it.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_plugin_option(parser)
    found, others = parser.parse_known_args(list(arguments))
    for path in found.plugin or ():
        load_plugin(path)
    return others


def load_plugin(path: str | Path) -> None:
    """Run one Python file as a module of its own. It is trusted: it may do whatever the person could do.

    Raises:
        UserError: the file is missing or fails; the message names it.
    """
    path = Path(path).expanduser()
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"The plugin {path} is not a Python file; give the path of a .py file.")
    name = "dit_prune_viz_plugin_" + re.sub(r"\W", "_", str(path.resolve().with_suffix("")))
    if name in sys.modules:  # given twice
        return
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        reason = (str(error).strip() or "no reason given").splitlines()[0][:200]
        raise UserError(f"The plugin {path} failed with {type(error).__name__}: {reason}") from error
