"""What can be known to fail is told before a model is loaded: address, model, CLIP, device and folders."""

from __future__ import annotations

import argparse
import errno
import os
import socket
from pathlib import Path

from dit_prune_viz.checks import brief
from dit_prune_viz.disk_cache import OFF
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.device import choose_device
from dit_prune_viz.pipelines.hub import is_hub_id
from dit_prune_viz.pipelines.load_settings import split_hub_path
from dit_prune_viz.pipelines.source import local_path

_LOOPBACK = "127.0.0.1"
"""Gradio wants the port there, whatever else it listens on."""


def check_startup(options: argparse.Namespace) -> None:
    """Check the app's options, as `serve.parse` returns them; nothing is loaded, made or downloaded.

    Raises:
        UserError: the first thing that cannot work.
    """
    choose_device("cpu" if options.placement == "cpu" else options.device or "auto")
    for name in ("model", "base", "clip"):
        if getattr(options, name):
            check_model(getattr(options, name), name)
    for name in ("cache", "state"):
        chosen = getattr(options, name)
        if chosen and chosen.lower() != OFF:
            check_folder(chosen, name)
    if options.out:
        check_folder(options.out, "out")
    check_address(options.host, options.port)


def check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on at this moment.

    Raises:
        UserError: an impossible port, a name that leads nowhere, another machine's address, or a port that is busy.
    """
    if not 1 <= port <= 65535:
        raise UserError(f"A port is a number from 1 to 65535, not {port}; give another --port.")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise UserError(
            f"The address {brief(host)} cannot be looked up; give one of this machine's as --host, such as {_LOOPBACK}."
        ) from None
    places = {(family, where[0]): where for family, _, _, _, where in found}
    places.setdefault((socket.AF_INET, _LOOPBACK), (_LOOPBACK, port))
    for (family, address), where in places.items():
        try:
            _bind(family, where)
        except OSError as error:
            raise UserError(_why(error, address, port)) from None


def check_model(source: str, option: str) -> None:
    """Refuse a model that is neither a file or folder that can be read nor the name of one on the hub.

    Args:
        source: as --model takes it.
        option: that it was given with.

    Raises:
        UserError: that.
    """
    path = local_path(source)
    if path is None:
        if not is_hub_id(split_hub_path(source)[0]):
            raise UserError(
                f"There is no file or folder {brief(source)}; give one that exists, or a hub id like org/name, as "
                f"--{option}."
            )
        return
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise UserError(f"{path} cannot be read by this user; change its permissions or give another --{option}.")


def check_folder(folder: str | Path, option: str) -> None:
    """Refuse a place for files that is no folder and cannot become one.

    Args:
        folder: that will be made when it is needed.
        option: that it was given with.

    Raises:
        UserError: it is a file or lies below one, or cannot be written to.
    """
    path = Path(os.path.expanduser(folder)).absolute()
    if "\0" in str(path):
        raise UserError(f"{brief(str(folder))} is no name of a folder; give another --{option}.")
    there = next(one for one in (path, *path.parents) if os.path.lexists(one))
    if not there.is_dir():
        what = "is" if there == path else f"lies below {there}, which is"
        off = {"cache": f", or {OFF} for no cache", "state": f", or {OFF} to save nothing"}.get(option, "")
        raise UserError(f"The {option} {path} {what} a file; give a folder{off}.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"The folder {there} cannot be written to by this user; give another --{option}.")


def _bind(family: int, where: tuple) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name != "nt":  # where it means that one may take a port that is in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(where)


def _why(error: OSError, address: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {address} is in use; stop the program that listens there, or give another --port."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address} is no address of this machine; give one that is as --host, such as {_LOOPBACK}."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"Port {port} is reserved for other users; give a --port above 1023."
    return f"{address} cannot be listened on at port {port} ({error.strerror}); give another --host or --port."
