"""Where the parts of a pipeline lie while it runs: decided before loading, from file headers and free memory."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dit_prune_viz.errors import UserError

if TYPE_CHECKING:  # torch takes seconds, and a command line that offers a placement does not need it
    import torch
    from torch import nn

    from dit_prune_viz.pipelines.weight_files import Part

CHOICES = ("auto", "device", "offload", "stream", "cpu", "balanced")
"""What a person may ask for."""
PCIE = 25e9
"""Bytes a second from the machine's memory to a GPU: PCIe 4.0 ×16 with pinned memory. Assumed, not measured."""

_BLOCK = re.compile(r"((?:[^.]+\.)*?\d+)\.")
_STORED = re.compile(r"\D*(\d+)")
_LEAST_WORK, _MOST_WORK = 10**8, 3 * 10**9  # bytes that a run needs beside the weights; between them as many as those
_NOTABLE = 4e9
_AHEAD = 2  # blocks on the device at a time: one computes while the next one arrives


@dataclass(frozen=True)
class PartSize:
    """How much memory one part of a pipeline takes.

    Attributes:
        name: in the pipeline, such as "text_encoder_2".
        nbytes: of all its tensors in the precision in which it will run.
        blocks: bytes of each of its numbered blocks, which can be moved one by one.
    """

    name: str
    nbytes: int
    blocks: tuple[int, ...] = ()

    @property
    def transformer(self) -> bool:
        """Whether it denoises, and so runs in every step."""
        from dit_prune_viz.pipelines.denoisers import is_denoiser  # with torch, see above

        return is_denoiser(self.name)

    @property
    def resident(self) -> bool:
        """Whether it stays on the device in every placement: an autoencoder is small, and runs at every preview."""
        return not self.transformer and any(word in self.name for word in ("vae", "vq", "movq", "decoder"))

    @property
    def streaming(self) -> int:
        """Bytes on the device while its blocks come one after the other."""
        return self.nbytes - sum(self.blocks) + _AHEAD * max(self.blocks, default=0)


@dataclass(frozen=True)
class Memory:
    """What a machine has free, in bytes.

    Attributes:
        device: kind of the device that computes: "cuda", "mps", "cpu".
        free: of each such device; nothing on the CPU.
        ram: of the machine.
        rate: bytes a second between the two.
    """

    device: str
    free: tuple[int, ...]
    ram: int
    rate: float = PCIE


@dataclass(frozen=True)
class Placement:
    """Where a pipeline's parts lie.

    Attributes:
        kind: "device": all on the device that computes. "offload": each part there only while it runs. "stream": the
            transformer's blocks come one by one, text encoders layer by layer. "balanced": spread over several GPUs.
            "cpu": all in the machine's memory, which also computes.
        sentence: what was decided and why, for people.
        parts: bytes of each part.
        peak: bytes expected on the device, or in the machine's memory for "cpu".
        disk: whether what streams comes from the disk instead of the machine's memory.
        pinned: whether the machine's memory has room for pages that a GPU reads directly.
        seconds: that moving weights takes at least in each pass through the transformer; None where nothing moves or
            the rate is not known.
    """

    kind: str
    sentence: str
    parts: Mapping[str, int]
    peak: int
    disk: bool = False
    pinned: bool = False
    seconds: float | None = None

    @property
    def moves(self) -> bool:
        """Whether weights come to the device only when they are needed."""
        return self.kind in ("offload", "stream")

    @property
    def notable(self) -> bool:
        """Whether people should hear of it: a large model, or one that does not simply lie where it runs."""
        return self.moves or self.kind == "balanced" or sum(self.parts.values()) > _NOTABLE


def add_placement_option(parser: argparse.ArgumentParser) -> None:
    """Let a command take --placement."""
    parser.add_argument(
        "--placement",
        default="auto",
        choices=CHOICES,
        help="where the parts of a model rest: all on the device, each there only while it runs (offload), block by "
        "block (stream), on several GPUs (balanced), or on the CPU; auto takes the fastest that fits",
    )


def check_placement(requested: object) -> None:
    """Refuse what is no placement. UserError that names all of them."""
    if requested not in CHOICES:
        raise UserError(f"Unknown placement {requested!r}; use {', '.join(CHOICES[:-1])} or {CHOICES[-1]}.")


def plan_placement(sizes: Sequence[PartSize], memory: Memory, *, requested: str = "auto") -> Placement:
    """Choose the fastest placement that fits, or describe the one that is asked for.

    Args:
        sizes: of all parts with weights.
        memory: what is free.
        requested: one of `CHOICES`; what is asked for is taken also where it seems not to fit.

    Raises:
        UserError: an unknown choice, a choice that the machine has no device for, or nothing fits.
    """
    check_placement(requested)
    if requested == "balanced" and len(memory.free) < 2:
        raise UserError("Placement balanced needs at least two GPUs; use auto, device, offload, stream or cpu.")
    total = sum(size.nbytes for size in sizes)
    work = min(_MOST_WORK, max(_LEAST_WORK, total))
    plan = _Plan(tuple(sizes), memory, total, work)
    kinds = _ORDER[memory.device if memory.device in _ORDER else "cuda"] if requested == "auto" else (requested,)
    for kind in kinds:
        for placement in plan.of(kind):
            if plan.fits(placement):
                return placement
    if requested == "auto":
        raise UserError(plan.refusal())
    asked = plan.of(requested)[0]
    return replace(asked, sentence=f"{asked.sentence} That may not fit; placement auto would choose what does.")


_ORDER = {"cuda": ("device", "balanced", "offload", "stream"), "mps": ("device", "stream"), "cpu": ("cpu", "stream")}


@dataclass(frozen=True)
class _Plan:
    sizes: tuple[PartSize, ...]
    memory: Memory
    total: int
    work: int

    @property
    def _resident(self) -> int:
        return sum(size.nbytes for size in self.sizes if size.resident)

    def of(self, kind: str) -> list[Placement]:
        """The ways to do one kind, the faster one first."""
        if kind == "stream":
            from_memory = [] if self.memory.device in ("cpu", "mps") else [self._stream(disk=False)]
            return [*from_memory, self._stream(disk=True)]
        return [
            {"cpu": self._cpu, "device": self._device, "offload": self._offload, "balanced": self._balanced}[kind]()
        ]

    def fits(self, placement: Placement) -> bool:
        free, ram = self.memory.free, self.memory.ram
        if placement.kind == "balanced":
            blocks = max((max(size.blocks, default=size.nbytes) for size in self.sizes), default=0)
            return len(free) > 1 and self.total + len(free) * (self.work + blocks) <= sum(free)
        # Of what streams from the disk, one part at a time is in memory: while it is loaded.
        resting = (
            self.total if placement.kind == "offload" or (placement.kind == "stream" and not placement.disk) else 0
        )
        room = ram if placement.kind == "cpu" or not free else free[0]
        return placement.peak <= room and resting <= ram

    def refusal(self) -> str:
        """Why nothing fits, and what would."""
        least = self._stream(disk=True).peak
        room = self.memory.free[0] if self.memory.free else self.memory.ram
        place = f"this {_NAMES.get(self.memory.device, 'machine')} has {gigabytes(room)} free"
        start = f"The model needs {gigabytes(least)} even when its blocks stream from the disk, and {place}"
        if self.memory.free and self._cpu().peak <= self.memory.ram:
            needed = gigabytes(self._cpu().peak)
            return f"{start}; load it with --placement cpu, which needs {needed} of the machine's memory."
        return f"{start}; free some memory, load it with --dtype bfloat16, or choose a smaller model."

    def _made(self, kind: str, how: str, peak: int, **more) -> Placement:
        parts = {size.name: size.nbytes for size in self.sizes}
        return Placement(kind, f"Needs {gigabytes(self.total)}; {self._room(kind)}: {how}.", parts, int(peak), **more)

    def _room(self, kind: str) -> str:
        free, ram = self.memory.free, f"this machine has {gigabytes(self.memory.ram)} of memory free"
        if not free or kind == "cpu":
            return f"{ram} and no GPU" if not free else ram
        if len(free) > 1 and kind == "balanced":
            return f"{len(free)} GPUs have {gigabytes(sum(free))} free"
        return f"this GPU has {gigabytes(free[0])} free"

    def _device(self) -> Placement:
        where = "everything stays in memory" if not self.memory.free else "everything stays on it"
        return self._made("device", where, self.total + self.work)

    def _cpu(self) -> Placement:
        return self._made("cpu", "everything runs on the CPU", self.total + self.work)

    def _balanced(self) -> Placement:
        spread = (self.total / max(1, len(self.memory.free))) + self.work
        return self._made("balanced", "the blocks of the transformer are spread over them", spread)

    def _offload(self) -> Placement:
        largest = max((size.nbytes for size in self.sizes if not size.resident), default=0)
        peak = largest + self._resident + self.work
        how = "each part is on it only while it runs, the text encoders while encoding"
        return self._made("offload", f"{how}, {gigabytes(peak)} at most at a time", peak)

    def _stream(self, *, disk: bool) -> Placement:
        moving = [size for size in self.sizes if size.transformer]
        encoders = max((size.streaming for size in self.sizes if not size.transformer and not size.resident), default=0)
        running = sum(size.streaming for size in moving)
        peak = self._resident + max(running, encoders) + self.work
        blocks, moved = sum(len(size.blocks) for size in moving), sum(sum(size.blocks) for size in moving)
        pinned = not disk and self.memory.device == "cuda" and 1.25 * self.total <= self.memory.ram
        how = f"the text encoders leave after encoding, the transformer's {blocks} blocks stream in one by one"
        if disk:
            return self._made("stream", f"{how} from the disk, {gigabytes(peak)} at most at a time", peak, disk=True)
        if not pinned:
            return self._made("stream", f"{how}, {gigabytes(peak)} at most at a time", peak)
        seconds = moved / self.memory.rate
        time = f"moving {gigabytes(moved)} takes at least {seconds:.1f} s a pass at {self.memory.rate / 1e9:.0f} GB/s"
        return self._made("stream", f"{how}; {time}", peak, pinned=True, seconds=seconds)


_NAMES = {"cuda": "GPU", "mps": "GPU"}


def part_size(name: str, tensors: Mapping[str, int]) -> PartSize:
    """The size of a part from the bytes of each of its tensors by name; a number in a name counts blocks."""
    blocks: dict[str, int] = {}
    for key, nbytes in tensors.items():
        found = _BLOCK.match(key)
        if found:
            blocks[found[1]] = blocks.get(found[1], 0) + nbytes
    return PartSize(name, sum(tensors.values()), tuple(blocks.values()))


def stored_sizes(parts: Iterable[Part], dtype: torch.dtype) -> list[PartSize]:
    """The sizes of parts as they lie on the disk, read from the headers of their files.

    Args:
        parts: as `find_parts` found them.
        dtype: precision in which they will run.
    """
    return [
        part_size(
            part.name,
            {key: math.prod(stored.shape) * _bytes_each(stored.dtype, dtype) for key, stored in part.tensors.items()},
        )
        for part in parts
    ]


def module_size(name: str, module: nn.Module, dtype: torch.dtype) -> PartSize:
    """The size of a module; its parameters may be on the meta device."""
    return part_size(name, {key: value.numel() * dtype.itemsize for key, value in module.named_parameters()})


def free_memory(device: torch.device) -> Memory:
    """What this machine has free at this moment."""
    import psutil
    import torch

    ram = psutil.virtual_memory().available
    if device.type != "cuda":
        return Memory(device.type, (ram,) if device.type == "mps" else (), ram)
    chosen = range(torch.cuda.device_count()) if device.index is None else (device.index,)
    return Memory("cuda", tuple(torch.cuda.mem_get_info(index)[0] for index in chosen), ram)


def _bytes_each(stored: str, dtype: torch.dtype) -> int:
    """Bytes of a stored number once it is loaded: floats are converted, whole numbers stay."""
    if stored.startswith(("F", "BF")):
        return dtype.itemsize
    bits = _STORED.match(stored)
    return max(1, int(bits[1]) // 8) if bits else 1


def gigabytes(nbytes: float) -> str:
    """A number of bytes for people, in GB of 10⁹ bytes, with a decimal below ten."""
    amount = nbytes / 1e9
    return f"{amount:.0f} GB" if amount >= 10 else f"{amount:.1f} GB"
