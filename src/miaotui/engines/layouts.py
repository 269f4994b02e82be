"""How rows become batches of tokens: padded, bucketed, packed. Nothing here imports torch.

Every layout makes the same five arrays, so an engine needs one forward: `ids`, `positions` (from 0
in each row), `segments` (0 is padding, rows count from 1 within their block), `types`, and
`readout`, the places in its block of the tokens that are read out: of each row those that it names,
or its first. `owners` says which of all rows' readouts each is.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Int64
from numpy import ndarray
from pydantic import Field

from miaotui.errors import RecipeError
from miaotui.tasks.base import EncodedRows


@dataclass(frozen=True)
class Batch:
    """Blocks of tokens for one run of an engine; see the module's docstring.

    `owners` is -1 where a readout belongs to no row.
    """

    ids: Int64[ndarray, "blocks tokens"]
    positions: Int64[ndarray, "blocks tokens"]
    segments: Int64[ndarray, "blocks tokens"]
    types: Int64[ndarray, "blocks tokens"]
    readout: Int64[ndarray, "blocks readouts"]
    owners: Int64[ndarray, "blocks readouts"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Blocks, tokens a block, readouts a block."""
        return (*self.ids.shape, self.readout.shape[1])

    @cached_property
    def inputs(self) -> dict[str, ndarray]:
        """The arrays an engine takes, by name."""
        return {
            "ids": self.ids,
            "positions": self.positions,
            "segments": self.segments,
            "types": self.types,
            "readout": self.readout,
        }


def lay_out(
    rows: EncodedRows,
    blocks: Sequence[Sequence[int]],
    tokens: int,
    readouts: int,
    num_blocks: int | None = None,
) -> Batch:
    """Writes each block's rows one after another; `tokens` and `readouts` are a block's room. With
    `readouts` of 0 there is as much as the fullest block needs.

    All rows at once, by index arithmetic: a loop over rows would take as long as a small model.
    """
    num_blocks = num_blocks or len(blocks)
    shape = (num_blocks, tokens)
    ids, positions, segments, types = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    sizes = np.array([len(block) for block in blocks], dtype=np.int64)
    order = np.array([row for block in blocks for row in block], dtype=np.int64)
    block, place = np.repeat(np.arange(len(blocks)), sizes), _count_up(sizes)
    lengths = rows.lengths[order]
    room = np.maximum(lengths, 1)  # a row of no tokens still has one to read
    before = np.cumsum(room) - room
    start = before - np.repeat(before[np.cumsum(sizes) - sizes], sizes)
    first = block * tokens + start
    within = _count_up(lengths)
    target = np.repeat(first, lengths) + within
    source = np.repeat(rows.starts[order], lengths) + within
    ids.ravel()[target] = rows.ids[source]
    positions.ravel()[target] = within
    segments.ravel()[np.repeat(first, room) + _count_up(room)] = np.repeat(place + 1, room)
    if rows.type_ids is not None:
        types.ravel()[target] = rows.type_ids[source]
    readout, owners = _read_out(rows, order, block, start, (num_blocks, readouts))
    return Batch(ids, positions, segments, types, readout, owners)


def _read_out(
    rows: EncodedRows,
    order: Int64[ndarray, " rows"],
    block: Int64[ndarray, " rows"],
    start: Int64[ndarray, " rows"],
    shape: tuple[int, int],
) -> tuple[Int64[ndarray, "blocks readouts"], Int64[ndarray, "blocks readouts"]]:
    """Places within blocks and their owners. Row `order[i]` begins at `start[i]` of its block."""
    if rows.readouts is None:
        places, owner, counts = start, order, np.ones(len(order), dtype=np.int64)
    else:
        owner, _ = rows.readouts.places(order)
        counts = rows.readouts.lengths[order]
        places = rows.readouts.values[owner, 0] + np.repeat(start, counts)
    home = np.repeat(block, counts)
    in_block = np.bincount(home, minlength=shape[0])
    room = shape[1] or max(1, int(in_block.max(initial=1)))
    readout = np.zeros((shape[0], room), dtype=np.int64)
    owners = np.full((shape[0], room), -1, dtype=np.int64)
    column = _count_up(in_block)
    readout[home, column], owners[home, column] = places, owner
    return readout, owners


def blank(shape: tuple[int, int, int]) -> Batch:
    """A batch of a shape for those who ask what it takes to run one: a row of one token a block."""
    blocks, tokens, readouts = shape
    rows = EncodedRows(np.zeros(blocks, dtype=np.int32), np.arange(blocks + 1), None)
    return lay_out(rows, [[row] for row in range(blocks)], tokens, readouts)


def _count_up(sizes: Int64[ndarray, " groups"]) -> Int64[ndarray, " total"]:
    """0, 1, 2, ... anew in each group: [2, 3] gives 0 1 0 1 2."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(sizes) else 0
    counted: Int64[ndarray, " total"] = np.arange(total) - np.repeat(ends - sizes, sizes)
    return counted


class LayoutBase(ABC):
    """Cuts rows into batches. `fixed_shapes` lists every shape it can make, if they are few."""

    kind: str
    batch: int

    @abstractmethod
    def batches(self, rows: EncodedRows) -> Iterator[Batch]:
        """Every row once, longest first; results are put in the caller's order by `Batch.rows`."""

    @abstractmethod
    def shapes(self, longest: int, reads_tokens: bool = False) -> list[tuple[int, int, int]]:
        """The fixed shapes that rows of at most `longest` tokens need, of which each may be read
        out, or one a row; empty means any shape."""


def _longest_first(rows: EncodedRows) -> Int64[ndarray, " rows"]:
    return np.argsort(-rows.lengths, kind="stable")


@dataclass(frozen=True)
class Padded(LayoutBase):
    """Rows sorted by length, each batch padded to its longest row; shapes are free."""

    kind: Literal["padded"] = "padded"
    batch: int = 32

    def batches(self, rows: EncodedRows) -> Iterator[Batch]:
        order = _longest_first(rows)
        for first in range(0, len(order), self.batch):
            chosen = order[first : first + self.batch]
            longest = max(1, int(rows.lengths[chosen[0]]))
            yield lay_out(rows, chosen[:, None].tolist(), longest, 0)

    def shapes(self, longest: int, reads_tokens: bool = False) -> list[tuple[int, int, int]]:
        return []


@dataclass(frozen=True)
class Bucketed(LayoutBase):
    """Rows padded to the next of a few lengths, so that an engine meets only known shapes.

    `edges` are fixed from training lengths; longer rows share a bucket as long as the longest.
    """

    kind: Literal["bucketed"] = "bucketed"
    batch: int = 32
    edges: tuple[int, ...] = (16, 32, 64, 128, 256, 512)

    def batches(self, rows: EncodedRows) -> Iterator[Batch]:
        lengths = rows.lengths
        edges = np.array(self._edges(int(lengths.max(initial=1))))
        bucket = np.searchsorted(edges, lengths)
        for b in range(len(edges) - 1, -1, -1):
            chosen = np.flatnonzero(bucket == b)
            for first in range(0, len(chosen), self.batch):
                group = chosen[first : first + self.batch, None]
                edge = int(edges[b])
                readouts = 1 if rows.readouts is None else edge
                yield lay_out(rows, group.tolist(), edge, readouts, self.batch)

    def shapes(self, longest: int, reads_tokens: bool = False) -> list[tuple[int, int, int]]:
        edges = self._edges(longest)
        return [(self.batch, edge, edge if reads_tokens else 1) for edge in edges]

    def _edges(self, longest: int) -> list[int]:
        longest = max(1, longest)
        needed = [edge for edge in sorted(self.edges) if edge < longest]
        return [*needed, next((e for e in sorted(self.edges) if e >= longest), longest)]


@dataclass(frozen=True)
class Packed(LayoutBase):
    """Several rows to a block of `block_tokens`; a longer row gets a bucket of its own.

    `block_rows` bounds the rows of one block, so that its readouts have a fixed shape: one a row,
    or where rows name theirs one a token.
    """

    kind: Literal["packed"] = "packed"
    batch: int = 8
    block_tokens: int = 128
    block_rows: int = 16

    def batches(self, rows: EncodedRows) -> Iterator[Batch]:
        long = np.flatnonzero(rows.lengths > self.block_tokens)
        yield from self._long_groups(rows, long)
        short = np.flatnonzero(rows.lengths <= self.block_tokens)
        blocks = pack(rows.lengths, short, self.block_tokens, self.block_rows)
        readouts = self.block_rows if rows.readouts is None else self.block_tokens
        for first in range(0, len(blocks), self.batch):
            group_of_blocks = blocks[first : first + self.batch]
            yield lay_out(rows, group_of_blocks, self.block_tokens, readouts, self.batch)

    def _long_groups(self, rows: EncodedRows, long: Int64[ndarray, " chosen"]) -> Iterator[Batch]:
        for row in long[np.argsort(-rows.lengths[long], kind="stable")]:
            edge = self._edge(int(rows.lengths[row]))
            yield lay_out(rows, [[int(row)]], edge, 1 if rows.readouts is None else edge)

    def _edge(self, length: int) -> int:
        step = self.block_tokens
        return -(-length // step) * step

    def shapes(self, longest: int, reads_tokens: bool = False) -> list[tuple[int, int, int]]:
        long = range(2 * self.block_tokens, self._edge(longest) + 1, self.block_tokens)
        room = self.block_tokens if reads_tokens else self.block_rows
        singles = [(1, edge, edge if reads_tokens else 1) for edge in long]
        return [(self.batch, self.block_tokens, room), *singles]


_SINGLE_LENGTHS = (
    *range(4, 64, 4), *range(64, 128, 8), *range(128, 256, 16), *range(256, 513, 32)
)  # fmt: skip


def single_row(max_tokens: int) -> Bucketed:
    """One row a call, for an engine that has to be warmed up for a length: lengths so many that
    little is padded, so few that each can be run before the first row comes."""
    below = tuple(length for length in _SINGLE_LENGTHS if length < max_tokens)
    return Bucketed(batch=1, edges=(*below, min(max_tokens, _SINGLE_LENGTHS[-1])))


Layout = Annotated[Padded | Bucketed | Packed, Field(discriminator="kind")]


def pack(
    lengths: Int64[ndarray, " rows"], chosen: Int64[ndarray, " chosen"], room: int, most: int
) -> list[list[int]]:
    """Best-fit-decreasing bin packing; O(rows * room) through a table of blocks by room left.

    Source: Krell et al. 2021, "Efficient sequence packing without cross-contamination".
    """
    if most < 1:
        raise RecipeError(f"packed: block_rows is {most}; expected 1 or more")
    open_blocks: list[list[list[int]]] = [[] for _ in range(room + 1)]
    blocks: list[list[int]] = []
    for row in chosen[np.argsort(-lengths[chosen], kind="stable")]:
        length = max(1, int(lengths[row]))
        left = next((r for r in range(length, room + 1) if open_blocks[r]), None)
        if left is None:
            block: list[int] = []
            blocks.append(block)
            left = room
        else:
            block = open_blocks[left].pop()
        block.append(int(row))
        if len(block) < most:
            open_blocks[left - length].append(block)
    return blocks


def fill(rows: EncodedRows, layout: LayoutBase) -> float:
    """Share of the tokens computed that belong to rows."""
    total = sum(batch.ids.size for batch in layout.batches(rows))
    return rows.total_tokens / total if total else 1.0


__all__ = [
    "Batch",
    "Bucketed",
    "Layout",
    "LayoutBase",
    "Packed",
    "Padded",
    "blank",
    "fill",
    "lay_out",
    "pack",
    "single_row",
]
