"""The app's command line: read the arguments, then open the page."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dit_prune_viz.app.gradio_stubs import without_stubs
from dit_prune_viz.app.guard_options import (
    Logins,
    add_guard_options,
    guarded,
    has_login,
    read_allowed_models,
    read_logins,
    read_rules,
)
from dit_prune_viz.app.guard_rules import LOOPBACK, GuardRules
from dit_prune_viz.app.heartbeats import Heartbeats
from dit_prune_viz.app.mcp_option import add_mcp_option, serves_mcp
from dit_prune_viz.app.mcp_route import McpRoute
from dit_prune_viz.app.process import ending_quietly, own_temporary_folder
from dit_prune_viz.app.session.state_folder import StateFolder, add_state_option, open_state
from dit_prune_viz.app.startup_checks import check_address, check_startup
from dit_prune_viz.disk_cache import DiskCache, add_cache_option, open_cache
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.allowed_models import AllowedModels
from dit_prune_viz.pipelines.load_settings import add_load_options, read_load_settings
from dit_prune_viz.plugins import add_plugin_option, load_plugins
from dit_prune_viz.resources import BUNDLED_CLIP, BUNDLED_MODEL


def main(arguments: Sequence[str] | None = None, program: str = "app.py", commands: Collection[str] = ()) -> int:
    """Open the app and serve it until it is stopped; returns the exit status. `commands` are named in the help."""
    try:
        options = parse(load_plugins(sys.argv[1:] if arguments is None else arguments), program, commands)
        check_startup(options)
        setup = read_setup(options)
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    with ending_quietly(), own_temporary_folder():
        serve(options, setup)
    return 0


@dataclass(frozen=True)
class Setup:
    """What the options lead to, as far as no model is needed for it.

    Attributes:
        logins: of everybody who may come in; empty lets all in.
        rules: which requests are answered.
        allowed: which models may be opened; None is all.
        for_agents: whether agents get tools.
        cache: on disk; None is none.
        state: where sessions are saved; None saves none.
    """

    logins: Logins
    rules: GuardRules
    allowed: AllowedModels | None
    for_agents: bool
    cache: DiskCache | None
    state: StateFolder | None


def read_setup(options: argparse.Namespace) -> Setup:
    """Read it.

    Raises:
        UserError: an option that cannot be followed.
    """
    space = _on_space()
    return Setup(
        read_logins(options),
        read_rules(options, space=space),
        read_allowed_models(options, space=space),
        serves_mcp(options),
        open_cache(options.cache),
        open_state(options.state),
    )


def quieten_libraries() -> None:
    """Have no library report what people do here, or keep statistics of it that nobody sees."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Gradio tabulates its last 10,000 calls anew after every one, for a page that is not served here: a quarter of
    # what the app computes while somebody works.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(sys.maxsize)
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"


def serve(options: argparse.Namespace, setup: Setup) -> None:
    """Build the app and launch it. UserError if its address was taken meanwhile."""
    quieten_libraries()
    # Imports make a million objects that stay; to look through them for garbage again and again takes over a second.
    gc.disable()
    with without_stubs():
        from dit_prune_viz.app.session.lent_gpu import lent_by_space

        lend = lent_by_space()
    from dit_prune_viz.app.session import action_log
    from dit_prune_viz.app.session.health import health
    from dit_prune_viz.app.session.startup import AppSettings, start

    action_log.set_up(verbose=options.verbose, prompts=options.log_prompts)
    settings = AppSettings(
        read_load_settings(options),
        options.clip,
        setup.cache,
        allowed=setup.allowed,
        lend=lend,
        **({"out": options.out} if options.out else {}),
    )
    startup = start(settings, when_ready=_collect_garbage)  # in a thread, while gradio is imported in this one
    with without_stubs():
        from dit_prune_viz.app.server import build_app, draw_ahead
        from dit_prune_viz.app.session.workspaces import open_workspaces
        from dit_prune_viz.app.theme import launch_options

    workspaces = open_workspaces(startup.jobs.cancel, setup.state)
    app = build_app(startup, workspaces)
    threading.Thread(target=draw_ahead, args=(startup,), name="first drawing", daemon=True).start()
    sys.setswitchinterval(0.0005)  # the page stays quick while the model works in a thread beside it
    print(f"Opening http://{options.host}:{options.port}", flush=True)
    inner = [(Heartbeats, (), {"pages": workspaces})]
    if setup.for_agents:
        inner.append((McpRoute, (), {"startup": startup, "find": workspaces.newest}))
    guards = guarded(setup.rules, lambda: health(startup), inner=inner)
    try:
        app.launch(
            server_name=options.host, server_port=options.port, auth=setup.logins or None, **launch_options(), **guards
        )
    except OSError as error:  # taken since it was checked
        check_address(options.host, options.port)
        raise UserError(
            f"The page cannot be opened ({error.strerror or error}); give another --host or --port."
        ) from error


def _collect_garbage() -> None:
    gc.freeze()
    gc.enable()


def parse(
    argv: Sequence[str] | None = None, program: str = "app.py", commands: Collection[str] = ()
) -> argparse.Namespace:
    """The command line, checked. On a Hugging Face Space the proxy in front decides who may come in."""
    space = _on_space()
    parser = argparse.ArgumentParser(
        prog=program,
        description="See where a diffusion transformer is redundant, prune it, compare.",
        epilog=f"Without the app: {program} COMMAND, one of {', '.join(commands)}." if commands else None,
    )
    add = parser.add_argument
    add_load_options(parser, model=short_path(BUNDLED_MODEL))
    add("--clip", default=short_path(BUNDLED_CLIP), help="hub id or folder of a CLIP")
    add("--out", type=Path, help="folder for what is taken away (pruned, in the working folder)")
    add("--host", default="0.0.0.0" if space else "127.0.0.1", help="address to listen on")
    add("--port", type=int, default=7860)
    add_guard_options(parser)
    add_mcp_option(parser)
    add_cache_option(parser)
    add_state_option(parser)
    add_plugin_option(parser)
    arguments = parser.parse_args(argv)
    if arguments.host not in LOOPBACK and not has_login(arguments) and not space:
        parser.error(f"--host {arguments.host} is open to the network; add --auth user:password or --auth-file FILE.")
    return arguments


def _on_space() -> bool:
    return "SPACE_ID" in os.environ


def short_path(path: Path) -> str:
    """Relative to the working folder where the path lies inside it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
