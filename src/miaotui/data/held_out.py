"""The four splits of one file, or of one with separate selection and test files."""

from collections.abc import Set
from dataclasses import replace

import numpy as np

from miaotui.data.rows import Rows
from miaotui.data.saved_splits import SavedSplits, apply_saved
from miaotui.data.split import (
    DEFAULT_FRACTIONS,
    DataSplits,
    Fractions,
    Splits,
    row_hash,
    row_hashes,
    split_rows,
)
from miaotui.errors import DataError


def splits_with(
    rows: Rows,
    eval_rows: Rows | None = None,
    test_rows: Rows | None = None,
    *,
    seed: int = 0,
    fractions: Fractions = DEFAULT_FRACTIONS,
    saved: SavedSplits | None = None,
) -> DataSplits:
    """Makes the four splits; what is not given as `eval_rows` (selection) or `test_rows` is cut
    from `rows`.

    In this order rows are dropped, and counted: selection and test rows that `saved` knows as
    trained on; selection rows equal to a test row; rows of the main file equal to either. With
    `saved`, known rows stay where they were and its seed and fractions hold, not those given; rows
    it held out whose place a separate file now takes are for training. An empty split is a
    DataError.
    """
    for other in (eval_rows, test_rows):
        _refuse_other_shape(rows, other)
    if saved is not None:
        seed, fractions = saved.seed, saved.fractions
    trained_on = frozenset() if saved is None else saved.trained_on
    test = None if test_rows is None else _without(test_rows, trained_on)
    blocked = trained_on | _hashes(test)
    selection = None if eval_rows is None else _without(eval_rows, blocked)
    held_out = _hashes(test) | _hashes(selection)
    main = _without(rows, held_out)
    given = frozenset(
        name for name, part in (("selection", selection), ("test", test)) if part is not None
    )
    cut = _cut(main, saved, seed, replace(fractions, **dict.fromkeys(given, 0.0)), given)
    splits = DataSplits(
        train=main.select(cut.train),
        validation=main.select(cut.validation),
        selection=main.select(cut.selection) if selection is None else selection,
        test=main.select(cut.test) if test is None else test,
        seed=seed,
        fractions=fractions,
        unknown=cut.unknown,
        dropped_main=len(rows) - len(main),
        dropped_selection=_num_dropped(eval_rows, selection),
        dropped_test=_num_dropped(test_rows, test),
    )
    _refuse_empty(splits, given)
    return splits


def _cut(
    rows: Rows,
    saved: SavedSplits | None,
    seed: int,
    fractions: Fractions,
    given: Set[str],
) -> Splits:
    """The splits of the main file; what it has for a split that is `given` goes to training."""
    if saved is None:
        return split_rows(rows, rows.labels, seed, fractions)
    cut = apply_saved(rows, saved, fractions)
    none = np.empty(0, dtype=np.int64)
    freed = [getattr(cut, name) for name in given]
    return replace(
        cut,
        train=np.sort(np.concatenate([cut.train, *freed])),
        selection=none if "selection" in given else cut.selection,
        test=none if "test" in given else cut.test,
    )


def _without(rows: Rows, hashes: Set[str]) -> Rows:
    return rows.select([i for i, text in enumerate(rows.texts) if row_hash(text) not in hashes])


def _hashes(rows: Rows | None) -> frozenset[str]:
    return frozenset() if rows is None else row_hashes(rows)


def _num_dropped(before: Rows | None, after: Rows | None) -> int:
    return 0 if before is None or after is None else len(before) - len(after)


def _refuse_other_shape(rows: Rows, other: Rows | None) -> None:
    if other is not None and isinstance(other.texts[0], tuple) != isinstance(rows.texts[0], tuple):
        raise DataError(
            f"one of {rows.source} and {other.source} holds pairs of texts and the other single "
            "texts; name the columns with --text-column and --pair-column"
        )


def _refuse_empty(splits: DataSplits, given: Set[str]) -> None:
    shares = splits.fractions
    expected = {
        "training": (splits.train, True),
        "validation": (splits.validation, shares.validation > 0),
        "selection": (splits.selection, shares.selection > 0 or "selection" in given),
        "test": (splits.test, shares.test > 0 or "test" in given),
    }
    for name, (rows, needed) in expected.items():
        if needed and not rows:
            raise DataError(
                f"no {name} rows are left of {rows.source}: too few rows, or all are equal to "
                "rows of another split or were trained on before; give more or other rows"
            )
