import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miaotui.data.held_out import splits_with
from miaotui.data.label_cells import Label
from miaotui.data.rows import Rows
from miaotui.data.saved_splits import SPLITS_FILE, apply_saved, load_splits, save_splits
from miaotui.data.split import (
    SPLIT_NAMES,
    DataSplits,
    Fractions,
    Splits,
    normalise,
    row_hash,
    row_hashes,
    split_rows,
)
from miaotui.errors import DataError, OutputError
from miaotui.tasks.base import Text


def rows_of(number: int, labels: Sequence[Label] = ("neg", "pos"), prefix: str = "row") -> Rows:
    """Distinct texts, the labels in turn."""
    texts = tuple(f"{prefix} {i}" for i in range(number))
    return Rows(texts, tuple(labels[i % len(labels)] for i in range(number)), prefix)


def split_of_text(rows: Rows, splits: Splits) -> dict[Text, str]:
    return {rows.texts[i]: name for name in SPLIT_NAMES for i in getattr(splits, name)}


def texts_of(splits: DataSplits) -> dict[str, set[Text]]:
    return {name: set(getattr(splits, name).texts) for name in SPLIT_NAMES}


class TestNormalise:
    @pytest.mark.parametrize(
        ("text", "other"),
        [
            ("Good  Film\n", "good film"),
            ("ＧＯＯＤ！", "good!"),
            ("STRASSE", "straße"),
            ("cafe\u0301", "café"),
            ("好\u3000看", "好 看"),
            (("A ", "b"), ("a", " B")),
        ],
    )
    def test_equal(self, text: Text, other: Text) -> None:
        assert normalise(text) == normalise(other)
        assert row_hash(text) == row_hash(other)

    @pytest.mark.parametrize(
        ("text", "other"),
        [
            ("good", "goods"),
            (("a", "b"), ("b", "a")),
            (("a b", "c"), ("a", "b c")),
            (("a", "b"), "a b"),
        ],
    )
    def test_different(self, text: Text, other: Text) -> None:
        assert row_hash(text) != row_hash(other)

    def test_hash_never_changes(self) -> None:
        assert row_hash("Good film") == "952317a5f018c671"
        assert row_hash(("这部电影", "太好看了")) == "8f648b3d87ff0a74"


class TestSplitRows:
    def test_every_row_is_in_one_split(self) -> None:
        rows = rows_of(333)
        splits = split_rows(rows, rows.labels, seed=3)
        indices = [getattr(splits, name) for name in SPLIT_NAMES]
        assert sorted(np.concatenate(indices)) == list(range(333))
        for part in indices:
            assert part.dtype == np.int64
            assert np.all(np.diff(part) > 0)
        assert splits.seed == 3
        assert splits.unknown == 0

    def test_sizes(self) -> None:
        rows = rows_of(8530)
        splits = split_rows(rows, rows.labels, seed=0)
        sizes = {name: len(getattr(splits, name)) for name in SPLIT_NAMES}
        assert sizes == {"test": 1535, "selection": 768, "validation": 623, "train": 5604}

    def test_the_smallest_allowed_file_fills_every_split(self) -> None:
        rows = rows_of(50)
        for seed in range(20):
            splits = split_rows(rows, rows.labels, seed)
            assert [len(getattr(splits, name)) for name in SPLIT_NAMES] == [9, 5, 3, 33]

    def test_equal_texts_stay_together(self) -> None:
        base = rows_of(100)
        shouted = tuple(f"  {str(text).upper()} " for text in base.texts)
        rows = Rows(base.texts + shouted, (*(base.labels or ()), *["other"] * 100), "both")
        places = split_of_text(rows, split_rows(rows, rows.labels, seed=1))
        assert all(
            places[text] == places[twin] for text, twin in zip(base.texts, shouted, strict=True)
        )
        assert len(set(places.values())) == 4

    @pytest.mark.parametrize(
        "labels", [("a", "b", "c"), (0.1, 0.7, 2.5, 3.0), (("a",), ("b", "a"), ()), (3, 1)]
    )
    def test_order_does_not_matter(self, labels: Sequence[Label]) -> None:
        base = rows_of(200, labels)
        rows = Rows(base.texts + base.texts[:50], (base.labels or ()) + ("z",) * 50, "twice")
        if isinstance(labels[0], float):
            rows = base
        shuffled = rows.select(np.random.default_rng(0).permutation(len(rows)))
        first = split_of_text(rows, split_rows(rows, rows.labels, seed=5))
        assert split_of_text(shuffled, split_rows(shuffled, shuffled.labels, seed=5)) == first

    def test_seed_changes_the_split(self) -> None:
        rows = rows_of(500)
        tests = [set(split_rows(rows, rows.labels, seed).test.tolist()) for seed in range(3)]
        for first, second in [(0, 1), (0, 2), (1, 2)]:
            # Chance alone has 18% of one test split in the other.
            assert len(tests[first] & tests[second]) < 0.4 * len(tests[first])

    def test_classes_keep_their_shares(self) -> None:
        rows = rows_of(1000, ("a",) * 7 + ("b",) * 2 + ("c",))
        splits = split_rows(rows, rows.labels, seed=0)
        labels = np.array(rows.labels)
        for name, share in [("test", 0.18), ("selection", 0.09), ("train", 0.657)]:
            counts = Counter(labels[getattr(splits, name)].tolist())
            for label, number in [("a", 700), ("b", 200), ("c", 100)]:
                assert abs(counts[label] - share * number) <= 2

    def test_values_keep_their_distribution(self) -> None:
        values = np.random.default_rng(1).exponential(size=1000)
        rows = Rows(rows_of(1000).texts, tuple(values.tolist()), "values")
        splits = split_rows(rows, rows.labels, seed=0)
        tenths = np.searchsorted(np.quantile(values, np.arange(1, 10) / 10), values, side="right")
        counts = np.bincount(tenths[splits.test], minlength=10)
        assert counts.sum() == 180
        assert set(counts.tolist()) <= {16, 17, 18, 19, 20}

    def test_sets_of_labels_are_strata_whatever_their_order(self) -> None:
        rows = rows_of(400, (("a", "b"), ("b", "a"), ("c",), ()))
        splits = split_rows(rows, rows.labels, seed=0)
        counts = Counter(frozenset((rows.labels or ())[i]) for i in splits.test)
        assert abs(counts[frozenset("ab")] - 36) <= 1
        assert abs(counts[frozenset("c")] - 18) <= 1

    def test_strata_of_one_text_still_fill_every_split(self) -> None:
        rows = Rows(rows_of(200).texts, tuple((f"label {i}",) for i in range(200)), "singletons")
        splits = split_rows(rows, rows.labels, seed=0)
        assert [len(getattr(splits, name)) for name in SPLIT_NAMES] == [36, 18, 15, 131]

    def test_other_rows_hardly_matter(self) -> None:
        rows = rows_of(1000)
        fewer = rows.select(range(990))
        before = split_of_text(fewer, split_rows(fewer, fewer.labels, seed=0))
        after = split_of_text(rows, split_rows(rows, rows.labels, seed=0))
        assert sum(before[text] != after[text] for text in fewer.texts) <= 20

    def test_without_labels(self) -> None:
        rows = Rows(rows_of(100).texts, None, "unlabelled")
        assert len(split_rows(rows, None, seed=0).test) == 18

    def test_other_fractions(self) -> None:
        rows = rows_of(100)
        splits = split_rows(rows, rows.labels, 0, Fractions(0.5, 0.0, 0.2))
        assert [len(getattr(splits, name)) for name in SPLIT_NAMES] == [50, 0, 10, 40]

    @pytest.mark.parametrize("shares", [(0.6, 0.4, 0.1), (-0.1, 0.1, 0.1), (0.1, 0.1, 1.0)])
    def test_fractions_must_leave_training_rows(self, shares: tuple[float, float, float]) -> None:
        with pytest.raises(DataError, match="leave no training rows"):
            Fractions(*shares)


class TestSplitsWith:
    def test_one_file(self) -> None:
        rows = rows_of(200)
        splits = splits_with(rows, seed=4)
        direct = split_rows(rows, rows.labels, seed=4)
        for name in SPLIT_NAMES:
            assert getattr(splits, name) == rows.select(getattr(direct, name))
        assert splits.seed == 4
        assert (splits.dropped_main, splits.dropped_selection, splits.dropped_test) == (0, 0, 0)

    def test_both_files(self) -> None:
        rows, selection, test = rows_of(100), rows_of(20, prefix="eval"), rows_of(30, prefix="test")
        splits = splits_with(rows, selection, test)
        assert splits.selection == selection
        assert splits.test == test
        assert (len(splits.train), len(splits.validation)) == (90, 10)

    def test_one_of_the_files(self) -> None:
        rows, other = rows_of(100), rows_of(20, prefix="other")
        with_test = splits_with(rows, test_rows=other)
        assert with_test.test == other
        assert len(with_test.selection) == 9
        with_eval = splits_with(rows, other)
        assert with_eval.selection == other
        assert len(with_eval.test) == 18
        for splits in (with_test, with_eval):
            own = texts_of(splits)
            assert set.union(*own.values()) == set(rows.texts) | set(other.texts)

    def test_equal_rows_are_dropped_and_counted(self) -> None:
        rows = rows_of(100)
        test = Rows(("ROW 1", "row  2", "test 1"), ("pos", "neg", "pos"), "test")
        selection = Rows(("row 3", "Test 1", "eval 1"), ("pos", "neg", "pos"), "eval")
        splits = splits_with(rows, selection, test)
        assert splits.test == test
        assert splits.selection.texts == ("row 3", "eval 1")
        assert (splits.dropped_main, splits.dropped_selection, splits.dropped_test) == (3, 1, 0)
        trained = row_hashes(splits.train) | row_hashes(splits.validation)
        assert not trained & splits.held_out_hashes
        assert splits.held_out_hashes == row_hashes(test) | row_hashes(splits.selection)
        assert len(trained) == 97

    def test_empty_splits_are_refused(self) -> None:
        with pytest.raises(DataError, match="no validation rows are left of row"):
            splits_with(rows_of(4))
        with pytest.raises(DataError, match="no training rows are left"):
            splits_with(rows_of(20), test_rows=rows_of(20))
        with pytest.raises(DataError, match="no selection rows are left"):
            splits_with(rows_of(100), rows_of(9, prefix="t"), rows_of(9, prefix="t"))
        assert not splits_with(rows_of(100), fractions=Fractions(selection=0)).selection

    def test_pairs_and_single_texts_do_not_mix(self) -> None:
        pairs = Rows((("a", "b"),), (1,), "pairs")
        with pytest.raises(DataError, match="row and pairs holds pairs"):
            splits_with(rows_of(100), test_rows=pairs)


class TestSavedSplits:
    def test_saved_and_loaded(self, tmp_path: Path) -> None:
        rows = rows_of(200)
        doubled = rows.select([*range(200), *range(50)])
        splits = splits_with(doubled, seed=7, fractions=Fractions(0.2, 0.1, 0.1))
        path = save_splits(tmp_path, splits)
        saved = load_splits(tmp_path)
        assert path == tmp_path / SPLITS_FILE
        assert list(tmp_path.iterdir()) == [path]
        assert saved is not None
        assert (saved.seed, saved.fractions) == (7, Fractions(0.2, 0.1, 0.1))
        assert saved.hashes["test"] == row_hashes(splits.test)
        assert sum(saved.num_rows.values()) == 250
        assert saved.trained_on == row_hashes(splits.train) | row_hashes(splits.validation)
        applied = apply_saved(doubled, saved)
        assert applied.unknown == 0
        for name in SPLIT_NAMES:
            assert doubled.select(getattr(applied, name)) == getattr(splits, name)

    def test_no_text_is_written(self, tmp_path: Path) -> None:
        path = save_splits(tmp_path, splits_with(rows_of(100, prefix="secret")))
        assert "secret" not in path.read_text()

    def test_known_rows_stay_and_unknown_ones_are_split(self, tmp_path: Path) -> None:
        rows = rows_of(200)
        save_splits(tmp_path, splits_with(rows, seed=2))
        saved = load_splits(tmp_path)
        assert saved is not None
        grown = Rows(
            (*rows_of(100, prefix="new").texts, *rows.texts), ("pos", "neg") * 150, "grown"
        )
        applied = apply_saved(grown, saved)
        assert applied.unknown == 100
        assert applied.seed == 2
        places = split_of_text(grown, applied)
        assert {text: places[text] for text in rows.texts} == split_of_text(
            rows, split_rows(rows, rows.labels, seed=2)
        )
        new = Counter(places[text] for text in grown.texts[:100])
        assert new == {"test": 18, "selection": 9, "validation": 7, "train": 66}

    def test_saved_seed_and_fractions_hold(self, tmp_path: Path) -> None:
        rows = rows_of(100)
        first = splits_with(rows, seed=2, fractions=Fractions(0.3, 0.1, 0.1))
        save_splits(tmp_path, first)
        again = splits_with(rows, seed=9, saved=load_splits(tmp_path))
        assert again == first

    def test_separate_files_are_reused(self, tmp_path: Path) -> None:
        rows, selection, test = rows_of(100), rows_of(20, prefix="eval"), rows_of(30, prefix="test")
        first = splits_with(rows, selection, test)
        save_splits(tmp_path, first)
        assert splits_with(rows, selection, test, saved=load_splits(tmp_path)) == first

    def test_rows_trained_on_never_judge(self, tmp_path: Path) -> None:
        rows = rows_of(200)
        first = splits_with(rows)
        save_splits(tmp_path, first)
        saved = load_splits(tmp_path)
        seen = first.train.select([0, 1]), first.validation.select([0])
        test = Rows((*seen[0].texts, *seen[1].texts, "fresh"), ("pos",) * 4, "test")
        splits = splits_with(rows, test_rows=test, saved=saved)
        assert splits.test.texts == ("fresh",)
        assert splits.dropped_test == 3
        assert set(splits.train.texts) == set(first.train.texts) | set(first.test.texts)
        assert splits.selection == first.selection
        with pytest.raises(DataError, match="no test rows are left.*trained on before"):
            splits_with(rows, test_rows=first.train, saved=saved)

    def test_rows_freed_by_a_file_are_for_training(self, tmp_path: Path) -> None:
        rows, other = rows_of(200), rows_of(20, prefix="other")
        first = splits_with(rows)
        save_splits(tmp_path, first)
        splits = splits_with(rows, other, saved=load_splits(tmp_path))
        assert splits.selection == other
        assert splits.test == first.test
        assert splits.validation == first.validation
        assert set(splits.train.texts) == set(first.train.texts) | set(first.selection.texts)

    def test_none_saved(self, tmp_path: Path) -> None:
        assert load_splits(tmp_path) is None
        assert load_splits(tmp_path / "no such folder") is None

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 2}', '{"format": 1}'])
    def test_damaged(self, tmp_path: Path, text: str) -> None:
        (tmp_path / SPLITS_FILE).write_text(text)
        with pytest.raises(DataError, match="is not a description of splits"):
            load_splits(tmp_path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("seed", "x"),
            ("fractions", {"test": "much"}),
            ("fractions", {"exam": 0.1}),
            ("fractions", {"test": 1.5}),
            ("hashes", {}),
            ("hashes", []),
            ("num_rows", {"train": None}),
        ],
    )
    def test_strange_values(self, tmp_path: Path, key: str, value: object) -> None:
        path = save_splits(tmp_path, splits_with(rows_of(100)))
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
        with pytest.raises(DataError, match="is not a description of splits") as raised:
            load_splits(tmp_path)
        assert "\n" not in str(raised.value)

    def test_not_text(self, tmp_path: Path) -> None:
        (tmp_path / SPLITS_FILE).write_bytes(b"\xff")
        with pytest.raises(DataError, match="cannot be read"):
            load_splits(tmp_path)

    def test_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="cannot be written"):
            save_splits(tmp_path / "no such folder", splits_with(rows_of(100)))

    def test_a_later_save_replaces_the_file(self, tmp_path: Path) -> None:
        first = splits_with(rows_of(100), seed=1)
        save_splits(tmp_path, first)
        save_splits(tmp_path, replace(first, seed=8))
        saved = load_splits(tmp_path)
        assert saved is not None
        assert saved.seed == 8
