"""Sessions that many tests begin with."""

from __future__ import annotations

import threading

import pytest

from dit_prune_viz.app.serve import quieten_libraries
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Session

quieten_libraries()  # the servers of these tests work as the app does


@pytest.fixture(scope="module")
def store(tiny_clip):
    return ModelStore(clip=tiny_clip, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def ready(store, tiny_flux):
    return Session(store).load_model(str(tiny_flux)).calibrate(16, 0)


@pytest.fixture(scope="module", autouse=True)
def opened_to_the_end():
    """A server that is closed still opens its model, during which tests must not make modules of their own."""
    yield
    for thread in threading.enumerate():
        if thread.name == "startup":
            thread.join(60)
