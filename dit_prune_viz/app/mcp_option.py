"""The option that opens the app to agents; nothing of MCP is imported before its use."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from dit_prune_viz.app.guard_rules import LOOPBACK
from dit_prune_viz.app.mcp_route import PATH
from dit_prune_viz.errors import UserError

ON, OFF = "on", "off"


def add_mcp_option(parser: argparse.ArgumentParser) -> None:
    """Add it to the app's parser."""
    parser.add_argument(
        "--mcp",
        choices=(ON, OFF),
        help=f"tools for agents at {PATH} (on at a loopback address where the package mcp is installed, else off)",
    )


def serves_mcp(options: argparse.Namespace) -> bool:
    """Whether the app offers its tools to agents.

    Raises:
        UserError: it was asked to, and the package is missing.
    """
    there = find_spec("mcp") is not None
    if options.mcp == ON and not there:
        raise UserError("--mcp on needs the package mcp; run pip install 'mcp>=2.3', or leave the option out.")
    return there and (options.mcp == ON or (options.mcp is None and options.host in LOOPBACK))
