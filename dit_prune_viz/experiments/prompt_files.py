"""What is written in a prompt file: text, a table or JSON, as published prompt sets have them; others are refused."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from dit_prune_viz.checks import brief
from dit_prune_viz.errors import UserError

PROMPT_FILES = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
MAX_BYTES = 64 << 20

Pairs = list[tuple[str, str]]
"""(prompt, category) as they are written; "" where there is no category."""

_TEXTS = ("prompt", "prompts", "caption", "captions", "text", "texts")
"""Names of the column or key that holds the prompt, in any case; the first that is there counts."""
_CATEGORIES = ("category", "categories", "tag")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARIES = (
    (re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP", re.S), "a picture"),
    (re.compile(rb"%PDF-"), "a PDF"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive, as Excel workbooks are"),
    (re.compile(rb"\x1f\x8b"), "a compressed file"),
    (re.compile(rb"PAR1[\x00-\x1f]"), "a Parquet table"),
    (re.compile(rb"ARROW1\0"), "an Arrow table"),
)
_OTHER_TEXTS = (
    (re.compile(r"<(!doctype|html|\?xml|svg|head|body)\b", re.I), "a web page or XML"),
    (re.compile(r"\{\\rtf"), "a word processor's file"),
    (re.compile("version https://git-lfs"), "the pointer of a file that was not fetched"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_HELP = "give a text, CSV, TSV, JSON or JSON lines file with prompts"


class _NoPrompt(Exception):
    """An entry of a JSON file without a prompt; its text says what is there instead."""


def read_file(path: Path) -> Pairs:
    """The prompts of one file with their categories, empty ones as well.

    Args:
        path: recognised by its ending and what is in it; see `dit_prune_viz.experiments.prompts.read_prompts`.

    Raises:
        UserError: one sentence for a file that cannot be read, is too large, or is no list of prompts.
    """
    text = _decode(path)
    ending = path.suffix.lower()
    if ending in (".json", ".jsonl", ".ndjson"):
        return _from_json(text, path.name)
    if ending == ".csv":
        return _from_csv(text, path.name)
    if ending == ".tsv":
        return _from_tsv(text, path.name)
    return _from_text(text, path.name)


def _decode(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UserError(f"{path} cannot be read; {_HELP}.") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path.name} is larger than {MAX_BYTES >> 20} MB; give a shorter prompt set.")
    for pattern, what in _BINARIES:
        if pattern.match(content):
            raise UserError(f"{path.name} is {what}, no list of prompts; {_HELP}.")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is not UTF-8 text, nor UTF-16 that says so; save it as UTF-8.") from error
    if _CONTROL.search(text):
        raise UserError(f"{path.name} is a binary file, or UTF-16 that does not say so; {_HELP}.")
    head = text[:2000].lstrip()
    for pattern, what in _OTHER_TEXTS:
        if pattern.match(head):
            raise UserError(f"{path.name} is {what}, no list of prompts; {_HELP}.")
    return text


def _lines(text: str) -> list[str]:
    """Lines as files have them: `str.splitlines` would also break at characters that prompts may contain."""
    return re.split(r"\r\n|\r|\n", text)


def _from_text(text: str, name: str) -> Pairs:
    """A prompt a line, unless it is JSON or a table with tabs all the same."""
    if re.match(r'\s*\{\s*"', text):
        return _from_json(text, name)
    if text.lstrip().startswith("["):
        with suppress(UserError):  # a line may begin with a bracket
            return _from_json(text, name)
    if _find(_TEXTS, first := text.lstrip().partition("\n")[0].split("\t")) is not None and len(first) > 1:
        return _from_tsv(text, name)
    return [(line, "") for line in _lines(text)]


# Tables


def _from_tsv(text: str, name: str) -> Pairs:
    """Cells between tabs, whose quotes are text, as in PartiPrompts; only a cell that can be nothing but a quoted one,
    since all its inner quotes are doubled, is taken apart."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    found = _cells(rows, name, "\t")
    return [(_unquoted(prompt), category) for prompt, category in found]


def _unquoted(cell: str) -> str:
    inner = cell.strip()[1:-1]
    quoted = len(cell.strip()) > 1 and cell.strip()[0] == cell.strip()[-1] == '"'
    if quoted and '""' in inner and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _from_csv(text: str, name: str) -> Pairs:
    """By the rules of RFC 4180, with any usual separator: a quote that is never closed is an error, not a long cell."""
    stated = re.match(r"sep=(.)\r?\n", text)
    text = text[stated.end() :] if stated else text
    first = _lines(text.lstrip("\r\n"))[0]
    separators = [stated[1]] if stated else [",", ";", "\t", "|"]
    heads = {mark: next(csv.reader([first], delimiter=mark), []) for mark in separators}
    mark = next((mark for mark, head in heads.items() if _find(_TEXTS, head) is not None), None)
    mark = mark or max(heads, key=lambda mark: len(heads[mark]))
    return _cells(csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True), name, mark)


def _cells(rows, name: str, mark: str) -> Pairs:
    """The columns of prompts and categories; `rows` is a csv reader."""
    head: list[str] | None = None
    pairs: Pairs = []
    start = 1
    try:
        for row in rows:
            if head is None and any(cell.strip() for cell in row):
                head = row
                at, group = _find(_TEXTS, head), _find(_CATEGORIES, head)
                if at is None:
                    raise _no_column(name, head)
            elif head is not None:
                row = _whole_row(row, head, mark, name, start)
                pairs.append((_cell(row, at), _cell(row, group)))
            start = rows.line_num + 1
    except csv.Error as error:
        what = "a quote is never closed" if "end of data" in str(error) else str(error)
        raise UserError(
            f"{name} is not a readable table: {what} in the row from line {start} on; save it as CSV or TSV again."
        ) from error
    if head is None:
        raise _no_column(name, [])
    return pairs


def _whole_row(row: list[str], head: list[str], mark: str, name: str, line: int) -> list[str]:
    """The row, where a prompt with a comma may have been torn apart: mended if it is the only column, else refused."""
    if mark == "\t" or len(row) <= len(head) or not any(cell.strip() for cell in row[len(head) :]):
        return row
    if len(head) == 1:
        return [mark.join(row)]
    raise UserError(
        f"{name} has {len(row)} cells in line {line} where its first line has {len(head)}; put texts that contain "
        f"{mark!r} in double quotes."
    )


def _no_column(name: str, head: list[str]) -> UserError:
    found = ", ".join(brief(cell.strip())[1:-1] for cell in head[:12] if cell.strip()) or "nothing"
    return UserError(f"{name} has no column Prompt, caption or text: its first line has {found}; rename one of them.")


def _find(names: Iterable[str], head: Iterable[object]) -> int | None:
    """The place of the first of `names` in a header."""
    plain = [str(cell).strip().lower() for cell in head]
    return next((plain.index(name) for name in names if name in plain), None)


def _cell(row: list[str], place: int | None) -> str:
    return row[place] if place is not None and place < len(row) else ""


# JSON


def _from_json(text: str, name: str) -> Pairs:
    """One document or one a line, whatever the ending says."""
    try:
        try:
            return _from_document(json.loads(text))
        except json.JSONDecodeError as error:
            if error.msg != "Extra data" or len(_lines(text.strip())) == 1:
                raise
        return _from_json_lines(text, name)
    except _NoPrompt as problem:
        raise UserError(f'{name} has an entry without a "prompt", "caption" or "text": it has {problem}.') from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(
            f"{name} is not readable JSON{where}; give JSON lines, a list of prompts, or a set such as MJHQ-30K's "
            "meta_data.json."
        ) from error


def _from_json_lines(text: str, name: str) -> Pairs:
    pairs: Pairs = []
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        try:
            pairs += _from_entry(json.loads(line))
        except ValueError as error:
            raise UserError(f"Line {number} of {name} is not readable JSON; mend it or take it out.") from error
    return pairs


def _from_document(content: object) -> Pairs:
    if isinstance(content, list):
        return [pair for entry in content for pair in _from_entry(entry)]
    if not isinstance(content, dict):
        raise _NoPrompt(brief(content))
    key = _key(_TEXTS, content)
    if key is not None:
        return _from_columns(content, key)
    values = content.values()
    if values and all(isinstance(value, list) and all(isinstance(item, str) for item in value) for value in values):
        lists = content  # HPSv2: a list of prompts for every style
    else:  # COCO: "annotations" beside lists of other things
        lists = {name: value for name, value in content.items() if isinstance(value, list) and _has_prompts(value)}
    if lists:
        named = len(lists) > 1
        entries = ((entry, name) for name, value in lists.items() for entry in value)
        return [pair for entry, name in entries for pair in _from_entry(entry, str(name) if named else "")]
    return [pair for entry in values for pair in _from_entry(entry)]  # MJHQ-30K: an entry for every id


def _from_columns(content: Mapping, key: str) -> Pairs:
    """A single entry, or a table that was written column by column."""
    texts, group = content[key], content.get(_key(_CATEGORIES, content))
    if isinstance(texts, list) and isinstance(group, list) and len(texts) == len(group):
        return [pair for text, name in zip(texts, group, strict=True) for pair in _from_entry(text, _word(name))]
    if isinstance(texts, dict):
        names = group if isinstance(group, dict) else {}
        return [pair for place, text in texts.items() for pair in _from_entry(text, _word(names.get(place)))]
    if isinstance(texts, list):
        return [pair for text in texts for pair in _from_entry(text, _word(group))]
    return _from_entry(content)


def _from_entry(entry: object, category: str = "") -> Pairs:
    """A text, or an object with one or several; its own category goes first."""
    if entry is None:
        return []
    if isinstance(entry, str):
        return [(entry, category)]
    key = _key(_TEXTS, entry) if isinstance(entry, dict) else None
    if key is None:
        raise _NoPrompt(", ".join(map(brief, list(entry)[:12])) if isinstance(entry, dict) and entry else brief(entry))
    category = _word(entry.get(_key(_CATEGORIES, entry))) or category
    texts = entry[key] if isinstance(entry[key], list) else [entry[key]]
    if not all(text is None or isinstance(text, str) for text in texts):
        raise _NoPrompt(f"{brief(key)}: {brief(entry[key])}")
    return [(text, category) for text in texts if text is not None]


def _has_prompts(entries: list) -> bool:
    return bool(entries) and isinstance(entries[0], dict) and _key(_TEXTS, entries[0]) is not None


def _key(names: Iterable[str], entry: Mapping) -> str | None:
    place = _find(names, entry)
    return None if place is None else list(entry)[place]


def _word(category: object) -> str:
    """A category as text; several are one of their own."""
    if isinstance(category, list):
        return ", ".join(filter(None, map(_word, category)))
    return str(category) if isinstance(category, (str, int, float)) and not isinstance(category, bool) else ""
