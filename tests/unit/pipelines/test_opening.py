"""The bundled model, opened in two steps, is the model that `load_model` opens."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines import opening
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pipelines.model import Model
from dit_prune_viz.pipelines.opening import OpeningModel, facts_of, open_model
from dit_prune_viz.resources import BUNDLED_FACTS, BUNDLED_MODEL

ROOT = Path(__file__).parents[3]


def test_the_facts_beside_the_model_are_true(bundled):
    facts = json.loads(BUNDLED_FACTS.read_text(encoding="utf-8"))
    assert facts == json.loads(json.dumps(facts_of(bundled, BUNDLED_MODEL)))


def test_it_is_the_same_model_before_and_after_its_pipeline_is_open(bundled):
    model = open_model(LoadSettings(str(BUNDLED_MODEL), device="cpu", dtype="float32"))
    assert isinstance(model, OpeningModel)
    for field in fields(Model):
        if field.name not in ("source", "pipeline", "placement", "number", "lock", "cache"):
            assert getattr(model, field.name) == getattr(bundled, field.name), field.name
    assert model.identity == bundled.identity
    assert model.number != bundled.number
    early = {layer.name: model.weight(layer.name) for layer in model.layers}
    assert all(torch.equal(weight, bundled.weight(name)) for name, weight in early.items())
    with pytest.raises(UserError, match="no prunable layer"):
        model.weight("nothing")
    assert model.pipeline is model.pipeline
    assert model.transformer is model.pipeline.transformer
    for name in early:
        assert model.weight(name).data_ptr() == model.transformer.get_submodule(name).weight.data_ptr()
        assert torch.equal(model.weight(name), early[name])


def test_other_settings_and_other_models_are_loaded_at_once(tiny_flux, tmp_path, monkeypatch):
    assert type(open_model(LoadSettings(str(tiny_flux), device="cpu"))) is Model
    assert type(open_model(LoadSettings(str(BUNDLED_MODEL), device="cpu", dtype="bfloat16"))) is Model
    with pytest.raises(UserError, match="no folder"):
        open_model(LoadSettings("nowhere"))
    changed = tmp_path / "changed"
    shutil.copytree(BUNDLED_MODEL, changed)
    settings = changed / "scheduler" / "scheduler_config.json"
    settings.write_text(settings.read_text() + "\n")
    monkeypatch.setattr(opening, "BUNDLED_MODEL", changed)
    assert type(open_model(LoadSettings(str(changed), device="cpu"))) is Model
    monkeypatch.setattr(opening, "BUNDLED_FACTS", tmp_path / "none.json")
    monkeypatch.setattr(opening, "BUNDLED_MODEL", BUNDLED_MODEL)
    assert type(open_model(LoadSettings(str(BUNDLED_MODEL), device="cpu"))) is Model


def test_a_model_that_changes_meanwhile_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED_MODEL, folder)
    monkeypatch.setattr(opening, "BUNDLED_MODEL", folder)
    model = open_model(LoadSettings(str(folder), device="cpu"))
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2_000_000:] = bytes(2_000_000)
    weights.write_bytes(data)
    with pytest.raises(UserError, match="has changed"):
        _ = model.pipeline


def test_the_first_page_needs_neither_diffusers_nor_transformers():
    code = (
        "import sys\n"
        "import dit_prune_viz.app.server\n"
        "from dit_prune_viz.app.session.session import Session\n"
        "from dit_prune_viz.app.session.model_store import ModelStore\n"
        "from dit_prune_viz.resources import BUNDLED_CLIP, BUNDLED_MODEL\n"
        "session = Session(ModelStore(clip=BUNDLED_CLIP, device='cpu')).load_model(str(BUNDLED_MODEL)).calibrate()\n"
        "print(session.pruned.report.achieved)\n"
        "print({'diffusers', 'transformers', 'sklearn', 'skimage', 'umap', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    achieved, heavy = done.stdout.splitlines()
    assert float(achieved) == pytest.approx(0.5, abs=1e-3)
    assert heavy == "set()"
