"""Rows of a task: texts or pairs of texts, and their labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jaxtyping import Int64
from numpy import ndarray

from miaotui.data.columns import ANY_COLUMNS, Columns, find_columns
from miaotui.data.inputs import Text
from miaotui.data.label_cells import Label, labels_from_cells, listed_rows
from miaotui.data.table import Table
from miaotui.data.tables import read_table
from miaotui.errors import DataError

__all__ = ["ANY_COLUMNS", "Columns", "Label", "Rows", "Text", "load_rows"]


@dataclass(frozen=True)
class Rows:
    """Texts and their labels (None where unlabelled), all texts of one kind.

    `label_order` is the order of the classes declared by the file (a `datasets` ClassLabel), in
    which a model trained on it numbers its outputs; None where the file declares none. `notes` say
    what was put right on reading, `columns` which were read, `dropped` how many rows were left out.
    """

    texts: tuple[Text, ...]
    labels: tuple[Label, ...] | None
    source: str
    label_order: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = field(default=(), compare=False)
    dropped: int = field(default=0, compare=False)

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: Sequence[int] | Int64[ndarray, " chosen"]) -> "Rows":
        """The rows at `indices`, in that order."""
        chosen = [int(i) for i in indices]
        labels = None if self.labels is None else tuple(self.labels[i] for i in chosen)
        return replace(self, texts=tuple(self.texts[i] for i in chosen), labels=labels)


def load_rows(path: str | Path, columns: Columns = ANY_COLUMNS, labelled: bool = True) -> Rows:
    """Reads CSV, TSV, JSON lines, Parquet, Arrow or a folder saved by `datasets`.

    Rows without a label or a text are left out and counted. With `labelled` False labels are
    ignored, empty texts are kept, and `.txt` with one text per line is read too. Whatever cannot be
    used as it is is a DataError of one line.
    """
    source = str(path)
    table = read_table(Path(path), plain_text=not labelled)
    chosen = find_columns(table.names, columns, labelled, source)
    firsts = _texts(table, chosen.text, source, labelled)
    if not firsts:
        raise DataError(f"{source} has no rows; give a file with at least one")
    texts: tuple[str | tuple[str, str], ...] = firsts
    if chosen.pair is not None:
        texts = tuple(zip(firsts, _texts(table, chosen.pair, source, labelled), strict=True))
    if chosen.label is None:
        return Rows(texts, None, source, notes=table.notes, columns=chosen.listed)
    names = table.class_names.get(chosen.label)
    where = f"{source}, column {chosen.label!r}"
    labels = labels_from_cells(table.column(chosen.label), table.typed, names, where)
    rows = _whole_rows(texts, labels.values, source)
    notes = (*table.notes, *labels.notes, *rows.notes)
    return replace(rows, label_order=names, notes=notes, columns=chosen.listed)


def _whole_rows(
    texts: Sequence[str | tuple[str, str]], labels: Sequence[Label | None], source: str
) -> Rows:
    """Those with a text and a label; what was left out, and what contradicts itself, is noted."""
    without_text = {i for i, text in enumerate(texts) if not "".join(text).strip()}
    kept = {i: v for i, v in enumerate(labels) if v is not None and i not in without_text}
    if not kept:
        raise DataError(f"{source} has no row with both a text and a label; give some")
    unlabelled = len(labels) - len(kept) - len(without_text)
    answers: dict[Text, set[Label]] = {}
    for i, label in kept.items():
        answers.setdefault(texts[i], set()).add(label)
    contradicted = [text for text, given in answers.items() if len(given) > 1]
    notes = {
        f"{source}: rows without a text, left out: {len(without_text)}": without_text,
        f"{source}: rows without a label, left out: {unlabelled}": unlabelled,
        f"{source}: equal texts with different labels: {len(contradicted)}, "
        f"such as {str(contradicted[:1])[1:-1]:.60}": contradicted,
    }
    told = tuple(note for note, counted in notes.items() if counted)
    chosen, dropped = tuple(texts[i] for i in kept), len(labels) - len(kept)
    return Rows(chosen, tuple(kept.values()), source, notes=told, dropped=dropped)


def _texts(table: Table, column: str, source: str, gaps: bool) -> tuple[str, ...]:
    """With `gaps` a text that is not there is an empty one."""
    cells = table.column(column)
    if gaps:
        cells = ["" if cell is None else cell for cell in cells]
    missing = [i for i, cell in enumerate(cells) if cell is None]
    if missing:
        raise DataError(
            f"{source}: column {column!r} has no text in {listed_rows(missing)}; fill it in, "
            "leave an empty text, or remove the rows"
        )
    return tuple(_checked(cell, i, column, source) for i, cell in enumerate(cells))


def _checked(cell: object, index: int, column: str, source: str) -> str:
    where = f"{source}: column {column!r}, row {index + 1}"
    if not isinstance(cell, str):
        raise DataError(
            f"{where} is of type {type(cell).__name__}, expected a text; convert it or name "
            "another column with --text-column or --pair-column"
        )
    try:
        cell.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} holds half a character (a lone surrogate); repair it") from error
    return cell
