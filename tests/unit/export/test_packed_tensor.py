"""Packing a tensor and back: every bit of what is kept, zeros elsewhere, and a reader that knows the page only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from dit_prune_viz.errors import UserError
from dit_prune_viz.export.coding import decode, encode, from_pairs, to_pairs
from dit_prune_viz.export.packed_tensor import (
    DTYPES,
    PackedTensor,
    pack_rounded,
    pack_tensor,
    unpack_mask,
    unpack_tensor,
    unpack_values,
)
from dit_prune_viz.masks.packed_mask import pack
from dit_prune_viz.masks.rounding import round_to_nearest

_INTEGERS = {2: torch.int16, 4: torch.int32}


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(_INTEGERS[tensor.element_size()])


@st.composite
def tables(draw):
    """Any bit patterns at all, NaN and infinities among them, or normal weights; and a mask."""
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    rows, columns = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    if draw(st.booleans()):
        size = 8 * dtype.itemsize - 1
        values = torch.randint(-(2**size), 2**size, (rows, columns), generator=generator)
        table = values.to(_INTEGERS[dtype.itemsize]).view(dtype)
    else:
        table = (torch.randn(rows, columns, generator=generator) * 0.1).to(dtype)
    share = draw(st.sampled_from((0.0, 0.03, 0.5, 1.0)))
    return table, torch.rand(rows, columns, generator=generator) < share


@settings(deadline=None, max_examples=150)
@given(tables())
def test_every_bit_comes_back(table_and_mask):
    table, keep = table_and_mask
    whole = unpack_tensor(pack_tensor(table))
    assert whole.dtype == table.dtype
    assert torch.equal(bits(whole), bits(table))
    packed = pack_tensor(table, pack(keep))
    expected = torch.zeros_like(bits(table))
    expected[keep] = bits(table)[keep]
    assert torch.equal(bits(unpack_tensor(packed)), expected)
    assert torch.equal(unpack_mask(packed).unpack(), keep)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 0), (4, 6, 1, 1), (2, 3, 5)])
def test_other_shapes_come_back(dtype, shape):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(DTYPES[dtype])
    assert torch.equal(unpack_tensor(pack_tensor(tensor)), tensor)


def test_a_convolution_is_masked_as_a_table():
    weight = torch.randn(6, 10, 1, 1)
    keep = torch.rand(6, 10) < 0.4
    found = unpack_tensor(pack_tensor(weight, pack(keep)))
    assert torch.equal(found, weight * keep[..., None, None])


@pytest.mark.parametrize(("dtype", "size"), [(torch.bfloat16, 2), (torch.float16, 2), (torch.float32, 4)])
def test_float32_that_came_from_half_the_bytes_takes_half(dtype, size):
    values = torch.randn(64, 64).to(dtype).to(torch.float32)
    packed = pack_tensor(values)
    assert len(packed.entry["bytes"]) == size
    assert torch.equal(unpack_tensor(packed), values)


def test_normal_weights_take_the_bits_that_entropy_says():
    """Sign and seven bits of mantissa as they are; the exponents' entropy is counted here by numpy."""
    values = torch.randn(1 << 18, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    exponents = (values.view(torch.int16).numpy().view(np.uint16) >> 7) & 255
    shares = np.bincount(exponents) / len(exponents)
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    assert 8 * pack_tensor(values).nbytes / len(values) < 8 + entropy * 1.03


def test_another_precision_is_refused():
    with pytest.raises(UserError, match="float64 cannot be packed; load the model in"):
        pack_tensor(torch.zeros(2, dtype=torch.float64))


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=4000), st.sampled_from((1, 3, 200)))
def test_bytes_and_pairs_come_back(data, alphabet):
    data = np.frombuffer(data, np.uint8) % alphabet
    assert np.array_equal(decode(*encode(data), len(data)), data)
    top, pairs, far = to_pairs(data)
    assert np.array_equal(from_pairs(top, pairs, far, len(data)), data)


def test_a_frame_that_would_grow_beyond_its_size_is_not_opened():
    bomb = np.frombuffer(zstandard.ZstdCompressor().compress(bytes(1 << 28)), np.uint8)
    with pytest.raises(UserError, match="1,000 bytes stored as 'zstd' are damaged"):
        decode("zstd", bomb, 1000)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    with pytest.raises(UserError, match="are damaged"):
        decode("zstd", np.frombuffer(unsized, np.uint8), 1000)


@pytest.mark.parametrize(("way", "stored"), [("raw", b"12"), ("zero", b"1"), ("zstd", b"nonsense"), ("lz4", b"")])
def test_other_bytes_than_were_coded_are_refused(way, stored):
    with pytest.raises(UserError, match="are damaged; download or pack the model again"):
        decode(way, np.frombuffer(stored, np.uint8), 3)


def test_a_mask_that_keeps_another_number_is_refused():
    packed = pack_tensor(torch.randn(8, 8), pack(torch.rand(8, 8) < 0.5))
    other = pack_tensor(torch.randn(8, 8), pack(torch.ones(8, 8, dtype=torch.bool)))
    mixed = PackedTensor({**packed.entry, "mask": other.entry["mask"]}, {**packed.parts, "mask": other.parts["mask"]})
    with pytest.raises(UserError, match="keeps 64 weights where there are"):
        unpack_tensor(mixed)


def read_by_the_page(entry: dict, parts: dict[str, np.ndarray]) -> np.ndarray:
    """The bits of a tensor, row by row, by assets/docs/packed-format.md alone: numpy and zstandard, no code of ours."""

    def stream(way: str, name: str) -> np.ndarray:
        stored = parts.get(name, np.zeros(0, np.uint8))
        if way == "zstd":
            return np.frombuffer(zstandard.decompress(stored.tobytes()), np.uint8)
        return stored

    def numbers(planes: list[dict], kept: int, start: str = "") -> np.ndarray:
        number = np.zeros(kept, np.uint64)
        for place, plane in enumerate(planes):
            name = f"{start}byte{place}"
            data = np.zeros(kept, np.uint8) if plane["coding"] == "zero" else stream(plane["coding"], name)
            if "top" in plane:
                if plane["coding"] == "zero":
                    data = np.zeros((kept + 1) // 2, np.uint8)
                halves = np.array([half for pair in data for half in (pair >> 4, pair & 15)], np.int64)[:kept]
                far = iter(stream(plane["far_coding"], f"{name}.far"))
                if plane["far_coding"] == "zero":
                    far = iter([0] * plane["far"])
                data = np.array([next(far) if half == 15 else plane["top"] - half for half in halves])
            number = number * np.uint64(256) + np.asarray(data).astype(np.uint64)
        width = 8 * max(1, len(planes))
        return (number >> np.uint64(1)) | ((number & np.uint64(1)) << np.uint64(width - 1))

    count, kept = int(np.prod(entry["shape"])), entry["kept"]
    if "mask" in entry:
        rows = entry["shape"][0]
        if entry["mask"]["coding"] == "zero":
            flags = np.zeros(count, np.uint8)
        else:
            flags = np.unpackbits(stream(entry["mask"]["coding"], "mask"), bitorder="little")[:count]
        if entry["mask"]["order"] == "columns":
            flags = flags.reshape(count // rows, rows).T.reshape(-1)
    else:
        flags = np.ones(count, np.uint8)
    if "rounded" in entry:
        about, rows = entry["rounded"], entry["shape"][0]
        columns = count // rows
        groups = -(-columns // about["group"])
        bits = numbers(about["bytes"], rows * groups, "scales.")
        scales = (
            bits.astype(np.uint16).view(np.float16)
            if about["dtype"] == "float16"
            else bits.astype(np.uint32).view("<f4")
        )
        codes = stream(about["coding"], "codes")
        if about["coding"] == "zero":
            codes = np.zeros(kept if about["bits"] == 8 else (kept + 1) // 2, np.uint8)
        if about["bits"] == 4:
            codes = np.array([half for pair in codes for half in (pair >> 4, pair & 15)], np.uint8)[:kept]
            codes = np.where(codes > 7, codes.astype(np.int64) - 16, codes)
        else:
            codes = codes.view(np.int8)
        places = np.flatnonzero(flags)
        scale = scales.reshape(rows, groups)[places // columns, places % columns // about["group"]]
        exact = torch.from_numpy(codes.astype(np.float32) * scale.astype(np.float32) + np.float32(0)).to(
            DTYPES[entry["dtype"]]
        )
        values = exact.view(_INTEGERS[exact.element_size()]).numpy().view(f"<u{exact.element_size()}")
    else:
        values = numbers(entry["bytes"], kept)
    if "stored" in entry:
        small = torch.from_numpy(values.astype(np.uint16).view(np.int16)).view(DTYPES[entry["stored"]])
        values = small.to(DTYPES[entry["dtype"]]).view(torch.int32).numpy().view(np.uint32)
    table = np.zeros(count, values.dtype)
    table[flags == 1] = values
    return table


@settings(deadline=None, max_examples=80)
@given(tables())
def test_a_reader_written_from_the_page_reads_the_same(table_and_mask):
    table, keep = table_and_mask
    packed = pack_tensor(table, pack(keep))
    found = read_by_the_page(packed.entry, packed.parts).astype(np.uint64)
    unsigned = np.dtype(f"u{table.element_size()}")
    own = bits(unpack_tensor(packed)).numpy().view(unsigned).reshape(-1)
    assert np.array_equal(found, own.astype(np.uint64))


@st.composite
def rounded_tables(draw):
    """Weights, a mask or none, and how they are rounded."""
    rows, columns = draw(st.integers(1, 20)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from((1e-9, 0.05, 3.0)))  # of the first, float16 holds no scales
    table = (scale * torch.randn(rows, columns, generator=generator)).to(DTYPES[draw(st.sampled_from(sorted(DTYPES)))])
    keep = torch.rand(rows, columns, generator=generator) < draw(st.sampled_from((0.0, 0.3, 1.0)))
    mask = pack(keep) if draw(st.booleans()) else None
    bits, group = draw(st.sampled_from((4, 8))), draw(st.sampled_from((None, 1, 7, 128)))
    return round_to_nearest(table, bits=bits, group=group, mask=mask)


@settings(deadline=None, max_examples=120)
@given(rounded_tables())
def test_rounded_weights_come_back_and_the_page_says_how(rounded):
    packed = pack_rounded(rounded, rounded.shape, rounded.dtype)
    found = unpack_tensor(packed)
    assert found.dtype == rounded.dtype
    assert torch.equal(bits(found), bits(rounded.values()))
    assert torch.equal(bits(unpack_values(packed)), bits(rounded.kept().reshape(-1)))
    by_page = read_by_the_page(packed.entry, packed.parts).astype(np.uint64)
    own = bits(found).numpy().view(f"u{found.element_size()}").reshape(-1)
    assert np.array_equal(by_page, own.astype(np.uint64))


def test_the_codes_of_normal_weights_take_less_than_a_byte():
    """With a scale per row of 1024 the greatest weight is 3.2 deviations, so codes have about log2(127 / 3.2 · 4.13)
    bits: 4.13 = √(2πe) is the entropy of a normal variable, as a multiple of its deviation."""
    rounded = round_to_nearest(torch.randn(512, 1024, generator=torch.Generator().manual_seed(1)), bits=8)
    expected = np.log2(127 / 3.24 * np.sqrt(2 * np.pi * np.e))
    assert 8 * pack_rounded(rounded, rounded.shape, torch.float32).nbytes / 2**19 < expected + 0.15
