"""What was read of a file of rows, for whoever gave it to see that it was read as meant."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from miaotui.data.rows import Rows
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.task import Task

_SAMPLE = 2000
"""Rows that are tokenized to tell lengths by, spread evenly over a file that has more."""


@dataclass(frozen=True)
class RowsRead:
    """`classes` are counted, the most frequent first: of each row its label or labels, of a tagger
    its entities' types. `values` are the least and the greatest where labels are values to predict;
    both are empty without labels. `dropped` rows were left out for want of a text or a label.
    `median_tokens` and `longest_tokens` are of `rows_measured` rows. `notes` say what was guessed.
    """

    source: str
    rows: int
    columns: tuple[str, ...]
    task: str
    dropped: int
    median_tokens: int
    longest_tokens: int
    rows_measured: int
    classes: dict[str, int]
    values: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def rows_read(task: Task, rows: Rows, encoded: EncodedRows | None = None) -> RowsRead:
    """`encoded` are the rows as the task encodes them, where that is done already."""
    measured = encoded
    if measured is None:
        step = -(-len(rows) // _SAMPLE)
        measured = task.encode(rows.texts[::step])
    labels = rows.labels or ()
    classes = Counter(name for label in labels for name in task.classes_of(label))
    numbers = [float(label) for label in labels if isinstance(label, int | float)]
    return RowsRead(
        source=rows.source,
        rows=len(rows),
        columns=rows.columns,
        task=task.name,
        dropped=rows.dropped,
        median_tokens=int(np.median(measured.lengths)),
        longest_tokens=int(measured.lengths.max(initial=0)),
        rows_measured=measured.num_inputs,
        classes=dict(classes.most_common()),
        values=(min(numbers), max(numbers)) if numbers and not classes else None,
        notes=rows.notes,
    )
