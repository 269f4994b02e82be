"""Rows of a tagger: CoNLL columns, tokens with tags, or texts with spans of characters."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from miaotui.data.columns import Columns
from miaotui.data.file_text import read_text
from miaotui.data.inputs import Words
from miaotui.data.label_cells import listed_rows
from miaotui.data.rows import Rows
from miaotui.data.table import Table
from miaotui.data.tables import read_table
from miaotui.data.text_files import PLAIN_TEXT_COLUMN
from miaotui.errors import DataError, LabelsMissing
from miaotui.tasks.entities import (
    Tags,
    begin_with_inside,
    labels_for,
    parts,
    read_spans,
    scheme_of_rows,
)
from miaotui.tasks.words import join_words, split_words

TOKEN_NAMES = ("tokens", "words")
TAG_NAMES = ("ner_tags", "tags", "labels", "label", "ner")
SPAN_NAMES = ("spans", "entities")
TEXT_NAMES = ("text", "sentence", "content")
_COLUMN_FILES = (".conll", ".conll2003", ".bio", ".iob", ".iob2", ".bioes", ".bmes", ".txt", ".tsv")
_TAG = re.compile(r"O|[BIESMLU]-\S+")
_SNIFFED_LINES = 200
_EXAMPLES = (
    'CoNLL columns (a word and its tag a line), or rows of {"tokens": [...], "tags": [...]} or of '
    '{"text": "...", "spans": [{"start": 0, "end": 5, "label": "PER"}]}'
)


def read_entity_rows(path: Path, columns: Columns, labelled: bool) -> Rows:
    """Texts with their words and, where `labelled`, a tag a word: BIO, or BIOES where the file has
    E or S. Impossible tags are put right and counted in the notes."""
    if path.is_file() and path.suffix.lower() in _COLUMN_FILES and looks_like_columns(path):
        return _from_columns(path, labelled)
    table = read_table(path, plain_text=not labelled)
    tokens = _named(table, columns.text, TOKEN_NAMES, lists=True)
    if tokens is not None:
        return _from_tokens(path, table, tokens, columns, labelled)
    text = _named(table, columns.text, (*TEXT_NAMES, PLAIN_TEXT_COLUMN))
    if text is None:
        raise DataError(f"{path} has no rows of entities; expected {_EXAMPLES}")
    return _from_spans(path, table, text, columns, labelled)


def holds_entities(path: Path) -> bool:
    """Whether the file's form leaves no doubt."""
    if not path.is_file():
        return False
    if path.suffix.lower() in _COLUMN_FILES:
        return looks_like_columns(path)
    names = set(read_table(path).names)
    has_tokens = names & set(TOKEN_NAMES) and names & set(TAG_NAMES)
    return bool(has_tokens or (names & set(TEXT_NAMES) and names & set(SPAN_NAMES)))


def looks_like_columns(path: Path) -> bool:
    """Whether nearly every line that is not blank ends with a tag after other fields."""
    fields = [line.split() for line in read_text(path).text.splitlines()[:_SNIFFED_LINES]]
    filled = [line for line in fields if line]
    tagged = [line for line in filled if len(line) > 1 and _TAG.fullmatch(line[-1])]
    return bool(filled) and len(tagged) > 0.9 * len(filled)


def _from_columns(path: Path, labelled: bool) -> Rows:
    read = read_text(path)
    sentences = list(_sentences(read.text))
    if not sentences:
        raise DataError(f"{path} has no rows; give a file with at least one")
    widths = {len(line) for sentence in sentences for line in sentence}
    if min(widths) < 2:
        short = next(line for sentence in sentences for line in sentence if len(line) < 2)
        raise DataError(f"{path}: {short[0]!r} stands on a line without a tag; give {_EXAMPLES}")
    texts = tuple(join_words([line[0] for line in sentence]) for sentence in sentences)
    tags = [[line[-1] for line in sentence] for sentence in sentences]
    rows = _rows(path, texts, tags if labelled else None)
    columns = ("word", "tag") if labelled else ("word",)
    return replace(rows, notes=(*read.notes, *rows.notes), columns=columns)


def _sentences(text: str) -> Iterator[list[list[str]]]:
    sentence: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        fields = line.split("\t") if "\t" in line else line.split()
        fields = [field.strip() for field in fields if field.strip()]
        if fields and not fields[0].startswith("-DOCSTART-"):
            sentence.append(fields)
        elif sentence:
            yield sentence
            sentence = []


def _from_tokens(path: Path, table: Table, column: str, columns: Columns, labelled: bool) -> Rows:
    cells = [_strings(cell, i, path, column) for i, cell in enumerate(table.column(column))]
    texts = tuple(join_words(words) for words in cells)
    if not labelled:
        return _read(_rows(path, texts, None), table, column)
    name = _named(table, columns.label, TAG_NAMES)
    if name is None:
        raise LabelsMissing(
            f"{path} has tokens but no tags; expected a column {', '.join(TAG_NAMES)}"
        )
    known = table.class_names.get(name)
    tags = [_tags(cell, i, known, path, name) for i, cell in enumerate(table.column(name))]
    odd = [
        i for i, (words, own) in enumerate(zip(cells, tags, strict=True)) if len(words) != len(own)
    ]
    if odd:
        raise DataError(f"{path}: tokens and tags differ in number in {listed_rows(odd)}")
    return _read(_rows(path, texts, tags), table, column, name)


def _strings(cell: object, index: int, path: Path, column: str) -> list[str]:
    if not isinstance(cell, list) or not all(isinstance(word, str) and word for word in cell):
        raise DataError(
            f"{path}: column {column!r}, row {index + 1} is not a list of words; give {_EXAMPLES}"
        )
    return cell


def _tags(
    cell: object, index: int, names: tuple[str, ...] | None, path: Path, column: str
) -> list[str]:
    if not isinstance(cell, list):
        raise DataError(f"{path}: column {column!r}, row {index + 1} is not a list of tags")
    if names is not None and all(isinstance(tag, int) and 0 <= tag < len(names) for tag in cell):
        return [names[tag] for tag in cell]
    if not all(isinstance(tag, str) for tag in cell):
        raise DataError(
            f"{path}: column {column!r}, row {index + 1} has tags that are no names; write them as "
            '"B-PER", or save the dataset with its class names'
        )
    return cell


def _from_spans(path: Path, table: Table, column: str, columns: Columns, labelled: bool) -> Rows:
    texts = [_text(cell, i, path, column) for i, cell in enumerate(table.column(column))]
    if not labelled:
        rows = _rows(path, tuple(split_words(text) for text in texts), None)
        return _read(rows, table, column)
    name = _named(table, columns.label, SPAN_NAMES)
    if name is None:
        raise LabelsMissing(f"{path} has no rows of entities; expected {_EXAMPLES}")
    words, tags = [], []
    for i, (text, cell) in enumerate(zip(texts, table.column(name), strict=True)):
        spans = _read_spans(cell, text, f"{path}: column {name!r}, row {i + 1}")
        row = _split_at(split_words(text), [edge for a, b, _ in spans for edge in (a, b)])
        words.append(row)
        tags.append(_tags_of(row, spans))
    return _read(_rows(path, tuple(words), tags), table, column, name)


def _text(cell: object, index: int, path: Path, column: str) -> str:
    if not isinstance(cell, str):
        raise DataError(f"{path}: column {column!r}, row {index + 1} is not a text")
    return cell


def _read_spans(cell: object, text: str, where: str) -> list[tuple[int, int, str]]:
    if not isinstance(cell, list):
        raise DataError(f"{where} is not a list of spans; give {_EXAMPLES}")
    spans = sorted(_span(entry, where) for entry in cell)
    for first, last, _ in spans:
        if not 0 <= first < last <= len(text):
            raise DataError(f"{where}: a span from {first} to {last} is not inside its text")
    for (_, last, _), (first, _, _) in pairwise(spans):
        if first < last:
            raise DataError(f"{where}: two spans overlap at character {first}; keep one of them")
    return spans


def _span(entry: object, where: str) -> tuple[int, int, str]:
    if isinstance(entry, list | tuple) and len(entry) == 3:
        entry = dict(zip(("start", "end", "label"), entry, strict=True))
    if not isinstance(entry, Mapping):
        raise DataError(f"{where}: {entry!r:.60} is not a span; give {_EXAMPLES}")
    label = entry.get("label", entry.get("type"))
    first, last = entry.get("start"), entry.get("end")
    if not isinstance(first, int) or not isinstance(last, int) or not isinstance(label, str):
        raise DataError(f"{where}: {entry!r:.60} lacks start, end or label; give {_EXAMPLES}")
    return first, last, label


def _split_at(words: Words, edges: Sequence[int]) -> Words:
    """The words, those cut in two that an entity begins or ends in."""
    inside = sorted(set(edges))
    starts, ends = [], []
    for first, last in zip(words.starts, words.ends, strict=True):
        cuts = [edge for edge in inside[bisect_right(inside, first) :] if edge < last]
        for a, b in pairwise([first, *cuts, last]):
            starts.append(a)
            ends.append(b)
    return Words(words.text, tuple(starts), tuple(ends))


def _tags_of(words: Words, spans: Sequence[tuple[int, int, str]]) -> list[str]:
    word_spans = []
    for first, last, kind in spans:
        inside = [i for i, a in enumerate(words.starts) if first <= a and words.ends[i] <= last]
        if inside:
            word_spans.append((inside[0], inside[-1] + 1, kind))
    return Tags(("O", "B-", "I-")).write(word_spans, len(words))


def _named(
    table: Table, wanted: str | None, usual: Sequence[str], lists: bool = False
) -> str | None:
    """The column asked for, or the one of a usual name; with `lists` only where it has lists."""
    named = [wanted] if wanted in table.names else [n for n in usual if n in table.names]
    for name in named:
        first: Any = next(iter(table.column(str(name))), None)
        if not lists or isinstance(first, list):
            return str(name)
    return None


def _read(rows: Rows, table: Table, *columns: str) -> Rows:
    """The rows with what the file's reader guessed, and the columns they are of."""
    return replace(rows, notes=(*table.notes, *rows.notes), columns=columns)


def _rows(path: Path, texts: tuple[Words, ...], tags: list[list[str]] | None) -> Rows:
    if not texts:
        raise DataError(f"{path} has no rows; give a file with at least one")
    if tags is None:
        return Rows(texts, None, str(path))
    scheme, usual = scheme_of_rows(tags), begin_with_inside(tags)
    kinds = {kind for row in tags for _, _, kind in read_spans(row)}
    writer = Tags(labels_for(scheme, kinds))
    clean = [writer.write(read_spans(row), len(row)) for row in tags]
    repaired = 0 if usual else sum(_faults(a, b) for a, b in zip(tags, clean, strict=True))
    notes = (f"{repaired} impossible tags of {path.name}: put right",) if repaired else ()
    return Rows(texts, tuple(map(tuple, clean)), str(path), notes=notes)


def _faults(tags: Sequence[str], clean: Sequence[str]) -> int:
    canonical = [letter if not kind else f"{letter}-{kind}" for letter, kind in map(parts, tags)]
    return sum(a != b for a, b in zip(canonical, clean, strict=True))
