"""What is shown of a model before it is calibrated: the map of its weights alone, which is replaced afterwards."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from dit_prune_viz.app.pages.actions import Actions, Frame
from dit_prune_viz.app.pages.controls import page as controls
from dit_prune_viz.app.pages.map import view
from dit_prune_viz.app.session import startup as startup_module
from dit_prune_viz.app.session.jobs import Jobs
from dit_prune_viz.app.session.model_store import ModelStore
from dit_prune_viz.app.session.session import Session
from dit_prune_viz.app.session.startup import Startup
from dit_prune_viz.app.widgets import layer_list
from dit_prune_viz.errors import Cancelled


@pytest.fixture
def store(tiny_clip):
    return ModelStore(clip=tiny_clip, device="cpu", dtype="float32")


@pytest.fixture
def loaded(store, tiny_flux):
    return Session(store).load_model(str(tiny_flux))


def test_weights_tell_their_scale_and_what_magnitude_pruning_costs(loaded):
    looked = loaded.look()
    for name, known in looked.layer_statistics.items():
        weight = loaded.model.weight(name).double().numpy().ravel()
        squares = np.sort(weight**2)
        assert known.weight_scale == pytest.approx(np.sqrt(squares.mean()), rel=1e-5)
        exact = squares[: len(squares) // 2].sum() / squares.sum()
        assert known.magnitude_damage == pytest.approx(exact, rel=0.05)  # of a sample where a layer is large
        assert known.activation_norm is None
    assert looked.layer_statistics.keys() == {layer.name for layer in loaded.model.layers}


def test_calibration_adds_the_inputs_and_leaves_the_rest(loaded):
    before, after = loaded.look().layer_statistics, loaded.calibrate(8, 0).layer_statistics
    for name, known in after.items():
        assert known.activation_norm > 0
        assert (known.weight_scale, known.magnitude_damage) == (
            before[name].weight_scale,
            before[name].magnitude_damage,
        )


@pytest.mark.parametrize("key", view.STATISTICS)
def test_the_map_shows_weights_alone_whatever_is_asked_for(loaded, key):
    figure = view.heat_figure(loaded.look(), key)
    assert set(figure.data[0].customdata[..., 0].ravel()) - {""} == {layer.name for layer in loaded.model.layers}
    shown = key if key in view.OF_WEIGHTS else "magnitude_damage"
    assert figure.layout.title.text.startswith(view.STATISTICS[shown].label)
    assert "not calibrated yet" in figure.layout.title.text
    assert view.dots_figure(loaded.look(), key).data


def test_before_and_after_looking(loaded):
    assert not view.heat_figure(loaded, "g_out").data
    assert "not calibrated" not in str(view.heat_figure(loaded.calibrate(8, 0), "magnitude_damage").layout.title.text)
    rows = json.loads(layer_list.show(loaded))["rows"]
    assert [row["weights"] for row in rows] == [layer.weights for layer in loaded.model.layers]
    assert {row["damage"] for row in rows} == {None}


def test_looking_can_be_cancelled(loaded):
    def stop(done, total, what):
        assert what == "Looking at the weights"
        raise Cancelled

    with pytest.raises(Cancelled):
        loaded.look(stop)
    assert loaded.look().layer_statistics


@pytest.fixture
def load(store):
    """Presses Load on a page whose visitors begin without a model; calls `each` with every update."""
    jobs = Jobs()
    startup = Startup(Session(store), "none", jobs)
    startup._done.set()
    actions = Actions(jobs, startup)
    with gr.Blocks() as page:
        controls.build(Frame(gr.State(None), gr.HTML(), gr.Button(), gr.State(None)), actions, "none")
    listener = next(fn.fn for fn in page.fns.values() if fn.name == "load_model")
    visitor = SimpleNamespace(session_hash="visitor")

    def press(source, each=lambda actions, update: None) -> tuple[Session, str]:
        for update in listener(None, str(source), 8, 0, visitor):
            each(actions, update)
        return actions.newest(visitor), update[1]

    return press


def test_a_model_that_is_loaded_is_calibrated_at_once(load, tiny_flux):
    shown = []
    session, bar = load(tiny_flux, lambda actions, update: shown.append(update[0]))
    first = next(one for one in shown if isinstance(one, Session))
    assert first.report is None  # its weights can be looked at meanwhile
    assert first.layer_statistics
    assert session.report is not None
    assert session.calibration.samples == 8
    assert "Ready" in bar


def test_calibrating_a_loaded_model_can_be_cancelled_and_the_model_stays(load, tiny_flux):
    def cancel(actions, update):
        if "Calibrating" in str(update[1]):
            actions.cancel(SimpleNamespace(session_hash="visitor"))

    calibrate = Session.calibrate

    def slow(self, samples, seed, progress):
        while True:
            progress(0, 1, "Calibrating")
            time.sleep(0.01)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "calibrate", slow)
        session, bar = load(tiny_flux, cancel)
    assert session.model is not None
    assert session.report is None
    assert "Cancelled; the model is loaded but not calibrated" in bar
    assert calibrate(session, 8, 0).report is not None


def test_a_page_that_opens_meanwhile_gets_the_early_map_and_then_the_whole(store, tiny_flux, monkeypatch):
    go_on = threading.Event()
    calibrate = Session.calibrate
    monkeypatch.setattr(Session, "calibrate", lambda self, **rest: go_on.wait(60) and calibrate(self, **rest))
    monkeypatch.setattr(startup_module, "_VISIT_SECONDS", 0)
    jobs = Jobs()
    startup = Startup(Session(store), str(tiny_flux), jobs)
    actions = Actions(jobs, startup)
    request = SimpleNamespace(session_hash="page")
    startup.start()
    sessions = []
    for session, bar, _ in actions.prepare(request):
        if isinstance(session, Session):
            sessions.append(session)
            go_on.set()
            assert "tiny-flux" in bar
    early, whole = sessions
    assert early.report is None
    assert early.layer_statistics
    assert whole.report is not None
    # Whoever asks for something with the early session works on the whole one.
    assert actions.session(early) is whole
