"""Packing models whose blocks stream, and never over what they were loaded from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from quick_prune import quickly_pruned
from tiny_families.drive import save
from tiny_families.edits import EDITS

from dit_prune_viz.errors import UserError
from dit_prune_viz.export.load_packed import load_packed
from dit_prune_viz.export.pack import pack
from dit_prune_viz.export.pipeline_files import transformers_of
from dit_prune_viz.export.pruned_state import PrunedState
from dit_prune_viz.pipelines.model import load_model


@pytest.mark.parametrize("family", ["flux", "wan2.2"])
def test_a_model_whose_blocks_stream_is_packed(family, tiny_flux, tmp_path):
    place = tiny_flux if family == "flux" else save(family, EDITS[family], tmp_path / "source")
    pruned = quickly_pruned(load_model(place, device="cpu", placement="stream"))
    packed = load_packed(pack(pruned, tmp_path / "packed"))
    for name, transformer in transformers_of(packed).items():
        expected = PrunedState(pruned, name)
        found = transformer.state_dict()
        assert found.keys() == expected.keys()
        assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    plain = load_model(place, device="cpu").pipeline
    for name, part in plain.components.items():
        if isinstance(part, torch.nn.Module) and name not in transformers_of(plain):
            found = getattr(packed, name).state_dict()
            assert [key for key, tensor in part.state_dict().items() if not torch.equal(found[key], tensor)] == []


def test_the_source_is_never_replaced(tiny_flux, tmp_path):
    source = Path(shutil.copytree(tiny_flux, tmp_path / "source"))
    pruned = quickly_pruned(load_model(source, device="cpu"))
    for target in (source, source / "transformer", tmp_path):
        with pytest.raises(UserError, match="holds files of the model that was loaded; choose another place"):
            pack(pruned, target, overwrite=True)
    assert (source / "model_index.json").is_file()
