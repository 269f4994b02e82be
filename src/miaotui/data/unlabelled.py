"""Texts without labels, to distil from, free of the rows that judge."""

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from miaotui.data.rows import ANY_COLUMNS, Columns, load_rows
from miaotui.data.split import row_hash
from miaotui.tasks.base import Text


@dataclass(frozen=True)
class Unlabelled:
    """Distinct texts, and how many were dropped: equal to a held-out row, or met before."""

    texts: tuple[Text, ...]
    dropped_equal: int
    dropped_duplicates: int

    def __len__(self) -> int:
        return len(self.texts)


def load_unlabelled(
    path: str | Path, held_out_hashes: Set[str], columns: Columns = ANY_COLUMNS
) -> Unlabelled:
    """Reads texts in any format of `load_rows` and `.txt`, ignoring labels.

    `held_out_hashes` are those of the selection and test rows (`DataSplits.held_out_hashes`).
    The first of equal texts is kept, in the order of the file.
    """
    texts = load_rows(path, columns, labelled=False).texts
    allowed = [(row_hash(text), text) for text in texts]
    allowed = [(row, text) for row, text in allowed if row not in held_out_hashes]
    first_of: dict[str, Text] = {}
    for row, text in allowed:
        first_of.setdefault(row, text)
    return Unlabelled(
        tuple(first_of.values()), len(texts) - len(allowed), len(allowed) - len(first_of)
    )
