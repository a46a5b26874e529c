"""One fault after another, each at a random place, and what has to hold after every one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dit_prune_viz.errors import Cancelled, UserError
from dit_prune_viz.experiments.results import Results
from dit_prune_viz.experiments.run import RESULTS
from dit_prune_viz.pipelines.device import telling_of_memory
from faults.wires import KINDS, PROGRESS, SEAMS, WRITING, Injected, Wire
from faults.work import STAGES, Place, generation, make_place, masking, of_tensors, read_back

DAMAGED = "damaged file"
"""A kind of fault that no seam raises: a file of a cache, of results or of an export is cut or changed between two
runs."""
_KEEPS = ("calibration", "search", "sweep")
"""Stages that read what an earlier run has left."""
_LONGEST = 120
"""Seconds until a killed process counts as one that hangs."""


@dataclass
class Found:
    """Faults by (kind, stage), and what did not hold, in words."""

    faults: Counter = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.faults.total()

    def table(self) -> str:
        """Markdown: a row per kind, a column per stage."""
        kinds = [*KINDS, DAMAGED]
        lines = ["| fault | " + " | ".join(STAGES) + " | all |", "|---" * (len(STAGES) + 2) + "|"]
        for kind in kinds:
            counts = [self.faults[kind, stage] for stage in STAGES]
            lines.append(f"| {kind} | " + " | ".join(map(str, counts)) + f" | {sum(counts)} |")
        return "\n".join(lines)


class Soak:
    """Strikes one place again and again.

    Args:
        source: folder of a model.
        clip: folder of a CLIP.
        seed: decides every fault.
        tell: hears of every fault.
    """

    def __init__(
        self, source: Path, clip: Path, folder: Path, seed: int = 0, tell: Callable[[str], None] | None = None
    ) -> None:
        self._tell = tell
        self._chance, self._folder, self.found = random.Random(seed), folder, Found()
        self._place = make_place(source, clip, folder)
        self._round = 0
        self._begin()
        self._weights = self._hash()
        self._state = self._look()
        self._expected, self._crossings = {}, {}
        for stage, work in STAGES.items():
            self._begin()
            wires = {seam: Wire(seam) for seam in SEAMS}
            with ExitStack() as stack:
                for wire in wires.values():
                    stack.enter_context(wire.laid())
                self._expected[stage] = work(self._place, wires[PROGRESS].progress)
            self._crossings |= {(stage, seam): wire.count for seam, wire in wires.items()}
        self._check_order = (masking, generation)
        self._quick = [work(self._place, _nothing) for work in self._check_order]

    def run(self, count: int) -> Found:
        """Strike until there were so many faults."""
        plan = self._plans()
        while self.found.count < count:
            kind, stage = next(plan)
            self._begin()
            name = f"{kind} in {stage}"
            begin = time.monotonic()
            try:
                struck = self._damage(stage) if kind == DAMAGED else self._strike(kind, stage)
                if struck:
                    self.found.faults[kind, stage] += 1
                    self._hold(stage)
            except Exception as problem:
                self.found.faults[kind, stage] += 1
                where = "".join(traceback.format_exception(problem)[-4:])
                self.found.broken.append(f"{name}, fault {self.found.count}: {where[-1500:]}")
            if self._tell:
                self._tell(f"{self.found.count} {name}: {time.monotonic() - begin:.1f} s")
        return self.found

    def _plans(self):
        """Every kind at every stage by turns, in a random order."""
        pairs = [(kind, stage) for kind, (_, seams) in KINDS.items() for stage in STAGES
                 if any(self._crossings[stage, seam] for seam in seams)]  # fmt: skip
        pairs += [(DAMAGED, stage) for stage in (*_KEEPS, "export")]
        while True:
            yield from self._chance.sample(pairs, len(pairs))

    def _begin(self) -> None:
        """Empty folders, and nothing remembered."""
        shutil.rmtree(self._folder / f"{self._round}", ignore_errors=True)
        self._round += 1
        self._place.folder = self._folder / f"{self._round}"
        self._place.folder.mkdir(parents=True)
        self._place.forget()

    def _strike(self, kind: str, stage: str) -> bool:
        strike, seams = KINDS[kind]
        seam = self._chance.choice([one for one in seams if self._crossings[stage, one]])
        wire = Wire(seam, strike, self._chance.randint(1, self._crossings[stage, seam]))
        if kind == "killed process":
            return self._kill(stage, wire)
        try:
            with wire.laid(), telling_of_memory():
                told = STAGES[stage](self._place, wire.progress)
        except Exception as problem:
            _check_told(problem, kind, wire)
        else:
            assert told == self._expected[stage], "a fault that was survived changed the result"
        return wire.struck

    def _kill(self, stage: str, wire: Wire) -> bool:
        """The same in a child, which is killed."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with wire.laid():
                    STAGES[stage](self._place, wire.progress)
                status = 0
            finally:
                os._exit(status)
        end = time.monotonic() + _LONGEST
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert status == 0 or os.WIFSIGNALED(status), f"the child ended with {status}"
                return status != 0  # else it came to its end before the fault
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise AssertionError("the child hangs")

    def _damage(self, stage: str) -> bool:
        """Cut or change a file that a run has left, which was stopped somewhere or came to its end."""
        if stage == "export":
            STAGES[stage](self._place, _nothing)
            return self._damage_export()
        crossings = self._crossings[stage, PROGRESS]
        wire = Wire(PROGRESS, KINDS["cancel"][0], self._chance.randint(crossings // 2, crossings + 1))
        with suppress(Cancelled):
            STAGES[stage](self._place, wire.progress)
        files = [one for one in sorted(self._place.folder.rglob("*")) if one.is_file() and one.stat().st_size]
        if not files:
            return False
        _spoil(self._chance.choice(files), self._chance)
        self._place.forget()
        return True

    def _damage_export(self) -> bool:
        """A damaged packed folder is refused, or makes no difference."""
        folder = self._place.folder / "out" / "packed"
        path = self._chance.choice([one for one in sorted(folder.rglob("*")) if one.is_file() and one.stat().st_size])
        before = path.read_bytes()
        _spoil(path, self._chance)
        try:
            read_back(self._place)
        except UserError as problem:
            _check_sentence(problem)
        finally:
            path.write_bytes(before)
        return True

    def _hold(self, stage: str) -> None:
        """What has to hold after a fault."""
        assert self._hash() == self._weights, "the dense weights have changed"
        assert self._look() == self._state, "something has stayed on the model"
        assert self._place.model.lock.free, "the model's lock is still held"
        quick = [work(self._place, _nothing) for work in self._check_order]
        assert quick == self._quick, "the session does not work as before"
        finished = _finished(self._place) if stage == "sweep" else None
        told = STAGES[stage](self._place, _nothing)
        assert told == self._expected[stage], f"{stage} gives something else afterwards"
        if finished is not None:
            again = Results(self._place.folder / "sweep" / RESULTS).rows
            assert again[: len(finished)] == finished, "a finished cell is lost, or was measured again"
        if stage == "export":
            read_back(self._place)

    def _hash(self) -> str:
        transformer = self._place.model.transformer
        return of_tensors({**dict(transformer.named_parameters()), **dict(transformer.named_buffers())})

    def _look(self) -> list:
        """Hooks, forwards and modes of all modules."""
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        parts = [part for part in self._place.model.pipeline.components.values() if hasattr(part, "named_modules")]
        return [
            (
                name,
                type(module).__name__,
                module.training,
                "forward" in vars(module),
                [len(vars(module)[h]) for h in hooks],
            )
            for part in parts
            for name, module in part.named_modules()
        ]


def soak(source: Path, clip: Path, count: int, seed: int = 0, tell: Callable[[str], None] | None = None) -> Found:
    """So many faults in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return Soak(source, clip, Path(folder), seed, tell).run(count)


def _check_told(problem: Exception, kind: str, wire: Wire) -> None:
    """What a person gets to hear fits what has happened."""
    assert wire.struck, "it failed before the fault struck"
    if isinstance(problem, UserError):
        return _check_sentence(problem)
    allowed = {"exception": Injected, "cancel": Cancelled, "full disk": OSError if wire.seam != WRITING else ()}
    expected: Callable | tuple = allowed.get(kind, ())
    if not isinstance(problem, expected):
        raise AssertionError(f"{kind} came out as {type(problem).__name__}: {problem}") from problem
    return None


def _check_sentence(problem: UserError) -> None:
    text = str(problem)
    assert "\n" not in text, text
    assert 0 < len(text) < 600, text


def _finished(place: Place) -> list:
    """The rows that a sweep has finished by now."""
    path = place.folder / "sweep" / RESULTS
    return Results(path).rows if path.exists() else []


def _spoil(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if chance.random() < 0.5:
        path.write_bytes(data[: chance.randrange(len(data))])
        return
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _nothing(*_: object) -> None:
    """Progress that nobody looks at."""
