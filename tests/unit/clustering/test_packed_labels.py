"""Labels as text: the same numbers back, and nothing unpacked that does not fit."""

from __future__ import annotations

import base64
import hashlib
import json
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit_prune_viz.clustering.packed_labels import PackedLabels, pack_labels
from dit_prune_viz.errors import UserError

LABELS = st.integers(1, 70_000).flatmap(
    lambda k: st.tuples(st.just(k), st.lists(st.integers(0, k - 1), min_size=1, max_size=50))
)


@given(LABELS)
def test_labels_come_back_from_their_text(drawn):
    k, numbers = drawn
    packed = pack_labels(np.array(numbers), k)
    again = PackedLabels.from_dict(json.loads(json.dumps(packed.to_dict())))
    assert again == packed
    assert hash(again) == hash(packed)
    assert again.unpack(len(numbers)).tolist() == numbers
    assert again.size == len(numbers) * (1 if k <= 256 else 2 if k <= 65_536 else 4)


def test_labels_are_what_the_page_about_recipes_says():
    numbers = [3, 0, 1, 1]
    about = pack_labels(np.array(numbers), 4).to_dict()
    raw = zlib.decompress(base64.b64decode(about["zlib"]))
    assert raw == bytes(numbers)
    assert about["sha256"] == hashlib.sha256(raw).hexdigest()
    wide = pack_labels(np.array([300, 2]), 301).to_dict()
    assert zlib.decompress(base64.b64decode(wide["zlib"])) == b"\x2c\x01\x02\x00"


def test_other_labels_are_other_values():
    packed = pack_labels(np.array([0, 1, 1]), 2)
    assert packed == pack_labels(np.array([0, 1, 1], dtype=np.int16), 2)
    assert packed != pack_labels(np.array([0, 1, 0]), 2)
    assert packed != pack_labels(np.array([0, 1, 1]), 3)


def entry(data: bytes, units: int, k: int = 2, digest: str = "0" * 64) -> PackedLabels:
    text = base64.b64encode(data).decode()
    return PackedLabels.from_dict({"units": units, "k": k, "sha256": digest, "zlib": text})


def test_a_bomb_takes_no_more_memory_than_the_labels_that_there_should_be():
    bomb = zlib.compress(bytes(200_000_000), 9)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="do not fit a layer"):
            PackedLabels(200_000_000, 2, bomb, "0" * 64).unpack(1000)
        with pytest.raises(UserError, match="damaged"):
            PackedLabels(1000, 2, bomb, "0" * 64).unpack(1000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(UserError, match="fitting length"):
        entry(bomb, 1000)


def test_what_is_damaged_is_refused():
    raw = bytes([0, 1, 1, 0])
    good, digest = zlib.compress(raw), hashlib.sha256(raw).hexdigest()
    assert entry(good, 4, digest=digest).unpack(4).tolist() == [0, 1, 1, 0]
    flipped = good[:5] + bytes([good[5] ^ 1]) + good[6:]
    more = zlib.compress(raw + b"\0")
    for data, units in ((good[:-1], 4), (good + b"x", 4), (flipped, 4), (more, 4), (good, 5), (b"", 4), (b"junk", 4)):
        with pytest.raises(UserError, match="damaged"):
            entry(data, units, digest=digest).unpack(units)
    with pytest.raises(UserError, match="damaged"):
        entry(good, 4).unpack(4)
    with pytest.raises(UserError, match="from 0 to 0"):
        entry(good, 4, k=1, digest=digest).unpack(4)


@pytest.mark.parametrize(
    "change",
    [
        {"units": -1},
        {"units": "4"},
        {"units": 2**40},
        {"k": 0},
        {"sha256": "f" * 63},
        {"sha256": None},
        {"zlib": "not base64!"},
        {"zlib": 3},
        {"zlib": "é"},
        {"more": 1},
        {"k": None},
    ],
)
def test_another_form_is_one_sentence(change):
    values = {**pack_labels(np.array([0, 1]), 2).to_dict(), **change}
    with pytest.raises(UserError) as caught:
        PackedLabels.from_dict(values)
    assert str(caught.value).endswith(".")
    for missing in ("units", "zlib"):
        with pytest.raises(UserError, match=f"{missing} is missing"):
            PackedLabels.from_dict({name: value for name, value in values.items() if name not in (missing, "more")})
