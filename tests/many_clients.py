"""Clients of the API that each do their own things, and what they got for it."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradio_client import Client

METHODS = ("magnitude", "wanda", "dit-pruning", "ria", "cag")
PROMPTS = ("a slice of pizza", "a red car", "a sad cat", "a green tree")
HEAVY = ("generate", "parts", "calibrate")


@dataclass(frozen=True)
class Action:
    """A call of an endpoint."""

    name: str
    arguments: tuple[Any, ...]

    @property
    def light(self) -> bool:
        """Whether it never runs the model."""
        return self.name not in HEAVY


@dataclass(frozen=True)
class Done:
    """What a call gave, as a digest without times, and how long it took."""

    action: Action
    digest: str
    seconds: float


def script(seed: int, count: int, layers: Sequence[str], *, steps: int = 2) -> list[Action]:
    """The same actions for the same seed, those of another seed with another plan.

    Args:
        seed: of the client.
        count: how many actions.
        layers: names of layers of the model.
        steps: of a picture.
    """
    choose = random.Random(seed)
    clustered: list[str] = []
    actions = [Action("prune", (METHODS[seed % len(METHODS)], "auto", round(0.3 + 0.05 * (seed % 9), 2)))]
    kinds = ("generate", "cluster", "cluster", "set_cluster_sparsity", "set_cluster_sparsity", "clusters")
    kinds += ("selection", "neighbours", "set_sparsities", "group_layers", "save_recipe", "prune")
    while len(actions) < count:
        kind, layer = choose.choice(kinds), choose.choice(layers)
        sparsity = round(choose.uniform(0.1, 0.9), 3)
        if kind == "generate" or len(actions) == count // 2:
            actions.append(Action("generate", (choose.choice(PROMPTS), choose.randrange(4), steps)))
        elif kind == "cluster" or (kind in ("set_cluster_sparsity", "clusters") and not clustered):
            clustered.append(layer)
            actions.append(Action("cluster", (layer, choose.choice(("row", "column")), "kmeans", 3)))
        elif kind == "set_cluster_sparsity":
            actions.append(Action(kind, (choose.choice(clustered), choose.randrange(3), sparsity)))
        elif kind == "clusters":
            actions.append(Action(kind, (choose.choice(clustered),)))
        elif kind == "selection":
            actions.append(Action(kind, (layer, "row", "0-5, 9")))
        elif kind == "neighbours":
            actions.append(Action(kind, (layer, "row", choose.randrange(8), 4, "plane")))
        elif kind == "set_sparsities":
            actions.append(Action(kind, (f"{layer}:{round(100 * sparsity)}", choose.random() < 0.5)))
        elif kind == "group_layers":
            actions.append(Action(kind, (choose.choice(("kind", "block")), 0)))
        elif kind == "save_recipe":
            actions.append(Action(kind, ()))
        else:
            actions.append(Action("prune", (choose.choice(METHODS), "auto", sparsity)))
    return actions


def client_of(url: str, **options) -> Client:
    """A new client, which is patient with a busy machine.

    It loads no certificates: nothing here is encrypted, and gradio's client would load them for every request.
    """
    return Client(url, verbose=False, ssl_verify=False, httpx_kwargs={"timeout": 120}, **options)


def play(url: str, actions: Sequence[Action]) -> list[Done]:
    """A new client that does all the actions, one after another."""
    client = client_of(url)
    done = []
    for action in actions:
        begin = time.perf_counter()
        try:
            answer = client.predict(*action.arguments, api_name=f"/{action.name}")
        except Exception as refusal:  # a refusal is an answer too
            answer = str(refusal)
        done.append(Done(action, digest(answer), time.perf_counter() - begin))
    client.close()
    return done


def play_together(url: str, scripts: Sequence[Sequence[Action]]) -> list[list[Done]]:
    """As many clients as scripts, all at the same time."""
    return in_parallel([lambda actions=actions: play(url, actions) for actions in scripts])


def in_parallel(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of all calls, made at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def digest(answer: Any) -> str:
    """Of all pictures and figures of an answer, without times and names of files."""
    return hashlib.sha256(json.dumps(_plain(answer), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if key != "seconds"}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, str) and value.endswith(".png") and Path(value).is_file():
        return hashlib.sha256(Path(value).read_bytes()).hexdigest()
    return value
