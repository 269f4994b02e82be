"""Named columns of cells, whatever file they came from."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miaotui.errors import DataError


@dataclass(frozen=True)
class Table:
    """Named columns of cells. `typed` is False where every cell is a string, as in CSV.

    `class_names` holds, for a column of class indices, the name of each index. `notes` say what was
    guessed in reading.
    """

    names: tuple[str, ...]
    column: Callable[[str], Sequence[object]]
    typed: bool = True
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def table_of_strings(
    path: Path, header: Sequence[str], records: Iterable[Sequence[str]], notes: tuple[str, ...]
) -> Table:
    """Of records as wide as their header. A header that names no column, or two alike, is a
    DataError; columns without a name are left out."""
    names = [cell.strip() for cell in header]
    if not any(names):
        raise DataError(f"{path} has no header; its first line must name the columns")
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise DataError(f"{path}: two columns are named {twice[0]!r}; rename one of them")
    columns: tuple[list[str], ...] = tuple([] for _ in names)
    for record in records:
        for cells, cell in zip(columns, record, strict=True):
            cells.append(cell)
    by_name = dict(zip(names, columns, strict=True))
    named = tuple(name for name in by_name if name)
    return Table(named, by_name.__getitem__, typed=False, notes=notes)
