"""What a model is for: text to token ids, outputs to answers. Nothing here imports torch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64
from numpy import ndarray

Text = str | tuple[str, str]
"""One text, or a pair of texts."""


@dataclass(frozen=True)
class EncodedRows:
    """Token ids of many rows, one after another, never padded.

    Row `i` owns `ids[starts[i]:starts[i + 1]]`. `type_ids` is None where all are zero, and
    `truncated` where no row was cut to the model's maximum.
    """

    ids: Int32[ndarray, " total"]
    starts: Int64[ndarray, " rows_plus_1"]
    type_ids: Int32[ndarray, " total"] | None = None
    truncated: Bool[ndarray, " rows"] | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Int64[ndarray, " rows"]:
        """Tokens of each row."""
        return np.diff(self.starts)

    @property
    def total_tokens(self) -> int:
        return int(self.starts[-1])

    def select(self, indices: Sequence[int] | Int64[ndarray, " chosen"]) -> "EncodedRows":
        """The rows at `indices`, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        shift = np.repeat(self.starts[chosen] - starts[:-1], lengths)
        flat = np.arange(starts[-1], dtype=np.int64) + shift
        types = None if self.type_ids is None else self.type_ids[flat]
        truncated = None if self.truncated is None else self.truncated[chosen]
        return EncodedRows(self.ids[flat], starts, types, truncated)

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
    """All rows of `parts`, in order."""
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
    return EncodedRows(ids, starts.astype(np.int64), types, truncated)


@dataclass(frozen=True)
class Answer:
    """What a classifier says of one text.

    `score` belongs to `label`; `scores` to every label. A regression has the single label of its
    config and `score` is the predicted value. A multi-label answer's `label` is its best one and
    `labels` are all at 0.5 or above.
    """

    label: str
    score: float
    scores: dict[str, float]
    labels: tuple[str, ...] = ()
    truncated: bool = False


class Task(ABC):
    """Owns tokenization and the reading of outputs. Frozen; safe to share between threads."""

    name: str

    @abstractmethod
    def encode(self, texts: Sequence[Text]) -> EncodedRows:
        """Tokenizes with truncation at the model's maximum; an empty text keeps its specials."""

    @abstractmethod
    def answers(
        self,
        logits: Float32[ndarray, "rows labels"],
        truncated: Bool[ndarray, " rows"] | None = None,
    ) -> list[Answer]:
        """Turns logits into answers, one a row; says which rows were cut to the maximum."""
