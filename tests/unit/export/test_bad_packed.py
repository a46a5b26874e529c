"""Packed folders that are cut short, changed or made up: one sentence that names the problem, and nothing read or made
that should not be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from dit_prune_viz.errors import UserError
from dit_prune_viz.export.load_packed import load_packed
from dit_prune_viz.export.pack import pack
from dit_prune_viz.export.sums import SUMS, write_sums
from dit_prune_viz.pruning.prune import prune

HEADER = "transformer/packed.json"
SHARD = "transformer/packed-00001.safetensors"


@pytest.fixture(scope="module")
def folder(flux, tmp_path_factory):
    """Exact values of most layers."""
    return pack(prune(flux, "magnitude", sparsity=0.6), tmp_path_factory.mktemp("packed") / "model")


@pytest.fixture(scope="module")
def rounded(flux, tmp_path_factory):
    return pack(prune(flux, "magnitude", sparsity=0.6), tmp_path_factory.mktemp("packed") / "model", values="int8")


@pytest.fixture
def copied(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def refused(folder: Path) -> str:
    """The one sentence with which a folder is refused."""
    words = loading(folder)
    assert words is not None, "it was loaded"
    return words


def loading(folder: Path) -> str | None:
    """What is said when a folder is loaded; None where it loads."""
    try:
        load_packed(folder)
    except UserError as error:
        words = str(error)
    else:
        return None
    assert "\n" not in words
    assert 20 < len(words) < 600
    return words


def flipped(path: Path, place: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_found(folder, rounded, data):
    """In any file; of a shard's head, which only says where bytes lie, the loaded weights may be the same as before."""
    source = data.draw(st.sampled_from((folder, rounded)))
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.stat().st_size)
    path = data.draw(st.sampled_from([*files, *[file for file in files if "packed" in file.name] * 3]))
    place, bit = data.draw(st.integers(0, 2**40)), data.draw(st.integers(0, 7))
    before = path.read_bytes()
    try:
        flipped(path, place, bit)
        if path.suffix == ".safetensors" and "packed-" in path.name and _in_head(before, place % len(before)):
            _loads_the_same_or_not_at_all(source, folder if source is folder else rounded, before, path)
        else:
            refused(source)
    finally:
        path.write_bytes(before)


def _in_head(shard: bytes, place: int) -> bool:
    return place < 8 + int.from_bytes(shard[:8], "little")


def _loads_the_same_or_not_at_all(source: Path, good: Path, before: bytes, path: Path) -> None:
    try:
        found = load_packed(source).transformer.state_dict()
    except UserError:
        return
    path.write_bytes(before)
    for name, value in load_packed(good).transformer.state_dict().items():
        assert torch.equal(found[name], value), name


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_short_or_gone_is_found(folder, data):
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    left = data.draw(st.integers(0, len(before) - 1))
    try:
        path.unlink()
        if data.draw(st.booleans()):
            path.write_bytes(before[:left])
        refused(folder)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("byte", [300, -40])
def test_a_changed_byte_of_a_tensor_is_named(copied, byte):
    file = copied / SHARD
    tensors = load_file(file)
    name = max(tensors, key=lambda key: tensors[key].nbytes)
    tensors[name] = tensors[name].copy()
    tensors[name][byte] ^= 1
    save_file(tensors, file)
    assert f"{name.rpartition('/')[0]} in {file} is damaged; download or pack the model again." == refused(copied)


def test_a_shard_is_named(copied):
    file = copied / SHARD
    file.write_bytes(file.read_bytes()[:-100])
    assert f"{file} is missing or damaged" in refused(copied)
    file.unlink()
    assert f"{file} is missing or damaged" in refused(copied)
    file.mkdir()
    assert f"{file} is missing or damaged" in refused(copied)


def edited(folder: Path, change) -> None:
    """The header changed by somebody who knows how to make up the digests."""
    path = folder / HEADER
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))
    write_sums(folder)


def _first(header: dict) -> dict:
    return next(iter(header["tensors"].values()))


def _masked(header: dict) -> dict:
    return next(entry for entry in header["tensors"].values() if "mask" in entry)


HUGE = 10**4000
WRONG = (None, True, -1, 1.5, float("nan"), float("inf"), HUGE, 1 << 39, "x", "../x", [], [1], {}, {"a": 1})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda header: header.update(version=3), "has version 3, but this one reads up to 2; update the app"),
        (lambda header: header.update(version="9" * 9999), "has version '999999"),
        (lambda header: header.update(format="zip"), "is not the header of a packed model"),
        (lambda header: header.update(files=["../../secret.safetensors"]), "is damaged"),
        (lambda header: header.update(files=["/etc/passwd"]), "is damaged"),
        (lambda header: header.update(files=["a\0.safetensors"]), "is damaged"),
        (lambda header: header.update(files=["gone.safetensors"]), r"gone\.safetensors is missing or damaged"),
        (lambda header: header.update(files="packed-00001.safetensors"), "is damaged"),
        (lambda header: header.update(parts=["vae"]), "is damaged"),
        (lambda header: header.update(tensors=[]), "is damaged"),
        (lambda header: _first(header).update(file=7), "is damaged at"),
        (lambda header: _first(header).update(shape=[1 << 30, 1 << 30]), "is damaged at"),
        (lambda header: _first(header).update(shape=[1] * 1000), "is damaged at"),
        (lambda header: _first(header).update(kept=-1), "is damaged at"),
        (lambda header: _first(header).update(dtype="int8"), "is damaged at"),
        (lambda header: _first(header).update(dtype=["float32"]), "is damaged at"),
        (lambda header: _first(header).update(bytes=[1]), "is damaged at"),
        (lambda header: _masked(header).update(mask={"order": "rows"}), "is damaged at"),
        (lambda header: _masked(header)["bytes"][0].update(far=1 << 39), "is damaged at"),
        (lambda header: header["tensors"].pop(next(iter(header["tensors"]))), r"does not fit its config\.json at"),
        (lambda header: header["tensors"].update(extra=_first(header)), r"does not fit its config\.json at extra"),
    ],
)
def test_a_header_that_says_what_cannot_be_is_refused(copied, change, words):
    edited(copied, change)
    with pytest.raises(UserError, match=words):
        load_packed(copied)


def _places(value: object, path: tuple = ()):
    """Every place of a nested JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_header_with_anything_in_any_place_is_refused_or_means_the_same(folder, rounded, data):
    source = data.draw(st.sampled_from((folder, rounded)))
    path, sums = source / HEADER, source / SUMS
    before, before_sums = path.read_text(), sums.read_text()
    header = json.loads(before)
    tensors = header["tensors"]
    name = data.draw(st.sampled_from(sorted(tensors)))
    places = [("tensors", name, *place) for place in _places(tensors[name])] + [("files",), ("parts",), ("precision",)]
    *way, last = data.draw(st.sampled_from(places))
    holder = header
    for key in way:
        holder = holder[key]
    holder[last] = data.draw(st.sampled_from(WRONG))
    try:
        path.write_text(_as_json(header))
        write_sums(source)
        loading(source)  # nothing else may be raised
    finally:
        path.write_text(before)
        sums.write_text(before_sums)


def _as_json(header: dict) -> str:
    """As `json.dumps`, which refuses whole numbers of more than some thousand digits."""
    return json.dumps(header, default=str) if HUGE not in _values(header) else _huge(header)


def _values(value: object) -> list:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [one for part in parts for one in _values(part)]
    return [value]


def _huge(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_huge(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_huge, value)) + "]"
    return "1" + "0" * 5000 if value is not True and value == HUGE else json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 2_000_000,
        "",
        "\0",
        '{"format": "dit-prune-viz packed", "format": "dit-prune-viz packed"}',
        '{"format": NaN}',
    ],
    ids=["deep", "very deep", "empty", "zero", "twice", "nan"],
)
def test_a_header_that_is_no_json_is_refused(copied, text):
    (copied / HEADER).write_text(text)
    assert "packed.json is not readable JSON; download or pack the model again." in refused(copied)


def test_what_is_no_packed_folder_is_refused(tmp_path, tiny_flux, copied):
    assert refused(tmp_path).endswith("has no readable model_index.json; give a folder that was packed.")
    assert "has no packed.json beside a transformer" in refused(tiny_flux)
    (copied / HEADER).unlink()
    (copied / HEADER).mkdir()
    assert "has no packed.json" in refused(copied)
    assert "has no readable model_index.json" in refused(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0" * 64 + "  ../outside.txt", "packed.sha256 is damaged"),
        ("0" * 64 + "  /etc/passwd", "packed.sha256 is damaged"),
        ("nonsense", "packed.sha256 is damaged"),
        ("0" * 64 + "  gone.json", "gone.json is missing or has changed since the model was packed"),
    ],
)
def test_a_list_of_digests_that_says_what_cannot_be_is_refused(copied, line, words):
    with (copied / SUMS).open("a") as file:
        file.write(line + "\n")
    assert words in refused(copied)


def test_the_list_of_digests_is_needed_and_every_listed_file_is_read(copied):
    scheduler = copied / "scheduler/scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("}", ' , "shift": 9.0}'))
    assert f"{scheduler} is missing or has changed since the model was packed" in refused(copied)
    (copied / SUMS).unlink()
    assert "has no packed.sha256" in refused(copied)


def test_a_file_that_is_not_listed_is_refused_unless_it_is_none_of_the_pipelines(copied):
    (copied / "README.md").write_text("a model card")
    (copied / ".gitattributes").write_text("*.safetensors filter=lfs")
    assert loading(copied) is None
    (copied / "vae/more.json").write_text("{}")
    assert f"{copied / 'vae/more.json'} is not among the digests of packed.sha256" in refused(copied)


@pytest.mark.parametrize("name", ["model.txt", SHARD, "vae/config.json", "scheduler"])
def test_no_link_leads_out_of_the_folder(copied, tmp_path, name):
    path = copied / name
    outside = tmp_path / "outside"
    if path.exists():
        path.rename(outside)
    else:
        outside.write_text("a secret")
    path.symlink_to(outside)
    assert f"{path} is a link that leads out of the folder" in refused(copied)


def test_links_in_a_circle_and_pipes_are_refused(copied):
    import os

    (copied / "round").symlink_to(copied / "round")
    assert "is a link that leads out of the folder" in refused(copied)
    (copied / "round").unlink()
    (copied / SHARD).unlink()
    os.mkfifo(copied / SHARD)
    assert "is missing or damaged" in refused(copied)


def test_the_links_of_the_hubs_cache_are_followed(folder, tmp_path):
    """There the files of a snapshot are links to a store beside it."""
    snapshot, blobs = tmp_path / "models--a--b/snapshots/123", tmp_path / "models--a--b/blobs"
    shutil.copytree(folder, snapshot)
    blobs.mkdir()
    for number, path in enumerate(sorted(path for path in snapshot.rglob("*") if path.is_file())):
        path.rename(blobs / str(number))
        path.symlink_to(blobs / str(number))
    expected = load_packed(folder).transformer.state_dict()
    for name, value in load_packed(snapshot).transformer.state_dict().items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_layers": 10**9}, "asks for 1000000000 blocks"),
        ({"num_attention_heads": 3}, "has another shape than its config.json asks for"),
        ({"num_attention_heads": 10**7}, "config.json"),
        ({"attention_head_dim": 0}, "config.json"),
        ({"num_layers": "two"}, "config.json"),
    ],
)
def test_a_configuration_that_makes_something_else_is_refused(copied, changes, words):
    path = copied / "transformer/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    write_sums(copied)
    assert words in refused(copied)


def test_an_index_that_names_another_class_is_refused(copied):
    path = copied / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "transformer": ["diffusers", "FluxPipeline"]}))
    write_sums(copied)
    assert "names 'FluxPipeline', which is no transformer" in refused(copied)


def test_more_than_the_machine_holds_is_not_begun(copied, monkeypatch):
    import psutil

    free = type(psutil.virtual_memory())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free(*[1000] * len(free._fields)))
    monkeypatch.setattr(psutil, "swap_memory", lambda: type("Swap", (), {"free": 0})())
    assert "GB of memory, but 0.0 GB are free; load it with resident=True, or close other programs." in refused(copied)


@pytest.mark.parametrize(
    ("option", "words"), [({"dtype": "floot"}, "Unknown precision"), ({"device": "moon"}, "Unknown device")]
)
def test_options_that_are_none_are_refused(folder, option, words):
    with pytest.raises(UserError, match=words):
        load_packed(folder, **option)
