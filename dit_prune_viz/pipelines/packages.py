"""Packages that not everybody has: named with the command that installs them, before anything is loaded."""

from __future__ import annotations

import importlib.util

from dit_prune_viz.errors import UserError


def require(package: str, what: str, command: str | None = None) -> None:
    """Refuse what needs a package that is not installed.

    Args:
        package: by the name it is imported under.
        what: that needs it, the beginning of the sentence.
        command: that installs it; None is `pip install` and the package's name.

    Raises:
        UserError: it is absent.
    """
    if not installed(package):
        raise UserError(f"{what} needs the package {package}; install it with: {command or f'pip install {package}'}.")


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
