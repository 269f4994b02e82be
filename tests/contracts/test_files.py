"""Files of rows as people have them: read as meant, guesses said, or refused in one line."""

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest

from miaotui.data.rows import Rows, load_rows
from miaotui.errors import DataError
from tiny_sheets import write_ods, write_xls, write_xlsx

TEXTS = ("这部电影，太好看了", 'said "so", twice', "剧情拖沓；\n不推荐", "a | b\tc")
LABELS = ("好评", "b, c", "差评", "d; e")


def table(separator: str = ",", header: tuple[str, str] = ("text", "label")) -> str:
    written = io.StringIO(newline="")
    rows = zip(TEXTS, LABELS, strict=True)
    csv.writer(written, delimiter=separator).writerows([header, *rows])
    return written.getvalue()


def save(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path) -> Rows:
    rows = load_rows(path)
    assert (rows.texts, rows.labels) == (TEXTS, LABELS)
    return rows


@pytest.mark.parametrize(
    ("separator", "said"), [(",", ""), (";", "a semicolon"), ("\t", "a tab"), ("|", "a bar")]
)
def test_separators(separator: str, said: str, tmp_path: Path) -> None:
    rows = read(save(tmp_path / "rows.csv", table(separator)))

    assert [said in note for note in rows.notes] == ([True] if said else [])


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", "UTF-16"),
        ("gb18030", "GB18030"),
        ("gbk", "GB18030"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_encodings(kind: str, encoding: str, said: str, tmp_path: Path) -> None:
    rows = [{"text": t, "label": label} for t, label in zip(TEXTS, LABELS, strict=True)]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    content = table() if kind == "csv" else lines

    found = read(save(tmp_path / f"rows.{kind}", content.encode(encoding)))

    assert [said in note for note in found.notes] == ([True] if said else [])


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "shift_jis"])
def test_other_encodings_are_refused_and_never_guessed_wrong(encoding: str, tmp_path: Path) -> None:
    text = "ひらがなとカタカナ" if encoding == "shift_jis" else "école déjà vu, naïve à côté"
    path = save(tmp_path / "rows.csv", f'text,label\n"{text}",1\n'.encode(encoding))

    with pytest.raises(DataError):
        load_rows(path)


@pytest.mark.parametrize("extension", ["gz", "zst"])
def test_compressed(extension: str, tmp_path: Path) -> None:
    raw = table().encode()
    packed = gzip.compress(raw) if extension == "gz" else pa.compress(raw, "zstd", asbytes=True)

    read(save(tmp_path / f"rows.csv.{extension}", packed))
    with pytest.raises(DataError, match=r"gzip|cannot be read"):
        load_rows(save(tmp_path / f"half.csv.{extension}", packed[: len(packed) // 2]))
    with pytest.raises(DataError, match="unpack it first"):
        load_rows(save(tmp_path / f"rows.parquet.{extension}", packed))


@pytest.mark.parametrize("text", ["review", "Content", "内容", "文本", "评论", "标题"])
@pytest.mark.parametrize("label", ["sentiment", "Category", "标签", "类别", "情感"])
def test_usual_names_of_columns(text: str, label: str, tmp_path: Path) -> None:
    read(save(tmp_path / "rows.csv", table(header=(text, label))))


def test_an_id_is_ignored_and_two_texts_are_asked_about(tmp_path: Path) -> None:
    path = save(tmp_path / "rows.csv", "id,text,label\n7,a,x\n8,b,y\n")
    assert load_rows(path).texts == ("a", "b")

    path = save(tmp_path / "rows.csv", "标题,内容,标签\na,b,x\n")
    with pytest.raises(DataError, match="'标题', '内容'.*--text-column"):
        load_rows(path)


@pytest.mark.parametrize(
    ("cells", "labels", "said"),
    [
        (["1.0", "0.0", "1.0"], (1, 0, 1), "whole are read as classes 0, 1"),
        (["1", "0.5", "1"], (1.0, 0.5, 1.0), ""),
        (["True", "False", "True"], ("True", "False", "True"), ""),
        (["[1, 0, 1]", "[0, 0, 0]", "[0, 1, 0]"], ((0, 2), (), (1,)), "a zero or one for every"),
        (["[1.0, 0.0, 1.0]", "[0.0, 0.0, 1.0]", "[0, 1, 0]"], ((0, 2), (2,), (1,)), "a zero or"),
        (["[1, 0]", "[0, 1]", "[1, 0]"], ((0,), (1,), (0,)), "a zero or one for every"),
        (["[1, 0]", "[0, 1]", "[0]"], ((1, 0), (0, 1), (0,)), ""),
    ],
)
def test_labels(cells: list[str], labels: tuple[object, ...], said: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip("abc", cells, strict=True)])

    rows = load_rows(path)

    assert rows.labels == labels
    assert [said in note for note in rows.notes] == ([True] if said else [])


def test_rows_without_a_label_or_a_text_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "label": 1},
        {"text": "b", "label": None},
        {"text": " ", "label": 0},
        {"text": None, "label": 0},
        {"text": "c", "label": 0},
    ]
    found = load_rows(save(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows))))

    assert (found.texts, found.labels) == (("a", "c"), (1, 0))
    assert [note.rpartition(", ")[2] for note in found.notes] == ["left out: 2", "left out: 1"]


def test_equal_texts_with_different_labels_are_counted_and_shown(tmp_path: Path) -> None:
    path = save(tmp_path / "rows.csv", "text,label\na,x\nb,x\na,y\n")

    (note,) = load_rows(path).notes

    assert note.endswith("different labels: 1, such as 'a'")


def test_without_labels_every_text_keeps_its_place(tmp_path: Path) -> None:
    path = save(tmp_path / "rows.csv", "text,label\na,x\n,y\nb,\n")

    assert load_rows(path, labelled=False).texts == ("a", "", "b")


def test_a_sheet_of_excel(tmp_path: Path) -> None:
    cells = [("id", "text", "label"), *((7, *row) for row in zip(TEXTS, LABELS, strict=True))]

    assert read(write_xlsx(tmp_path / "rows.xlsx", {"Sheet1": cells})).notes == ()
    assert read(write_xlsx(tmp_path / "ROWS.XLSM", {"empty": [], "all": cells})).notes == ()


@pytest.mark.parametrize(
    ("cells", "labels"),
    [((1, 0, 1.0), (1, 0, 1)), ((1, 0.5, 2), (1.0, 0.5, 2.0)), ((True, False, True), None)],
)
def test_cells_of_excel_are_read_as_it_shows_them(
    cells: tuple[float, ...], labels: tuple[object, ...] | None, tmp_path: Path
) -> None:
    """It stores all numbers as decimal ones; a text that is a number is a text."""
    rows = [
        ("text", "label"),
        *zip(("a", 2012, "c"), cells, strict=True),
        (None, None),
        ("d", None),
    ]

    found = load_rows(write_xlsx(tmp_path / "rows.xlsx", {"rows": rows}))

    assert found.texts == ("a", "2012", "c")
    assert found.labels == (labels or ("TRUE", "FALSE", "TRUE"))
    assert found.notes == (f"{found.source}: rows without a label, left out: 1",)


def test_of_several_sheets_the_first_visible_one_is_read_and_it_is_said(tmp_path: Path) -> None:
    cells = [("text", "label"), *zip(TEXTS, LABELS, strict=True)]
    sheets = {"old": [("text", "label"), ("x", "y")], "new": cells, "notes": [("done by", "me")]}

    (note,) = read(write_xlsx(tmp_path / "rows.xlsx", sheets, hidden=["old"])).notes

    assert note.endswith("is read from its sheet 'new', not from 'notes'")


def test_other_spreadsheets(tmp_path: Path) -> None:
    texts = [text.replace("\n", " ") for text in TEXTS]
    cells = [("text", "label"), *zip(texts, LABELS, strict=True)]
    assert load_rows(write_ods(tmp_path / "rows.ods", cells)).texts == tuple(texts)

    old = load_rows(write_xls(tmp_path / "rows.xls"))
    assert old.texts == ("这部电影，太好看了", 'said "so", twice', "a", "b")
    assert old.labels == ("1", "0", "1.5", "TRUE")


@pytest.mark.parametrize("kind", ["xlsx", "xls", "ods"])
def test_a_damaged_spreadsheet_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable spreadsheet"):
        load_rows(save(tmp_path / f"rows.{kind}", b"PK\x03\x04 and nothing more"))


@pytest.mark.parametrize("sheets", [{"Sheet1": []}, {"Sheet1": [(None, None)]}])
def test_a_spreadsheet_without_cells_is_refused(sheets: dict[str, list], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        load_rows(write_xlsx(tmp_path / "rows.xlsx", sheets))
