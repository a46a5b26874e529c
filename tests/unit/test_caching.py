"""The cache in memory against a list that is searched from end to end."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dit_prune_viz.caching import Cache, nbytes


def tensor(size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.uint8)


class Naive:
    """(key, size) pairs, those used last at the end."""

    def __init__(self, limit):
        self.limit, self.entries = limit, []

    def find(self, key):
        found = [entry for entry in self.entries if entry[0] == key]
        self.entries = [entry for entry in self.entries if entry[0] != key] + found
        return found[0][1] if found else None

    def put_all(self, sizes):
        self.entries = [entry for entry in self.entries if entry[0] not in sizes] + list(sizes.items())
        while sum(size for _, size in self.entries) > self.limit and len(self.entries) > len(sizes):
            self.entries.pop(0)


SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 60), min_size=1, max_size=4)
OPERATIONS = st.lists(st.one_of(st.sampled_from("abcdef"), SIZES), max_size=30)


@given(OPERATIONS, st.integers(0, 120))
def test_it_keeps_what_a_naive_cache_keeps(operations, limit):
    cache, naive = Cache(limit), Naive(limit)
    for operation in operations:
        if isinstance(operation, str):
            found = cache.find(operation)
            assert (None if found is None else found.nbytes) == naive.find(operation)
            continue
        naive.put_all(operation)
        values = {key: tensor(size) for key, size in operation.items()}
        cache.put_all(values) if len(values) > 1 else cache.put(*next(iter(values.items())))
        assert cache.nbytes == sum(size for _, size in naive.entries)
        assert len(cache) == len(naive.entries)
    assert {key for key in "abcdef" if cache.find(key) is not None} == {key for key, _ in naive.entries}


def test_the_least_recently_used_goes_first():
    cache = Cache(100)
    for key in "abc":
        cache.put(key, tensor(30))
    cache.find("a")
    cache.put("d", tensor(30))
    assert [cache.find(key) is None for key in "abcd"] == [False, True, False, False]


def test_values_that_belong_together_do_not_push_each_other_out():
    cache = Cache(100)
    cache.put("old", tensor(10))
    cache.put_all({key: tensor(60) for key in "xyz"})
    assert cache.find("old") is None
    assert [cache.find(key).nbytes for key in "xyz"] == [60, 60, 60]
    cache.put("new", tensor(10))
    assert cache.nbytes <= 100
    assert cache.find("new") is not None


def test_a_value_is_made_once_and_may_be_none():
    cache, made = Cache(100), []
    for _ in range(3):
        assert cache.get("a", lambda: made.append(1)) is None
    assert made == [1]
    with pytest.raises(ZeroDivisionError):
        cache.get("b", lambda: 1 / 0)
    assert len(cache) == 1
    assert cache.find("b", "nothing") == "nothing"


def test_a_dropped_value_is_freed_and_so_are_all_with_their_owner():
    cache = Cache(100)
    first, second = tensor(60), tensor(60)
    seen = weakref.ref(first), weakref.ref(second)
    cache.put("first", first)
    cache.put("second", second)
    del first, second
    assert (seen[0](), seen[1]() is None) == (None, False)
    del cache
    gc.collect()
    assert seen[1]() is None


def test_sizes_of_nested_values():
    class Pair:
        def __init__(self):
            self.table, self.names = tensor(1000), {"a": np.zeros(100), "b": (tensor(7), b"x" * 500)}

    found = nbytes(Pair())
    assert 1000 + 800 + 7 + 500 <= found < 1000 + 800 + 7 + 500 + 600
    assert nbytes(tensor(5).repeat(4)) == 20
    assert nbytes(np.zeros((3, 4), np.float32)) == 48
