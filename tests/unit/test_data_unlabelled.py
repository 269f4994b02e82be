import json
from pathlib import Path

import pytest

from miaotui.data.held_out import splits_with
from miaotui.data.rows import Columns, Rows
from miaotui.data.split import row_hash
from miaotui.data.unlabelled import Unlabelled, load_unlabelled
from miaotui.errors import DataError


def test_held_out_and_duplicate_texts_are_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("New one\nheld OUT\nnew  ONE\n第二句\nheld out\n第二句\n", encoding="utf-8")
    found = load_unlabelled(path, {row_hash("Held out")})
    assert found == Unlabelled(("New one", "第二句"), dropped_equal=2, dropped_duplicates=2)
    assert len(found) == 2


def test_rows_of_the_splits(tmp_path: Path) -> None:
    texts = tuple(f"row {i}" for i in range(100))
    splits = splits_with(Rows(texts, (0, 1) * 50, "rows"))
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"{text},\n" for text in texts), encoding="utf-8")
    found = load_unlabelled(path, splits.held_out_hashes)
    assert set(found.texts) == set(splits.train.texts) | set(splits.validation.texts)
    assert found.dropped_equal == len(splits.selection) + len(splits.test)
    assert found.dropped_duplicates == 0


def test_pairs_and_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"left": "a", "right": "b"}, {"left": "c", "right": "d"}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = load_unlabelled(path, {row_hash(("C", "d"))}, Columns("left", "right"))
    assert found == Unlabelled((("a", "b"),), dropped_equal=1, dropped_duplicates=0)


def test_everything_may_be_dropped(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("one\n", encoding="utf-8")
    assert load_unlabelled(path, frozenset({row_hash("one")})) == Unlabelled((), 1, 0)


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_unlabelled(tmp_path / "none.txt", set())
