"""Finished cells in a JSONL file that survives a kill at any moment."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import BinaryIO

from dit_prune_viz.errors import UserError
from dit_prune_viz.formatting import counted
from dit_prune_viz.metrics.clip_mean import mean_clip

SCORES = ("clip", "ssim", "psnr", "latent_mse")
"""Per picture: 100·cos of picture and prompt; SSIM, PSNR (dB) and mean squared latent error to the dense picture."""

UNREAD = ("not_drawn", "not_scored")
"""Per prompt: its end that the model, or the CLIP, does not read."""

_NAMED = 5
"""So many damaged lines are named."""
_CHECKED = re.compile(rb'(.*), "crc32": (\d{1,10})}', re.DOTALL)
"""A line with the checksum of what stands before it; those of older versions have none."""


@dataclass(frozen=True)
class Row:
    """One cell: a recipe at one sparsity, drawn with one seed for every prompt.

    experiment, digest: digests of what was asked for, and of the recipe with the versions of its methods. level: as
    people read it; sparsity: the share of prunable weights that went. damage: predicted. scores: name of the score →
    one value per prompt, None where there is none (a PSNR of equal pictures, a latent that is not finite, no CLIP).
    unread: "not_drawn" or "not_scored" → for every prompt the end that the model or the CLIP does not read, "" for
    none; without a name where it reads all prompts to their end. None in rows of older versions, which did not look.
    nbytes: of the transformers as they would be stored, see `stored_bytes`; None where that is not known.
    destroyed: for every prompt what its picture has become, see `metrics.destroyed`, "" for a picture; empty where none
    is destroyed.
    """

    experiment: str
    recipe: str
    digest: str
    level: str
    sparsity: float
    seed: int
    damage: float
    prune_seconds: float
    seconds: float
    scores: dict[str, list[float | None]] = field(default_factory=dict)
    unread: dict[str, list[str]] | None = None
    nbytes: int | None = None
    destroyed: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What makes the cell: two rows with the same key are the same measurement."""
        return self.experiment, self.digest, self.level, self.seed

    @property
    def prompts(self) -> int:
        return max((len(values) for values in self.scores.values()), default=0)

    def mean(self, score: str) -> float | None:
        """The mean of a score over the prompts that have one, see `mean_score`; None where none has, and for the CLIP
        score of nothing but destroyed pictures, which would be that of no picture at all."""
        if score == "clip" and self.destroyed and all(self.destroyed):
            return None
        return mean_score(score, self.scores.get(score, ()))


class Results:
    """The rows of one file, and a way to append to it.

    notice: a sentence for people if something in the file could not be read, else None.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Row] = []
        self.notice: str | None = None
        self._half = 0, 0  # size of the file when it ended in half a line, and without that
        self._load()

    def append(self, row: Row) -> None:
        """Write a row down for good, after whatever another run has added meanwhile."""
        text = json.dumps(asdict(row) | {"mean": {name: row.mean(name) for name in SCORES}}).encode()[:-1]
        line = text + f', "crc32": {zlib.crc32(text)}}}\n'.encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab+") as file:
                size, whole = self._half
                if size and file.seek(0, os.SEEK_END) == size:
                    file.truncate(whole)
                self._half = 0, 0
                _add_line(file, line)
        except OSError as error:
            raise UserError(
                f"{self._path} cannot be written to ({error.strerror}); make room or choose another folder, the cells "
                "that are finished stay."
            ) from error
        self.rows.append(row)

    def of(self, experiment: str) -> list[Row]:
        """The rows of one experiment, each cell once."""
        return list({row.key: row for row in self.rows if row.experiment == experiment}.values())

    def _load(self) -> None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"{self._path} cannot be read ({error.strerror}); choose another folder.") from error
        *lines, rest = content.split(b"\n")
        rows = [_row(line) for line in lines]
        self.rows = [row for row in rows if row is not None]
        if rest:
            self._half = len(content), len(content) - len(rest)
            self.notice = f"The last line of {self._path.name} was half written and is dropped; its cell runs again."
        if None in rows:
            damaged = [str(number) for number, row in enumerate(rows, 1) if row is None]
            many = f"{', '.join(damaged[:_NAMED])}{' …' if len(damaged) > _NAMED else ''}"
            self.notice = f"{self._path.name} is damaged in line {many}; the cells of such lines run again."


def _add_line(file: BinaryIO, line: bytes) -> None:
    """Put a line at the end of a file and on the disk, or leave the file as it was."""
    end = file.seek(0, os.SEEK_END)
    if end:
        file.seek(end - 1)
        if file.read(1) != b"\n":  # half a line of another run, which was killed meanwhile
            line = b"\n" + line
    try:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    except BaseException:  # half a line would spoil the next one too
        with suppress(OSError):
            os.ftruncate(file.fileno(), end)
        raise


def _row(line: bytes) -> Row | None:
    """A line's row; None for a damaged line."""
    checked = _CHECKED.fullmatch(line)
    try:
        if checked:
            if zlib.crc32(checked[1]) != int(checked[2]):
                return None
            line = checked[1] + b"}"
        values = {"unread": None, "nbytes": None, "destroyed": [], **json.loads(line)}
        row = Row(**{item.name: values[item.name] for item in fields(Row)})
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    lists = (row.scores, row.unread or {})
    good = all(isinstance(part, dict) and all(isinstance(each, list) for each in part.values()) for part in lists)
    good = good and isinstance(row.destroyed, list)
    good = good and (row.nbytes is None or (isinstance(row.nbytes, int) and row.nbytes >= 0))
    return row if good and isinstance(row.seed, int) else None


def unread_sentences(row: Row) -> list[str]:
    """Of how many prompts the model or the CLIP does not read the end, a sentence each where there are any."""
    found = {name: sum(map(bool, words)) for name, words in (row.unread or {}).items()}
    readers = {"not_drawn": "The model", "not_scored": "The CLIP"}
    return [
        f"{reader} does not read {found[name]:,} {'prompt' if found[name] == 1 else 'prompts'} to the end."
        for name, reader in readers.items()
        if found.get(name)
    ]


def destroyed_sentences(rows: Iterable[Row]) -> list[str]:
    """Which recipes destroy pictures, and how many; a sentence for each recipe and level where there are any."""
    counts: dict[str, list[int]] = {}
    words: dict[str, dict[str, None]] = {}
    for row in rows:
        cell = f"{row.recipe} {row.level}"
        count = counts.setdefault(cell, [0, 0])
        count[0] += sum(map(bool, row.destroyed))
        count[1] += row.prompts
        words.setdefault(cell, {}).update({what: None for what in row.destroyed if what})
    return [
        f"{cell}: {gone:,} of {counted(total, 'picture')} destroyed ({', '.join(words[cell])})."
        for cell, (gone, total) in counts.items()
        if gone
    ]


def mean_score(score: str, values: Iterable[float | None]) -> float | None:
    """The mean of a score over the pictures that have one; CLIP by its own rule, `mean_clip`. None where none has."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return mean_clip(present) if score == "clip" else sum(present) / len(present)


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation, 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    return (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
