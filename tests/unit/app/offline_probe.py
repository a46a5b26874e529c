"""Run by test_offline.py in a process of its own: the whole app with every way out of this machine watched.

Prints one line of JSON: the addresses that were asked for beyond loopback, and what the app answered.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import sys
import urllib.request
from pathlib import Path

attempts: list[str] = []


def _is_loopback(host: object) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _check(host: object) -> None:
    if not _is_loopback(host):
        attempts.append(str(host))
        raise OSError(f"The test forbids a connection to {host}.")


def _guard() -> None:
    connect, connect_ex, lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded(original):
        def call(self, address):
            if self.family != socket.AF_UNIX:
                _check(address[0])
            return original(self, address)

        return call

    def guarded_lookup(host, *rest, **named):
        _check(host)
        return lookup(host, *rest, **named)

    socket.socket.connect, socket.socket.connect_ex = guarded(connect), guarded(connect_ex)
    socket.getaddrinfo = guarded_lookup


def main() -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    _guard()
    root = Path(__file__).resolve().parents[3]
    sys.path.insert(0, str(root))
    from gradio_client import Client

    from dit_prune_viz.app.server import build_app
    from dit_prune_viz.app.session.startup import AppSettings, start
    from dit_prune_viz.app.theme import launch_options
    from dit_prune_viz.pipelines.load_settings import LoadSettings
    from dit_prune_viz.resources import BUNDLED_CLIP, BUNDLED_MODEL

    app = build_app(start(AppSettings(LoadSettings(str(BUNDLED_MODEL)), str(BUNDLED_CLIP))))
    _, address, _ = app.launch(server_name="127.0.0.1", prevent_thread_lock=True, **launch_options())
    client = Client(address, verbose=False)
    calibration = client.predict(8, 1, api_name="/calibrate")
    plan = client.predict("wanda", "auto", 0.3, api_name="/prune")
    _, _, scores = client.predict("cat", 0, 2, api_name="/generate")
    with urllib.request.urlopen(address) as page:
        html = page.read().decode()
    fetched = re.findall(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["'](https?://[^"']+)""", html)
    config = re.search(r"window\.gradio_config = (.*?);</script>", html).group(1)
    result = {
        "attempts": attempts,
        "samples": calibration["samples"],
        "achieved": plan["achieved"],
        "clip": scores["clip"],
        "fetched": fetched,
        "stylesheets": json.loads(config).get("stylesheets", []),
        "plotly": "plotly.min.js" in config,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # daemon threads of the server need no farewell
