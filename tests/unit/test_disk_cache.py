"""The disk cache: what comes back, what goes first, and what it must never touch."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dit_prune_viz.disk_cache import DiskCache, content_key, kept, open_cache, user_folder
from dit_prune_viz.errors import Cancelled, UserError


def keys(count: int) -> list[str]:
    return [content_key("test", number) for number in range(count)]


def test_tensors_of_every_kind_come_back_bit_for_bit(tmp_path):
    tensors = {
        "double": torch.randn(3, 4, dtype=torch.float64),
        "half": torch.randn(5).bfloat16(),
        "bool": torch.tensor([True, False]),
        "view": torch.arange(12).reshape(3, 4).T,
        "scalar": torch.tensor(float("nan")),
        "empty": torch.zeros(0, 3),
    }
    (key,) = keys(1)
    cache = DiskCache(tmp_path / "new" / "folder")
    assert cache.find(key) is None
    cache.put(key, tensors, {"name": "ä", "numbers": [0.1, 3]})
    found = cache.find(key)
    assert found.about == {"name": "ä", "numbers": [0.1, 3]}
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name].nan_to_num(), tensor.nan_to_num())
    assert load_file(cache.path(key))["view"].tolist() == tensors["view"].tolist()  # a stock safetensors file
    assert [path.name for path in cache.folder.iterdir()] == [f"{key}.safetensors"]


def test_keys_differ_in_every_part():
    parts = [(1, 2), (12,), ("1", 2), ([1, 2],), (b"1", 2), (1, 2, None), ({"a": 1}, 2)]
    found = {content_key("test", *given) for given in parts} | {content_key("other", 1, 2)}
    assert len(found) == len(parts) + 1
    assert content_key("test", {"a": 1, "b": 2}) == content_key("test", {"b": 2, "a": 1})


def test_what_was_used_longest_ago_goes_first(tmp_path):
    first, second, third, fourth = keys(4)
    value = {"x": torch.zeros(1000, dtype=torch.uint8)}
    size = _file_size(tmp_path / "probe", value)
    cache = DiskCache(tmp_path / "cache", limit=3 * size)
    for age, key in ((30, first), (20, second), (10, third)):
        cache.put(key, value)
        os.utime(cache.path(key), (time.time() - age,) * 2)
    assert cache.find(first)  # used just now
    cache.put(fourth, value)
    assert [cache.find(key) is not None for key in (first, second, third, fourth)] == [True, False, True, True]


def test_a_value_beyond_the_limit_stays_until_the_next_one(tmp_path):
    first, second = keys(2)
    cache = DiskCache(tmp_path, limit=10)
    for key, others in ((first, second), (second, first)):
        cache.put(key, {"x": torch.zeros(100)})
        assert cache.find(key)
        assert cache.find(others) is None


def test_files_of_others_are_never_removed(tmp_path):
    others = [tmp_path / "model.safetensors", tmp_path / "notes.txt", tmp_path / "deep" / f"{keys(1)[0]}.safetensors"]
    others[2].parent.mkdir()
    for path in others:
        path.write_bytes(bytes(1000))
        os.utime(path, (0, 0))
    cache = DiskCache(tmp_path, limit=1)
    for key in keys(3):
        cache.put(key, {"x": torch.zeros(10)})
    assert all(path.exists() for path in others)
    assert len(list(tmp_path.glob("test-*"))) == 1


@pytest.mark.parametrize("where", ["start", "header", "values", "end"])
def test_a_damaged_file_is_missing_and_removed(tmp_path, where):
    (key,) = keys(1)
    cache = DiskCache(tmp_path)
    cache.put(key, {"x": torch.arange(100)})
    data = bytearray(cache.path(key).read_bytes())
    if where == "end":
        data = data[:-8]
    else:
        data[{"start": 3, "header": 20, "values": -11}[where]] ^= 0xFF
    cache.path(key).write_bytes(data)
    assert cache.find(key) is None
    assert not cache.path(key).exists()
    cache.put(key, {"x": torch.arange(100)})
    assert cache.find(key)


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "folder")
    cache.put(keys(1)[0], {"x": torch.zeros(1)})
    assert cache.find(keys(1)[0]) is None


def test_threads_that_write_and_read_the_same_entry(tmp_path):
    (key,) = keys(1)
    cache, wrong = DiskCache(tmp_path), []

    def work(number: int) -> None:
        for _ in range(20):
            cache.put(key, {"x": torch.full((1000,), number)})
            found = cache.find(key)
            if found is None or found.tensors["x"].unique().numel() != 1:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_goes_after_a_day(tmp_path):
    fresh, old = tmp_path / "a.1.dit-prune-viz-part", tmp_path / "b.1.dit-prune-viz-part"
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 100_000,) * 2)
    DiskCache(tmp_path).put(keys(1)[0], {"x": torch.zeros(1)})
    assert (fresh.exists(), old.exists()) == (True, False)


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.delenv("DIT_PRUNE_VIZ_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert open_cache().folder == user_folder()
    assert open_cache("").folder == user_folder()
    assert user_folder().name == "dit_prune_viz" or user_folder().parent.name == "dit_prune_viz"
    assert open_cache(str(tmp_path / "mine")).folder == tmp_path / "mine"
    assert open_cache("off") is None
    monkeypatch.setenv("DIT_PRUNE_VIZ_CACHE", str(tmp_path / "variable"))
    assert open_cache().folder == user_folder() == tmp_path / "variable"
    assert open_cache(str(tmp_path / "mine")).folder == tmp_path / "mine"
    monkeypatch.setenv("DIT_PRUNE_VIZ_CACHE", "OFF")
    assert open_cache() is None
    assert user_folder() == Path(user_folder()).absolute()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        open_cache(str(tmp_path / "file"))


def _file_size(folder: Path, value: dict[str, torch.Tensor]) -> int:
    probe = DiskCache(folder)
    probe.put(keys(1)[0], value)
    return probe.path(keys(1)[0]).stat().st_size


@pytest.mark.parametrize(
    ("took", "limit", "writes"), [(11, None, True), (9, None, False), (11, 4000, True), (11, 3000, False)]
)
def test_only_what_took_long_and_leaves_room_is_kept(tmp_path, monkeypatch, took, limit, writes):
    cache, key, clock = DiskCache(tmp_path, limit), content_key("slow", 1), iter([0, took, 20, 20 + took])
    monkeypatch.setattr("dit_prune_viz.disk_cache.time.perf_counter", lambda: next(clock))
    made = []

    def make():
        made.append({"x": torch.arange(250, dtype=torch.float32)})
        return made[-1]

    assert kept(cache, key, make)["x"].tolist() == kept(cache, key, make)["x"].tolist() == list(range(250))
    assert len(made) == (1 if writes else 2)


def test_nothing_is_kept_of_work_that_ends_early_or_without_a_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("dit_prune_viz.disk_cache.LONG_SECONDS", -1.0)

    def stop():
        raise Cancelled

    with pytest.raises(Cancelled):
        kept(DiskCache(tmp_path), content_key("slow", 1), stop)
    assert not list(tmp_path.iterdir())
    assert kept(None, content_key("slow", 1), lambda: {"x": torch.ones(1)})["x"] == 1
