"""CSV, TSV, JSON, JSON lines and plain text, as columns of cells."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from miaotui.data.file_text import read_text
from miaotui.data.table import Table, table_of_strings
from miaotui.errors import DataError

PLAIN_TEXT_COLUMN = "text"
_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}


def read_plain_text(path: Path) -> Table:
    read = read_text(path)
    lines = read.text.removesuffix("\n").split("\n")
    texts = [line.removesuffix("\r") for line in lines]
    return Table((PLAIN_TEXT_COLUMN,), lambda _: texts, typed=False, notes=read.notes)


def _read_csv(path: Path) -> Table:
    """With the separator that its header has most of: a comma unless there are more of another."""
    read = read_text(path)
    header = read.text.lstrip("\r\n").partition("\n")[0]
    separator = max(_SEPARATORS, key=header.count)
    told = (
        () if separator == "," else (f"{path} is read with {_SEPARATORS[separator]} between cells",)
    )
    return _delimited(path, read.text, separator, (*read.notes, *told))


def _read_tsv(path: Path) -> Table:
    read = read_text(path)
    return _delimited(path, read.text, "\t", read.notes)


def _delimited(path: Path, text: str, delimiter: str, notes: tuple[str, ...]) -> Table:
    records = _records(path, text, delimiter)
    return table_of_strings(path, next(records, []), records, notes)


def _records(path: Path, text: str, delimiter: str) -> Iterator[list[str]]:
    """Records as wide as the header; lines without any cell are skipped."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    width = 0
    with _fields_up_to(len(text)):
        while True:
            first_line = reader.line_num + 1
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(
                    f"{path}: the row that begins on line {first_line} is malformed ({error}); "
                    'write a field with quotes in it as "said ""so"""'
                ) from error
            width = width or len(record)
            if record and len(record) != width:
                raise DataError(
                    f"{path}: the row that begins on line {first_line} has {len(record)} fields "
                    f'but the header has {width}; put a field that holds {delimiter!r} in "quotes"'
                )
            if record:
                yield record


@contextmanager
def _fields_up_to(characters: int) -> Iterator[None]:
    """Lets the csv module read long fields (it stops at 131,072 characters) and then undoes it."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, characters + 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_json(path: Path) -> Table:
    """A `.json` file: one array of objects, or one object a line."""
    read = read_text(path)
    if not read.text.lstrip().startswith("["):
        return _json_table(path, _json_lines(path, read.text), read.notes)
    values = _parsed(path, read.text, 1)
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise DataError(
                f"{path}: item {number} is not an object; "
                'expected [{"text": "...", "label": "..."}, ...]'
            )
    return _json_table(path, values, read.notes)


def _read_json_lines(path: Path) -> Table:
    read = read_text(path)
    return _json_table(path, _json_lines(path, read.text), read.notes)


def _json_lines(path: Path, text: str) -> list[dict[str, object]]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        row = _parsed(path, line, number)
        if not isinstance(row, dict):
            raise DataError(
                f"{path}: line {number} is not an object; "
                'expected {"text": "...", "label": "..."} on every line'
            )
        rows.append(row)
    return rows


def _parsed(path: Path, text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(
            f"{path}: line {line} is not valid JSON ({error.msg}, column {error.colno}); "
            "write one complete object a line"
        ) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, deep nesting
        raise DataError(f"{path}: line {first_line} cannot be read as a row ({error})") from error


def _json_table(path: Path, rows: Sequence[dict[str, object]], notes: tuple[str, ...]) -> Table:
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise DataError(f"{path} has no rows; give a file with at least one")
    return Table(names, lambda name: [row.get(name) for row in rows], notes=notes)


TEXT_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
}
