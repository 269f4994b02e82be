"""Rows of token ids, on their way from texts into a model. Nothing here imports torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int32, Int64
from numpy import ndarray

from miaotui.data.inputs import Text
from miaotui.tasks.outputs import Ragged, join_ragged

__all__ = [
    "EncodedRows",
    "Text",
    "encoded_rows",
    "joined",
    "rows_from_arrays",
    "rows_to_arrays",
]


@dataclass(frozen=True)
class EncodedRows:
    """Token ids of many rows, one after another, never padded.

    Row `i` owns `ids[starts[i]:starts[i + 1]]`. `type_ids` is None where all are zero, and
    `truncated` where no row was cut to the model's maximum.

    `readouts` are the tokens that a model is read at, int32 [readouts, 2]: the token's place in its
    row, and the word of the text that it begins. None: each row's first token. An input too long
    for one row has several: input `i` owns rows `input_starts[i]` to `input_starts[i + 1]`; None
    where each has one.
    """

    ids: Int32[ndarray, " total"]
    starts: Int64[ndarray, " rows_plus_1"]
    type_ids: Int32[ndarray, " total"] | None = None
    truncated: Bool[ndarray, " rows"] | None = None
    readouts: Ragged | None = None
    input_starts: Int64[ndarray, " inputs_plus_1"] | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Int64[ndarray, " rows"]:
        """Tokens of each row."""
        return np.diff(self.starts)

    @property
    def total_tokens(self) -> int:
        return int(self.starts[-1])

    @property
    def num_inputs(self) -> int:
        return len(self if self.input_starts is None else self.input_starts[1:])

    @property
    def readout_starts(self) -> Int64[ndarray, " rows_plus_1"]:
        """Where the readouts of each row begin among those of all."""
        return np.arange(len(self) + 1) if self.readouts is None else self.readouts.starts

    def readouts_or_all(self) -> Ragged:
        """`readouts`, or where there are none every token of every row."""
        if self.readouts is not None:
            return self.readouts
        place = np.arange(self.total_tokens) - np.repeat(self.starts[:-1], self.lengths)
        return Ragged(np.stack([place, place], axis=1).astype(np.int32), self.starts)

    def first_inputs(self, count: int) -> "EncodedRows":
        """All rows of the first inputs, `count` at most."""
        if self.input_starts is None:
            return self.select(range(min(count, len(self))))
        starts = self.input_starts[: count + 1]
        return replace(self.select(range(int(starts[-1]))), input_starts=starts)

    def select(self, indices: Sequence[int] | Int64[ndarray, " chosen"]) -> "EncodedRows":
        """The rows at `indices`, in that order; each is an input of its own."""
        chosen = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        shift = np.repeat(self.starts[chosen] - starts[:-1], lengths)
        flat = np.arange(starts[-1], dtype=np.int64) + shift
        types = None if self.type_ids is None else self.type_ids[flat]
        truncated = None if self.truncated is None else self.truncated[chosen]
        readouts = None if self.readouts is None else self.readouts.select(chosen)
        return EncodedRows(self.ids[flat], starts, types, truncated, readouts)

    def equals(self, other: "EncodedRows") -> bool:
        """Whether all ids, rows, types and truncations are the same; None stands for zeros."""

        def zeros_for(array: ndarray | None, size: int) -> ndarray:
            return np.zeros(size, dtype=np.int32) if array is None else array

        return (
            np.array_equal(self.ids, other.ids)
            and np.array_equal(self.starts, other.starts)
            and np.array_equal(
                zeros_for(self.type_ids, len(self.ids)), zeros_for(other.type_ids, len(other.ids))
            )
            and np.array_equal(
                zeros_for(self.truncated, len(self)), zeros_for(other.truncated, len(other))
            )
        )

    def chunks(self, rows: int) -> Iterator["EncodedRows"]:
        """Consecutive groups of at most `rows` rows."""
        for first in range(0, len(self), rows):
            yield self.select(np.arange(first, min(first + rows, len(self))))


def encoded_rows(
    rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None
) -> EncodedRows:
    """Joins lists of token ids; `types` of only zeros becomes None."""
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.fromiter((i for row in rows for i in row), dtype=np.int32, count=int(starts[-1]))
    if types is None:
        return EncodedRows(ids, starts)
    flat = np.fromiter((t for row in types for t in row), dtype=np.int32, count=int(starts[-1]))
    return EncodedRows(ids, starts, flat if flat.any() else None)


def joined(parts: Sequence[EncodedRows]) -> EncodedRows:
    """All rows of `parts`, in order, each an input of its own. Parts have readouts all or none."""
    if not parts:
        return encoded_rows([])
    starts = np.concatenate([[0], np.cumsum(np.concatenate([p.lengths for p in parts]))])
    types = None
    if any(part.type_ids is not None for part in parts):
        types = np.concatenate(
            [np.zeros_like(p.ids) if p.type_ids is None else p.type_ids for p in parts]
        )
    truncated = None
    if any(part.truncated is not None for part in parts):
        truncated = np.concatenate(
            [np.zeros(len(p), dtype=bool) if p.truncated is None else p.truncated for p in parts]
        )
    ids = np.concatenate([part.ids for part in parts])
    own = [part.readouts for part in parts if part.readouts is not None]
    readouts = join_ragged(own) if own else None
    return EncodedRows(ids, starts.astype(np.int64), types, truncated, readouts)


def rows_to_arrays(rows: EncodedRows) -> dict[str, ndarray]:
    """For a file of arrays."""
    types = np.zeros_like(rows.ids) if rows.type_ids is None else rows.type_ids
    arrays = {"ids": rows.ids, "starts": rows.starts, "types": types}
    if rows.readouts is not None:
        arrays |= {"readouts": rows.readouts.values, "readout_starts": rows.readouts.starts}
    if rows.input_starts is not None:
        arrays["input_starts"] = rows.input_starts
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def rows_from_arrays(arrays: Mapping[str, ndarray]) -> EncodedRows:
    """What `rows_to_arrays` gave; a KeyError where one is missing."""
    readouts = None
    if "readouts" in arrays:
        readouts = Ragged(arrays["readouts"], arrays["readout_starts"])
    return EncodedRows(
        arrays["ids"],
        arrays["starts"],
        arrays["types"] if arrays["types"].any() else None,
        readouts=readouts,
        input_starts=arrays.get("input_starts"),
    )
