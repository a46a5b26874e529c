"""Work on many tensors in threads: zstd, NumPy and SHA-256 let go of Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar

import torch

_AHEAD = 4
"""Jobs that are taken ahead for every thread."""


class Named(Protocol):
    """A job, as far as this is concerned."""

    name: str


Job = TypeVar("Job", bound=Named)
Result = TypeVar("Result")


def in_order(jobs: Iterable[Job], work: Callable[[Job], Result]) -> Iterator[tuple[str, Result]]:
    """(name, work(job)) of every job in order, a few of them ahead, on as many threads as torch has."""
    jobs, threads = iter(jobs), max(1, torch.get_num_threads())
    with ThreadPoolExecutor(threads) as pool:
        waiting = [(job.name, pool.submit(work, job)) for job in islice(jobs, _AHEAD * threads)]
        try:
            while waiting:
                name, result = waiting.pop(0)
                yield name, result.result()
                waiting += [(job.name, pool.submit(work, job)) for job in islice(jobs, 1)]
        finally:
            for _, result in waiting:
                result.cancel()
