"""Named columns of cells, whatever file they came from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


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
