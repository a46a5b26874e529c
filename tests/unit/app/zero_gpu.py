"""A stand-in for ZeroGPU: what `spaces.GPU` makes of a generator function, with real processes and no GPU.

As in the package, arguments and results are pickled into pipes, a process serves call after call, and one that is asked
to stop does so at its next result. Only what a Space would say is made up.
"""

from __future__ import annotations

import inspect
import multiprocessing
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

_FORK = multiprocessing.get_context("fork")


class ZeroGpuError(Exception):
    """As gradio's error: a message, and a title."""

    def __init__(self, title: str, message: str) -> None:
        super().__init__(message)
        self.title, self.message = title, message


@dataclass
class ZeroGpu:
    """One Space.

    Attributes:
        refuses: title and message of the error that calls end in; None lends.
        dies: whether the process is killed in the middle of a call.
        durations: seconds that calls asked for.
        forks: how many processes there were.
    """

    refuses: tuple[str, str] | None = None
    dies: bool = False
    durations: list[int] = field(default_factory=list)
    forks: int = 0

    def __call__(self, *, duration):
        """`spaces.GPU(duration=…)`."""

        def wrap(task):
            assert inspect.isgeneratorfunction(task)
            idle: list[_Worker] = []

            def lent(*arguments):
                self.durations.append(duration(*arguments))
                if self.refuses:
                    raise ZeroGpuError(*self.refuses)
                worker = idle.pop() if idle else self._fork(task)
                worker.calls.put(arguments)
                try:
                    while True:
                        kind, value = worker.take()
                        if kind == "end":
                            break
                        if kind == "error":
                            raise ZeroGpuError("ZeroGPU worker error", value)
                        if self.dies:
                            worker.process.kill()
                        yield value
                except GeneratorExit:
                    worker.stop.set()
                    while worker.take()[0] != "end":
                        pass
                    raise
                finally:
                    if worker.process.is_alive():
                        idle.append(worker)

            return lent

        return wrap

    def _fork(self, task) -> _Worker:
        self.forks += 1
        return _Worker(task)


class _Worker:
    def __init__(self, task) -> None:
        self.calls, self._results, self.stop = _FORK.SimpleQueue(), _FORK.SimpleQueue(), _FORK.Event()
        self.process = _FORK.Process(target=self._serve, args=(task,), daemon=True)
        self.process.start()

    def take(self):
        while not self._results._reader.poll(0.1):
            if not self.process.is_alive():
                raise ZeroGpuError("ZeroGPU worker error", "GPU task aborted")
        return self._results.get()

    def _serve(self, task) -> None:
        while True:
            arguments = self.calls.get()
            self.stop.clear()
            with ThreadPoolExecutor() as executor:
                executor.submit(self._iterate, task, arguments).result()
            self._results.put(("end", None))

    def _iterate(self, task, arguments) -> None:
        results = task(*arguments)
        try:
            for value in results:
                if self.stop.is_set():
                    results.close()
                    return
                self._results.put(("value", value))
        except Exception as error:
            traceback.print_exc()
            self._results.put(("error", type(error).__name__))
