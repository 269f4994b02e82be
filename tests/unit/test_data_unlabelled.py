import json
from collections.abc import Set
from pathlib import Path

from miaotui.data.held_out import splits_with
from miaotui.data.rows import ANY_COLUMNS, Columns, Rows, load_rows
from miaotui.data.split import row_hash
from miaotui.data.unlabelled import Unlabelled, distinct


def read(path: Path, held_out: Set[str], columns: Columns = ANY_COLUMNS) -> Unlabelled:
    return distinct(load_rows(path, columns, labelled=False).texts, held_out)


def test_held_out_and_duplicate_texts_are_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("New one\nheld OUT\nnew  ONE\n第二句\nheld out\n第二句\n", encoding="utf-8")
    found = read(path, {row_hash("Held out")})
    assert found == Unlabelled(("New one", "第二句"), dropped_equal=2, dropped_duplicates=2)
    assert len(found) == 2


def test_rows_of_the_splits(tmp_path: Path) -> None:
    texts = tuple(f"row {i}" for i in range(100))
    splits = splits_with(Rows(texts, (0, 1) * 50, "rows"))
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"{text},\n" for text in texts), encoding="utf-8")
    found = read(path, splits.held_out_hashes)
    assert set(found.texts) == set(splits.train.texts) | set(splits.validation.texts)
    assert found.dropped_equal == len(splits.selection) + len(splits.test)
    assert found.dropped_duplicates == 0


def test_pairs_and_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"left": "a", "right": "b"}, {"left": "c", "right": "d"}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = read(path, {row_hash(("C", "d"))}, Columns("left", "right"))
    assert found == Unlabelled((("a", "b"),), dropped_equal=1, dropped_duplicates=0)


def test_everything_may_be_dropped(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("one\n", encoding="utf-8")
    assert read(path, frozenset({row_hash("one")})) == Unlabelled((), 1, 0)
