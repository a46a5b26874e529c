"""Where parts would lie, on made-up cards: sizes counted by hand, choices that must hold whatever the numbers are."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from readme import DOCS
from safetensors.torch import load_file

from dit_prune_viz.command import main
from dit_prune_viz.errors import UserError
from dit_prune_viz.pipelines.known_models import KNOWN_MODELS
from dit_prune_viz.pipelines.load_settings import LoadSettings
from dit_prune_viz.pipelines.loading import find_parts
from dit_prune_viz.pipelines.model import load_model
from dit_prune_viz.pipelines.placement import Memory, PartSize, free_memory, part_size, plan_placement, stored_sizes
from dit_prune_viz.pipelines.published_shapes import PUBLISHED, published_sizes
from dit_prune_viz.pipelines.source import find_source

GB = 10**9
FLUX = "black-forest-labs/FLUX.1-dev"
SMALL = [PartSize("text_encoder", 2 * GB), PartSize("transformer", 8 * GB, (2 * GB,) * 3), PartSize("vae", GB)]
"""11 GB; 2 GB of the transformer lie outside its blocks."""


def card(*free: float, ram: float = 64) -> Memory:
    return Memory("cuda", tuple(int(one * GB) for one in free), int(ram * GB))


@pytest.fixture(scope="module")
def flux_dev():
    return published_sizes(FLUX)


def test_published_shapes_are_as_large_as_the_published_models(flux_dev):
    for hub_id in PUBLISHED:
        known, sizes = KNOWN_MODELS[hub_id], flux_dev if hub_id == FLUX else published_sizes(hub_id)
        transformer = sum(size.nbytes for size in sizes if size.transformer) / 2e9
        encoders = sum(size.nbytes for size in sizes if size.name.startswith("text_encoder")) / 2e9
        assert transformer == pytest.approx(known.transformer, abs=0.006)
        assert encoders == pytest.approx(known.encoders, abs=0.02)
    (transformer,) = (size for size in flux_dev if size.transformer)
    # adaLN 6, attention 4 and MLP 8 of two streams, their biases, four norms of a head; and so in a single block
    dual = 2 * (2 * (18 * 3072**2 + 6 * 3072 + 4 * 3072 + 4 * 3072 + 3072) + 4 * 128)
    single = 2 * (15 * 3072**2 + 3 * 3072 + 3 * 3072 + 4 * 3072 + 3072 + 2 * 128)
    assert transformer.blocks == (dual,) * 19 + (single,) * 38


@pytest.mark.parametrize(
    ("free", "kind"),
    [((24,), "stream"), ((48,), "device"), ((80,), "device"), ((32,), "offload"), ((24, 24), "balanced")],
)
def test_flux_dev_on_cards(flux_dev, free, kind):
    placement = plan_placement(flux_dev, card(*free))
    assert placement.kind == kind
    assert placement.peak <= free[0] * GB
    assert placement.sentence.startswith("Needs 34 GB; ")
    assert placement.sentence.endswith(".")
    assert "\n" not in placement.sentence


def test_time_is_told_only_where_it_follows_from_something(flux_dev):
    fast = plan_placement(flux_dev, card(24))
    blocks = sum(sum(size.blocks) for size in flux_dev if size.transformer)
    assert fast.pinned
    assert fast.seconds == blocks / 25e9
    assert f"at least {fast.seconds:.1f} s a pass" in fast.sentence
    for slower in (plan_placement(flux_dev, card(24, ram=36)), plan_placement(flux_dev, card(24, ram=8))):
        assert slower.kind == "stream"
        assert slower.seconds is None
        assert " s a pass" not in slower.sentence
    assert slower.disk
    assert "from the disk" in slower.sentence


def test_peaks_are_those_of_a_hand_count():
    kinds = ("device", "offload", "stream")
    peaks = {kind: plan_placement(SMALL, card(80), requested=kind).peak for kind in kinds}
    work = 3 * GB
    # offload: the transformer and the autoencoder; stream: that one, two of the blocks and what lies outside of them
    assert peaks == {"device": 11 * GB + work, "offload": 9 * GB + work, "stream": (1 + 2 + 4) * GB + work}


@pytest.mark.parametrize(("free", "kind"), [(14, "device"), (13.9, "offload"), (12, "offload"), (11.9, "stream")])
def test_the_fastest_that_fits_is_chosen(free, kind):
    assert plan_placement(SMALL, card(free)).kind == kind


def test_what_rests_needs_room_in_memory():
    assert plan_placement(SMALL, card(12, ram=11)).kind == "offload"
    assert plan_placement(SMALL, card(12, ram=10)).disk
    assert plan_placement(SMALL, card(14, ram=1)).kind == "device"
    assert plan_placement(SMALL, Memory("cpu", (), 14 * GB)).kind == "cpu"
    assert plan_placement(SMALL, Memory("cpu", (), 13 * GB)).kind == "stream"


def test_first_gpu_counts_where_one_computes():
    assert plan_placement(SMALL, card(11, 80), requested="offload").sentence.count("this GPU has 11 GB free") == 1


def test_what_is_asked_for_is_taken_and_said_not_to_fit():
    placement = plan_placement(SMALL, card(5), requested="device")
    assert placement.kind == "device"
    assert "may not fit" in placement.sentence


def test_refusals_say_what_would_fit():
    with pytest.raises(UserError, match=r"needs 10 GB even .* has 5\.0 GB free; load it with --placement cpu"):
        plan_placement(SMALL, card(5))
    with pytest.raises(UserError, match=r"--dtype bfloat16, or choose a smaller model"):
        plan_placement(SMALL, card(5, ram=5))
    with pytest.raises(UserError, match="at least two GPUs"):
        plan_placement(SMALL, card(80), requested="balanced")
    with pytest.raises(UserError, match="Unknown placement 'gpu'"):
        plan_placement(SMALL, card(80), requested="gpu")


def test_numbered_blocks_are_told_apart_wherever_they_stand():
    tensors = {"blocks.0.a": 1, "blocks.0.mlp.2.b": 2, "blocks.1.a": 4, "model.layers.10.c": 8, "proj": 16}
    assert part_size("transformer", tensors) == PartSize("transformer", 31, (3, 4, 8))


def test_sizes_come_from_headers_in_the_precision_that_will_run(tiny_flux):
    parts = find_parts(find_source(LoadSettings(str(tiny_flux))))
    stored = load_file(tiny_flux / "transformer/diffusion_pytorch_model.safetensors")
    values = sum(tensor.numel() for tensor in stored.values())
    for dtype, each in ((torch.float32, 4), (torch.bfloat16, 2)):
        (transformer,) = (size for size in stored_sizes(parts, dtype) if size.transformer)
        assert transformer.nbytes == each * values
        assert len(transformer.blocks) == 4


def test_this_machine_has_memory():
    memory = free_memory(torch.device("cpu"))
    assert memory.free == ()
    assert 2**20 < memory.ram < 2**50


def test_a_placement_is_told_before_loading_only_where_it_is_worth_a_word(tiny_flux, tmp_path):
    said = []
    assert load_model(tiny_flux, device="cpu", tell=said.append).placement.kind == "cpu"
    assert said == []
    broken = shutil.copytree(tiny_flux, tmp_path / "broken")
    config = broken / "transformer/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_layers": 3}))
    with pytest.raises(UserError, match="missing"):
        load_model(broken, device="cpu", placement="stream", tell=said.append)
    assert len(said) == 1
    assert "stream in one by one from the disk" in said[0]


def test_the_page_of_the_docs_is_what_the_command_prints(capsys, flux_dev):
    assert main(["placement"]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed in (DOCS / "placement.md").read_text(encoding="utf-8")


def test_the_command_reads_a_folder_and_refuses_what_is_no_number(tiny_flux, capsys):
    assert main(["placement", "--model", str(tiny_flux), "--gpu", "1,8"]) == 0
    assert "| tiny-flux | 0.0 GB | all on the GPU: 0.1 GB |" in capsys.readouterr().out
    assert main(["placement", "--gpu", "many"]) == 2
    assert "24,48" in capsys.readouterr().err
