"""Models that are loaded by several threads at once: all are whole, and nothing of a load stays behind in torch."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import dit_prune_viz as dpv
from dit_prune_viz.masks.two_of_four import PlainLinear
from dit_prune_viz.pipelines import loading
from dit_prune_viz.pipelines.building import BUILDING


@pytest.fixture(scope="module")
def loaders(tiny_flux, tiny_sd3, tiny_clip, flux, tmp_path_factory):
    """Everything that builds modules, by name."""
    folder = tmp_path_factory.mktemp("building")
    dpv.pack(dpv.prune(flux, sparsity=0.5), folder / "packed")
    single = folder / "single.safetensors"
    save_file({key: value.contiguous() for key, value in flux.transformer.state_dict().items()}, single)
    return {
        "a folder": partial(dpv.load_model, tiny_flux, device="cpu"),
        "another one in bfloat16": partial(dpv.load_model, tiny_sd3, device="cpu", dtype="bfloat16"),
        "a single file": partial(dpv.load_model, single, device="cpu", base=str(tiny_flux)),
        "a packed folder": partial(dpv.load_packed, folder / "packed"),
        "a CLIP": partial(dpv.load_clip, tiny_clip),
    }


def test_one_thread_at_a_time_builds(loaders, monkeypatch):
    inside, most, guard = 0, 0, threading.Lock()
    build = nn.Module.register_parameter

    def counted(self, name, parameter):
        nonlocal inside, most
        with guard:
            inside += 1
            most = max(most, inside)
        time.sleep(0.0005)  # others get the processor
        build(self, name, parameter)
        with guard:
            inside -= 1

    monkeypatch.setattr(nn.Module, "register_parameter", counted)
    dtype = torch.get_default_dtype()
    with ThreadPoolExecutor(len(loaders)) as pool:
        models = dict(zip(loaders, pool.map(lambda load: load(), loaders.values()), strict=True))
    assert most == 1
    assert nn.Module.register_parameter is counted
    assert torch.get_default_dtype() is dtype
    assert nn.Linear(2, 2).weight.device.type == "cpu"
    for name in ("a folder", "another one in bfloat16", "a single file"):
        assert models[name].fingerprint == loaders[name]().fingerprint


def test_a_kernel_that_is_made_beside_a_load_keeps_its_weight():
    """What accelerate does to `register_parameter` while a model is built, in another thread."""
    from accelerate import init_empty_weights

    building, made = threading.Event(), []

    def load():
        with BUILDING, init_empty_weights():
            building.set()
            time.sleep(0.3)

    thread = threading.Thread(target=load)
    thread.start()
    assert building.wait(30)
    made.append(PlainLinear(torch.ones(2, 4), torch.ones(2)))
    thread.join(30)
    assert {made[0].weight.device.type, made[0].bias.device.type} == {"cpu"}


def test_a_load_that_fails_lets_others_build(tiny_flux, monkeypatch):
    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(loading, "_load", fail)
        with pytest.raises(dpv.UserError, match="does not fit into the memory of cpu"):
            dpv.load_model(tiny_flux, device="cpu")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(dpv.load_model, tiny_flux, device="cpu").result(120).name == "tiny-flux"
