"""Ragged arrays: what a model gives for rows of which each has readouts of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped
from numpy import ndarray


@dataclass(frozen=True)
class Ragged:
    """Row `i` owns `values[starts[i]:starts[i + 1]]`."""

    values: Shaped[ndarray, "readouts ..."]
    starts: Int64[ndarray, " rows_plus_1"]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Int64[ndarray, " rows"]:
        """Readouts of each row."""
        return np.diff(self.starts)

    def places(
        self, rows: Sequence[int] | Int64[ndarray, " chosen"]
    ) -> tuple[Int64[ndarray, " readouts"], Int64[ndarray, " chosen_plus_1"]]:
        """Where the readouts of the chosen rows lie in `values`, and where each row's begin."""
        chosen = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        shift = np.repeat(self.starts[chosen] - starts[:-1], lengths)
        return np.arange(starts[-1], dtype=np.int64) + shift, starts

    def select(self, rows: Sequence[int] | Int64[ndarray, " chosen"]) -> "Ragged":
        """The rows at those indices, in that order."""
        flat, starts = self.places(rows)
        return Ragged(self.values[flat], starts)

    def merged(self, group_starts: Int64[ndarray, " groups_plus_1"] | None) -> "Ragged":
        """Neighbouring rows made one: group `i` has rows `group_starts[i]:group_starts[i + 1]`."""
        return self if group_starts is None else Ragged(self.values, self.starts[group_starts])


Outputs = Ragged
"""float32 [readouts, width]: one readout a row of classifiers, one a word of taggers."""
Targets = Ragged
"""What the loss and the metrics compare with outputs, one for each readout."""


def one_a_row(values: Shaped[ndarray, "rows ..."]) -> Ragged:
    """Rows of one readout each."""
    return Ragged(values, np.arange(len(values) + 1, dtype=np.int64))


def join_ragged(parts: Sequence[Ragged]) -> Ragged:
    """All rows of `parts`, in order; at least one part."""
    starts = np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in parts]))])
    return Ragged(np.concatenate([part.values for part in parts]), starts.astype(np.int64))
