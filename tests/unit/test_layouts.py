"""Every layout runs every row once, in blocks that never overflow."""

import numpy as np
import pytest

from miaotui.engines.layouts import (
    Bucketed,
    LayoutBase,
    Packed,
    Padded,
    blank,
    fill,
    lay_out,
    pack,
    single_row,
)
from miaotui.errors import RecipeError
from miaotui.tasks.base import EncodedRows, encoded_rows
from tiny import random_rows

LAYOUTS = (
    Padded(batch=4),
    Bucketed(batch=4, edges=(8, 16, 32)),
    Packed(batch=2, block_tokens=40, block_rows=5),
)


def movie_lengths(rows: int, seed: int = 0) -> np.ndarray:
    """Token counts as of short reviews: about 27, long tail, at most 90."""
    draw = np.random.default_rng(seed).gamma(4.0, 7.0, size=rows)
    return np.clip(draw.round(), 3, 90).astype(np.int64)


@pytest.mark.parametrize("seed", range(5))
def test_pack_takes_every_row_once_and_never_overfills(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 65, size=300)

    blocks = pack(lengths, np.arange(300), 64, 6)

    assert sorted(row for block in blocks for row in block) == list(range(300))
    assert max(lengths[block].sum() for block in blocks) <= 64
    assert max(len(block) for block in blocks) <= 6


def test_pack_fills_blocks_nearly_full() -> None:
    lengths = movie_lengths(1000)

    blocks = pack(lengths, np.arange(1000), 128, 16)

    assert lengths.sum() / (len(blocks) * 128) > 0.98


def test_pack_takes_only_the_chosen_rows() -> None:
    lengths = np.array([5, 6, 7, 8])

    blocks = pack(lengths, np.array([3, 1]), 14, 4)

    assert [sorted(block) for block in blocks] == [[1, 3]]


def test_pack_of_nothing_is_nothing() -> None:
    assert pack(np.array([], dtype=np.int64), np.array([], dtype=np.int64), 16, 4) == []


def test_pack_refuses_blocks_of_no_rows() -> None:
    with pytest.raises(RecipeError, match="block_rows is 0; expected 1 or more"):
        pack(np.array([3]), np.array([0]), 16, 0)


def test_pack_gives_a_row_of_no_tokens_a_place_of_its_own() -> None:
    lengths = np.array([4, 0, 0])

    blocks = pack(lengths, np.arange(3), 4, 8)

    assert sorted(sorted(block) for block in blocks) == [[0], [1, 2]]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
def test_layouts_keep_every_token_of_every_row(layout: LayoutBase) -> None:
    rows = random_rows([1, 40, 8, 9, 16, 17, 70, 3, 33, 2, 41, 5], pairs=True)

    seen = sorted(read_back(layout, rows), key=lambda row: row[0])

    assert [row for row, _, _ in seen] == list(range(len(rows)))
    for row, ids, types in seen:
        assert ids == rows.select([row]).ids.tolist()
        assert types == kinds(rows, row)


def read_back(layout: LayoutBase, rows: EncodedRows) -> list[tuple[int, list[int], list[int]]]:
    """Each row with the ids and types that its batch holds; checks positions on the way."""
    found = []
    for batch in layout.batches(rows):
        for block, owners in enumerate(batch.owners):
            for k in np.flatnonzero(owners >= 0):
                at = np.flatnonzero(batch.segments[block] == k + 1)
                assert at[0] == batch.readout[block, k]
                assert batch.positions[block, at].tolist() == list(range(len(at)))
                ids, types = batch.ids[block, at].tolist(), batch.types[block, at].tolist()
                found.append((int(owners[k]), ids, types))
    return found


def kinds(rows: EncodedRows, row: int) -> list[int]:
    types = rows.select([row]).type_ids
    return [0] * int(rows.lengths[row]) if types is None else types.tolist()


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=lambda layout: layout.kind)
@pytest.mark.parametrize("longest", [1, 8, 9, 40, 41, 95])
def test_fixed_shapes_are_told_in_advance(layout: LayoutBase, longest: int) -> None:
    rows = random_rows(list(range(1, longest + 1)))

    met = {batch.shape for batch in layout.batches(rows)}

    assert met <= set(layout.shapes(longest))


@pytest.mark.parametrize("shape", [(1, 8, 1), (3, 16, 4)])
def test_a_blank_batch_has_the_shape_and_one_token_in_each_block(
    shape: tuple[int, int, int],
) -> None:
    batch = blank(shape)

    assert batch.shape == shape
    assert batch.owners[:, 0].tolist() == list(range(shape[0]))
    assert batch.segments.sum() == shape[0]
    assert not batch.positions.any()


@pytest.mark.parametrize(
    ("max_tokens", "last"), [(1, 1), (4, 4), (90, 90), (512, 512), (8192, 512)]
)
def test_a_single_row_is_padded_a_little_and_never_beyond_the_model(
    max_tokens: int, last: int
) -> None:
    edges = single_row(max_tokens).edges

    assert edges[-1] == last
    for length in range(33, last + 1):
        assert next(edge for edge in edges if edge >= length) <= length * 1.13
    assert all(edge % 4 == 0 for edge in edges[:-1])


def test_padded_has_free_shapes_and_sorts_by_length() -> None:
    rows = random_rows([3, 9, 4, 12, 5])

    shapes = [batch.shape for batch in Padded(batch=2).batches(rows)]

    assert Padded().shapes(64) == []
    assert shapes == [(2, 12, 1), (2, 5, 1), (1, 3, 1)]


def test_a_row_goes_to_the_smallest_bucket_that_holds_it() -> None:
    layout = Bucketed(batch=1, edges=(8, 16))
    rows = random_rows([7, 8, 9, 16])

    tokens = {int(b.owners[0, 0]): b.shape[1] for b in layout.batches(rows)}

    assert tokens == {0: 8, 1: 8, 2: 16, 3: 16}


def test_rows_over_the_last_edge_get_a_bucket_of_the_longest() -> None:
    layout = Bucketed(batch=2, edges=(16, 8))

    assert layout.shapes(20) == [(2, 8, 1), (2, 16, 1), (2, 20, 1)]
    assert layout.shapes(7) == [(2, 8, 1)]
    assert layout.shapes(0) == [(2, 8, 1)]


def test_a_row_longer_than_a_block_is_not_cut() -> None:
    layout = Packed(batch=2, block_tokens=16, block_rows=4)
    rows = random_rows([5, 33, 17])

    long = [batch for batch in layout.batches(rows) if batch.shape[2] == 1]

    assert [batch.shape for batch in long] == [(1, 48, 1), (1, 32, 1)]
    assert [int((batch.segments > 0).sum()) for batch in long] == [33, 17]


def test_fill_is_the_share_of_real_tokens() -> None:
    rows = random_rows([8, 4])

    assert fill(rows, Padded(batch=2)) == pytest.approx(12 / 16)
    assert fill(rows, Packed(batch=1, block_tokens=12, block_rows=2)) == 1.0
    assert fill(encoded_rows([]), Padded()) == 1.0


def test_packing_wastes_less_than_buckets() -> None:
    rows = random_rows(movie_lengths(512).tolist())

    assert fill(rows, Packed(batch=1)) > 0.97 > fill(rows, Bucketed(batch=8))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
def test_no_rows_make_no_batches(layout: LayoutBase) -> None:
    assert list(layout.batches(encoded_rows([]))) == []


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
def test_a_row_of_no_tokens_stands_as_one(layout: LayoutBase) -> None:
    rows = encoded_rows([[], [7, 8], []])

    seen = sorted(read_back(layout, rows))

    assert [(row, ids) for row, ids, _ in seen] == [(0, [0]), (1, [7, 8]), (2, [0])]


def test_unused_readouts_belong_to_no_row() -> None:
    batch = lay_out(random_rows([3]), [[0]], tokens=4, readouts=3, num_blocks=2)

    assert batch.owners.tolist() == [[0, -1, -1], [-1, -1, -1]]
    assert batch.segments.tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]
