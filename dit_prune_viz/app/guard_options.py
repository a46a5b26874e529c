"""The options that say who may come in and what they may open."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dit_prune_viz.app.guard import Guard, Health
from dit_prune_viz.app.guard_rules import LOOPBACK, GuardRules, host_name
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.allowed_models import AllowedModels

Logins = list[tuple[str, str]]
"""(user, password) of everybody who may log in."""
_MOST_BYTES = 1 << 20
_FORM = "write user:password"


def add_guard_options(parser: argparse.ArgumentParser) -> None:
    """Add them to the app's parser."""
    add = parser.add_argument
    add(
        "--auth",
        type=_user_and_password,
        default=os.environ.get("DIT_PRUNE_VIZ_AUTH"),
        metavar="USER:PASSWORD",
        help="login; needed when the host is not loopback (or set DIT_PRUNE_VIZ_AUTH, which other users cannot read)",
    )
    add("--auth-file", type=Path, metavar="FILE", help="logins, user:password a line")
    add(
        "--public-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name under which a proxy shows the app; may be given several times",
    )
    add("--models", type=Path, metavar="ROOT", help="folder whose models may be opened in the page")
    add(
        "--allow-model",
        action="append",
        default=[],
        metavar="ORG/NAME",
        help="hub model that may be opened in the page, with * for any text; may be given several times",
    )
    add("--log-prompts", action="store_true", help="write prompts to the log")
    add("--verbose", action="store_true", help="log more")


def has_login(options: argparse.Namespace) -> bool:
    """Whether anybody has to log in."""
    return bool(options.auth or options.auth_file)


def read_logins(options: argparse.Namespace) -> Logins:
    """Everybody who may log in: by option or environment, and by file.

    Raises:
        UserError: a file that cannot be read, or a line of it that is no login.
    """
    named = [options.auth] if options.auth else []
    return named + (_from_file(options.auth_file) if options.auth_file else [])


def read_rules(options: argparse.Namespace, *, space: bool) -> GuardRules:
    """What the app lets in.

    Raises:
        UserError: a public host that is no name.
    """
    hosts = []
    for text in [*options.public_host, *filter(None, [os.environ.get("SPACE_HOST") if space else None])]:
        name = host_name(text)
        if not name or "/" in text:
            raise UserError(f"--public-host {text!r} is no host name; give it without http:// and without a path.")
        hosts.append(name)
    return GuardRules(loopback=options.host in LOOPBACK, public_hosts=tuple(hosts), space=space)


def read_allowed_models(options: argparse.Namespace, *, space: bool) -> AllowedModels | None:
    """Which models the page and the API may open; None is all of them.

    Raises:
        UserError: a root that is no folder, or a pattern that fits no hub id.
    """
    if options.host in LOOPBACK and not space and options.models is None and not options.allow_model:
        return None
    return AllowedModels.of(options.models, options.allow_model)


def guarded(rules: GuardRules, health: Health, inner: Sequence = ()) -> dict:
    """For `Blocks.launch`: the app, and whatever other middleware there is, behind its `Guard`."""
    from dit_prune_viz.app.widgets.scripts import script
    from dit_prune_viz.figures.library import PLOTLY_JS  # with Plotly, which takes a while

    rules = replace(rules, public_files=(PLOTLY_JS.as_posix(),))
    first = script("pages/session.js", "pages/hidden_status.js")
    # Starlette's own Middleware is these three.
    middleware = [(Guard, (), {"rules": rules, "health": health, "script": first}), *inner]
    return {"app_kwargs": {"middleware": middleware}, "max_file_size": rules.most_upload}


def _from_file(path: Path) -> Logins:
    """The logins in a file, with a warning where others can read it."""
    try:
        with path.expanduser().open("rb") as file:
            about, content = os.fstat(file.fileno()), file.read(_MOST_BYTES + 1)
        lines = content.decode("utf-8").splitlines()
    except (OSError, ValueError, RuntimeError):
        raise UserError(f"--auth-file {path} cannot be read; give a text file, user:password a line.") from None
    if len(content) > _MOST_BYTES:
        raise UserError(f"--auth-file {path} is far too large; give a text file, user:password a line.")
    if about.st_mode & (stat.S_IROTH | stat.S_IRGRP):
        print(f"warning: others can read {path}; run chmod 600 {path}.", file=sys.stderr)
    logins = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            logins.append(_user_and_password(line.strip()))
        except argparse.ArgumentTypeError:  # the line itself may be a password
            raise UserError(f"Line {number} of --auth-file {path} is no login; {_FORM}.") from None
    if not logins:
        raise UserError(f"--auth-file {path} holds no login; {_FORM}, one a line.")
    return logins


def _user_and_password(text: str) -> tuple[str, str]:
    user, separator, password = text.partition(":")
    if not (user and separator and password):
        raise argparse.ArgumentTypeError("use the form user:password")
    return user, password
