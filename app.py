"""Open the app: `python app.py`, then visit http://127.0.0.1:7860."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from dit_prune_viz.app.server import AppSettings, build_app
from dit_prune_viz.app.theme import launch_options
from dit_prune_viz.resources import BUNDLED_CLIP, BUNDLED_MODEL

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main() -> None:
    arguments = parse()
    sys.setswitchinterval(0.0005)  # the page stays quick while the model works in a thread beside it
    app = build_app(AppSettings(arguments.model, arguments.clip, arguments.device, arguments.dtype))
    print(f"Opening http://{arguments.host}:{arguments.port}", flush=True)
    app.launch(server_name=arguments.host, server_port=arguments.port, auth=arguments.auth, **launch_options())


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line, checked. On a Hugging Face Space the proxy in front decides who may come in."""
    space = "SPACE_ID" in os.environ
    parser = argparse.ArgumentParser(description="See where a diffusion transformer is redundant, prune it, compare.")
    parser.add_argument("--model", default=short_path(BUNDLED_MODEL), help="hub id or diffusers folder")
    parser.add_argument("--clip", default=short_path(BUNDLED_CLIP), help="hub id or folder of a CLIP")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    parser.add_argument("--host", default="0.0.0.0" if space else "127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument(
        "--auth",
        type=_user_and_password,
        default=os.environ.get("DIT_PRUNE_VIZ_AUTH"),
        metavar="USER:PASSWORD",
        help="login; needed when the host is not loopback (or set DIT_PRUNE_VIZ_AUTH)",
    )
    arguments = parser.parse_args(argv)
    if arguments.host not in LOOPBACK and not arguments.auth and not space:
        parser.error(f"--host {arguments.host} is open to the network; add --auth user:password.")
    return arguments


def short_path(path: Path) -> str:
    """Relative to the working folder where the path lies inside it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _user_and_password(text: str) -> tuple[str, str]:
    user, separator, password = text.partition(":")
    if not (user and separator and password):
        raise argparse.ArgumentTypeError("use the form user:password")
    return user, password


if __name__ == "__main__":
    main()
