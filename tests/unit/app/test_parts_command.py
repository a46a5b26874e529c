"""`dit-prune-viz parts`: its files, and what it refuses."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from dit_prune_viz.command import main
from dit_prune_viz.pipelines.model import load_model


def test_a_png_and_the_numbers_are_written(tiny_flux, tiny_clip, tmp_path, capsys):
    asked = ["--prompt", "a cat", "--steps", "2", "--samples", "4", "--cache", "off", "--clip", str(tiny_clip)]
    base = ["parts", str(tiny_flux), "--device", "cpu", "--dtype", "float32", *asked]
    kinds = tmp_path / "kinds.png"
    assert main([*base, "--by", "kind", "--out", str(kinds)]) == 0
    found = json.loads(kinds.with_suffix(".json").read_text(encoding="utf-8"))
    model = load_model(tiny_flux, device="cpu", dtype="float32")
    assert {part["name"]: set(part["layers"]) for part in found["parts"]} == {
        kind: {layer.name for layer in model.layers if layer.kind == kind}
        for kind in {one.kind for one in model.layers}
    }
    assert (found["model"], found["fingerprint"], found["mode"]) == ("tiny-flux", model.fingerprint, "without")
    assert all(part["error"] > 0 and part["ssim"] < 1 for part in found["parts"])
    with Image.open(kinds) as sheet:
        assert sheet.height > 64 * (1 + len(found["parts"]))
    printed = capsys.readouterr().out
    assert printed.count("measured error") == len(found["parts"])
    assert main([*base, "--out", str(kinds)]) == 2
    assert "exists already" in capsys.readouterr().err

    groups = tmp_path / "groups.png"
    options = ["--by", "kmeans", "--groups", "2", "--keep", "--sparsity", "50", "--out", str(groups)]
    assert main([*base, *options]) == 0
    found = json.loads(groups.with_suffix(".json").read_text(encoding="utf-8"))
    assert (found["mode"], found["sparsity"], len(found["parts"])) == ("only", 0.5, 2)
    total = model.prunable_parameters
    for part in found["parts"]:
        own = sum(model.layer(name).weights for name in part["layers"])
        assert part["removed"] == pytest.approx((total - own) / 2, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "parts.jpg"], "does not end in .png"),
        (["--model", "x", "--out", "parts.png"], "given twice"),
    ],
)
def test_what_the_command_refuses_before_it_loads_a_model(arguments, words, capsys):
    assert main(["parts", "nowhere", *arguments]) == 2
    assert words in capsys.readouterr().err
