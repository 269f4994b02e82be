import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from miaotui.data.columns import LABEL_NAMES, PAIR_NAMES, TEXT_NAMES
from miaotui.data.rows import Columns, Rows, load_rows
from miaotui.errors import DataError

CHINESE = ("这部电影太好看了", "剧情拖沓，\n不推荐", "「很一般」")


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def write_json_lines(path: Path, *rows: object) -> Path:
    return write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def class_label_schema(table: pa.Table, feature: object) -> pa.Table:
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": feature}
    info = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": info})


def save_dataset(folder: Path, *shards: pa.Table, file_format: bool = False) -> Path:
    """What `Dataset.save_to_disk` leaves: Arrow streams and a state.json that lists them."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    new = pa.ipc.new_file if file_format else pa.ipc.new_stream
    for name, shard in zip(names, shards, strict=True):
        with new(str(folder / name), shard.schema) as writer:
            writer.write_table(shard)
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def two_rows() -> pa.Table:
    return pa.table({"text": ["good", "bad"], "label": [1, 0]})


def error_of(path: Path, columns: Columns | None = None, labelled: bool = True) -> str:
    """The message, which must be one line."""
    with pytest.raises(DataError) as raised:
        load_rows(path, columns or Columns(), labelled=labelled)
    message = str(raised.value)
    assert "\n" not in message
    return message


class TestFormats:
    def test_csv_with_quoted_newlines_and_further_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["idx", "text", "label", "notes"])
            for i, text in enumerate(CHINESE):
                writer.writerow([i, text, "好评" if i == 0 else "差评", 'a "quoted" note'])
        rows = load_rows(path)
        assert rows == Rows(CHINESE, ("好评", "差评", "差评"), str(path))
        assert len(rows) == 3

    def test_csv_with_byte_order_mark_blank_lines_and_crlf(self, tmp_path: Path) -> None:
        path = write(tmp_path / "rows.csv", "\ufefftext,label\r\n\r\ngood,1\r\nbad,0\r\n")
        rows = load_rows(path)
        assert rows.texts == ("good", "bad")
        assert rows.labels == (1, 0)

    def test_csv_with_a_very_long_field_restores_the_limit(self, tmp_path: Path) -> None:
        before = csv.field_size_limit()
        long = "word " * 40_000
        rows = load_rows(write(tmp_path / "rows.csv", f"text,label\n{long},1\nshort,0\n"))
        assert rows.texts == (long, "short")
        assert csv.field_size_limit() == before

    def test_tsv(self, tmp_path: Path) -> None:
        path = write(tmp_path / "rows.tsv", 'sentence\tlabel\nso, so\t0\n"a\ttab"\t1\n')
        rows = load_rows(path)
        assert rows.texts == ("so, so", "a\ttab")
        assert rows.labels == (0, 1)

    def test_json_lines_with_unicode_line_separators(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        write(path, '{"text": "one\u2028line", "label": "x"}\n\n{"text": "two", "label": "y"}')
        rows = load_rows(path)
        assert rows.texts == ("one\u2028line", "two")
        assert rows.labels == ("x", "y")

    @pytest.mark.parametrize("indent", [None, 2])
    def test_json_array(self, tmp_path: Path, indent: int | None) -> None:
        rows = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
        path = write(tmp_path / "rows.json", json.dumps(rows, indent=indent))
        assert load_rows(path).labels == (0, 1)

    def test_json_extension_with_one_object_a_line(self, tmp_path: Path) -> None:
        path = write_json_lines(tmp_path / "rows.json", {"text": "a", "label": 0})
        assert load_rows(path).texts == ("a",)

    def test_parquet_in_a_folder_named_like_a_partition(self, tmp_path: Path) -> None:
        path = tmp_path / "label=7" / "rows.PARQUET"
        path.parent.mkdir()
        pa.parquet.write_table(two_rows(), str(path))
        rows = load_rows(str(path))
        assert rows == Rows(("good", "bad"), (1, 0), str(path))

    @pytest.mark.parametrize("file_format", [False, True])
    def test_saved_dataset_in_the_order_of_its_shards(
        self, tmp_path: Path, file_format: bool
    ) -> None:
        more = pa.table({"text": ["third"], "label": [1]})
        folder = save_dataset(tmp_path / "saved", two_rows(), more, file_format=file_format)
        rows = load_rows(folder)
        assert rows.texts == ("good", "bad", "third")
        assert rows.labels == (1, 0, 1)
        assert rows.label_order is None

    def test_saved_dataset_without_state_reads_its_shards(self, tmp_path: Path) -> None:
        folder = save_dataset(tmp_path / "saved", two_rows(), two_rows())
        (folder / "state.json").unlink()
        assert load_rows(folder).texts == ("good", "bad", "good", "bad")

    def test_arrow_file(self, tmp_path: Path) -> None:
        folder = save_dataset(tmp_path / "saved", two_rows())
        assert load_rows(folder / "data-00000-of-00001.arrow").labels == (1, 0)

    def test_dataset_dict_of_one_split(self, tmp_path: Path) -> None:
        save_dataset(tmp_path / "saved" / "train", two_rows())
        assert load_rows(tmp_path / "saved").texts == ("good", "bad")

    def test_plain_text_keeps_a_row_for_every_line(self, tmp_path: Path) -> None:
        path = write(tmp_path / "texts.txt", "first, line\n\n第三行\r\n")
        rows = load_rows(path, labelled=False)
        assert rows == Rows(("first, line", "", "第三行"), None, str(path))

    def test_unlabelled_ignores_labels(self, tmp_path: Path) -> None:
        path = write(tmp_path / "rows.csv", "text,label\ngood,\nbad,1\n")
        assert load_rows(path, Columns(label="none such"), labelled=False).labels is None

    def test_text_formats_do_not_import_pyarrow(self, tmp_path: Path) -> None:
        path = write(tmp_path / "rows.csv", "text,label\ngood,1\n")
        program = (
            "import sys; from miaotui.data.rows import load_rows; "
            "load_rows(sys.argv[1]); sys.exit('pyarrow' in sys.modules)"
        )
        assert (
            subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 0
        )


class TestColumns:
    @pytest.mark.parametrize("names", PAIR_NAMES)
    def test_every_usual_pair(self, tmp_path: Path, names: tuple[str, str]) -> None:
        first, second = names
        row = {second: "two", "label": "x", first.upper(): "one", "idx": 3}
        assert load_rows(write_json_lines(tmp_path / "r.jsonl", row)).texts == (("one", "two"),)

    @pytest.mark.parametrize("name", TEXT_NAMES)
    def test_every_usual_text(self, tmp_path: Path, name: str) -> None:
        path = write_json_lines(tmp_path / "r.jsonl", {"idx": 3, name: "one", "label": "x"})
        assert load_rows(path).texts == ("one",)

    @pytest.mark.parametrize("name", [name for group in LABEL_NAMES for name in group])
    def test_every_usual_label(self, tmp_path: Path, name: str) -> None:
        path = write_json_lines(tmp_path / "r.jsonl", {"text": "one", name.title(): "x"})
        assert load_rows(path).labels == ("x",)

    def test_label_comes_before_the_other_names(self, tmp_path: Path) -> None:
        row = {"text": "one", "score": 0.3, "label": "x", "category": "c"}
        assert load_rows(write_json_lines(tmp_path / "r.jsonl", row)).labels == ("x",)

    def test_named_columns(self, tmp_path: Path) -> None:
        path = write_json_lines(
            tmp_path / "r.jsonl", {"a": "one", "b": "two", "c": 4, "text": "no"}
        )
        assert load_rows(path, Columns("a", "b", "c")) == Rows((("one", "two"),), (4,), str(path))

    def test_a_named_text_alone_means_single_texts(self, tmp_path: Path) -> None:
        path = write_json_lines(
            tmp_path / "r.jsonl", {"premise": "p", "hypothesis": "h", "label": 0}
        )
        assert load_rows(path, Columns(text="hypothesis")).texts == ("h",)

    def test_a_named_pair_joins_the_usual_text(self, tmp_path: Path) -> None:
        path = write_json_lines(tmp_path / "r.jsonl", {"query": "q", "reply": "r", "label": 0})
        assert load_rows(path, Columns(pair="reply")).texts == (("q", "r"),)

    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            ({"phrase": "x", "label": 1}, "no text column .* --text-column; it has 'phrase'"),
            ({"text": "x", "outcome": 1}, "no label column .* --label-column; it has 'text', 'out"),
            ({"text": "x", "review": "y", "label": 1}, "could be the text .*--text-column"),
            ({"text": "x", "stars": 1, "topic": 1}, r"could be the label \('stars', 'topic'\)"),
            (
                {"premise": "x", "hypothesis": "y", "question": "q", "answer": "a", "label": 1},
                "'premise', 'hypothesis', 'question', 'answer'.*--pair-column",
            ),
        ],
    )
    def test_missing_and_ambiguous(
        self, tmp_path: Path, row: dict[str, object], expected: str
    ) -> None:
        assert re.search(expected, error_of(write_json_lines(tmp_path / "r.jsonl", row)))

    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            (Columns(text="txt"), "'txt' for --text-column; it has 'text', 'label'"),
            (Columns(pair="p"), "'p' for --pair-column"),
            (Columns(label="l"), "'l' for --label-column"),
            (Columns(text="label", label="label"), "two purposes"),
        ],
    )
    def test_named_wrongly(self, tmp_path: Path, columns: Columns, expected: str) -> None:
        path = write_json_lines(tmp_path / "r.jsonl", {"text": "x", "label": 1})
        assert expected in error_of(path, columns)


class TestLabels:
    @pytest.mark.parametrize(
        ("cells", "expected"),
        [
            (["1", "0", "-2"], (1, 0, -2)),
            (["1", "2.5", "3"], (1.0, 2.5, 3.0)),
            (["1", "2.0", "3"], (1, 2, 3)),
            (["1e-1", ".5", " 2. "], (0.1, 0.5, 2.0)),
            (["1", "b"], ("1", "b")),
            (["007", "010"], ("007", "010")),
            (["a b ", "c"], ("a b", "c")),
            (['["a","b"]', "[]"], (("a", "b"), ())),
            (["[0, 3]", "[2]"], ((0, 3), (2,))),
        ],
    )
    def test_from_csv(self, tmp_path: Path, cells: list[str], expected: tuple[object, ...]) -> None:
        path = tmp_path / "rows.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["text", "label"], *(["x", cell] for cell in cells)])
        labels = load_rows(path).labels
        assert labels == expected
        assert [type(label) for label in labels or ()] == [type(label) for label in expected]

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([1, 0], (1, 0)),
            ([True, False], (1, 0)),
            ([1.0, 2.0], (1, 2)),
            ([float(i) for i in range(30)], tuple(float(i) for i in range(30))),
            ([1, 2.5], (1.0, 2.5)),
            (["1", "0"], ("1", "0")),
            ([["a"], []], (("a",), ())),
            (['["a"]', "[]"], (("a",), ())),
        ],
    )
    def test_from_typed_cells(
        self, tmp_path: Path, values: list[object], expected: tuple[object, ...]
    ) -> None:
        rows = [{"text": "x", "label": value} for value in values]
        labels = load_rows(write_json_lines(tmp_path / "r.jsonl", *rows)).labels
        assert labels == expected
        assert [type(label) for label in labels or ()] == [type(label) for label in expected]

    def test_float_and_list_columns_of_parquet(self, tmp_path: Path) -> None:
        table = pa.table({"text": ["a", "b"], "score": [1.5, 2.0], "labels": [["x", "y"], []]})
        pa.parquet.write_table(table, str(tmp_path / "r.parquet"))
        path = tmp_path / "r.parquet"
        assert load_rows(path).labels == (("x", "y"), ())
        scores = load_rows(path, Columns(label="score")).labels
        assert scores == (1.5, 2.0)
        assert all(isinstance(score, float) for score in scores or ())

    def test_class_names_replace_indices(self, tmp_path: Path) -> None:
        feature = {"names": ["neg", "pos"], "_type": "ClassLabel"}
        folder = save_dataset(tmp_path / "saved", class_label_schema(two_rows(), feature))
        rows = load_rows(folder)
        assert rows.labels == ("pos", "neg")
        assert rows.label_order == ("neg", "pos")
        assert rows.select([1]) == Rows(("bad",), ("neg",), str(folder), ("neg", "pos"))

    @pytest.mark.parametrize("kind", ["Sequence", "List", None])
    def test_class_names_inside_lists(self, tmp_path: Path, kind: str | None) -> None:
        item = {"names": ["joy", "fear"], "_type": "ClassLabel"}
        feature = [item] if kind is None else {"feature": item, "_type": kind}
        table = pa.table({"text": ["a", "b"], "label": [[0, 1], []]})
        pa.parquet.write_table(class_label_schema(table, feature), str(tmp_path / "r.parquet"))
        assert load_rows(tmp_path / "r.parquet").labels == (("joy", "fear"), ())

    def test_metadata_of_others_is_ignored(self, tmp_path: Path) -> None:
        table = two_rows().replace_schema_metadata({"huggingface": "[1, {"})
        pa.parquet.write_table(table, str(tmp_path / "r.parquet"))
        assert load_rows(tmp_path / "r.parquet").labels == (1, 0)


class TestBadInput:
    def test_missing_file(self, tmp_path: Path) -> None:
        assert "does not exist; give a file" in error_of(tmp_path / "none.csv")

    @pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.jsonl", "r.parquet", "r.arrow", "r.odt"])
    def test_zero_bytes(self, tmp_path: Path, name: str) -> None:
        assert "is empty (0 bytes)" in error_of(write(tmp_path / name, ""))

    @pytest.mark.parametrize(
        ("name", "text"),
        [("r.csv", "text,label\n"), ("r.jsonl", "\n \n"), ("r.json", "[]"), ("r.json", "[{}]")],
    )
    def test_no_rows(self, tmp_path: Path, name: str, text: str) -> None:
        assert "has no rows; give a file" in error_of(write(tmp_path / name, text))

    def test_no_rows_in_arrow_formats(self, tmp_path: Path) -> None:
        pa.parquet.write_table(two_rows().slice(0, 0), str(tmp_path / "r.parquet"))
        assert "has no rows" in error_of(tmp_path / "r.parquet")
        assert "has no rows" in error_of(save_dataset(tmp_path / "saved"))

    @pytest.mark.parametrize("name", ["rows.pdf", "rows", "rows.csv.zip"])
    def test_unknown_extension(self, tmp_path: Path, name: str) -> None:
        message = error_of(write(tmp_path / name, "text,label\na,1\n"))
        assert "unknown extension" in message
        assert ".parquet" in message

    def test_plain_text_has_no_labels(self, tmp_path: Path) -> None:
        assert "a .txt file has no labels" in error_of(write(tmp_path / "r.txt", "one\n"))
        message = error_of(write(tmp_path / "r.doc", "one\n"), labelled=False)
        assert "expected .txt, .csv" in message

    @pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.jsonl", "r.json"])
    def test_not_utf8(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_bytes("text,label\nécole déjà,1\n".encode("latin-1"))
        message = error_of(path)
        assert "is neither UTF-8 (byte 11)" in message
        assert f"iconv -f ENCODING -t UTF-8 {name}" in message

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("text,label\na,1\nb,c,1\n", "line 3 has 3 fields but the header has 2"),
            ('text,label\n"a\nb",1\nb\n', "line 4 has 1 fields"),
            ('text,label\na,1\n"b,1\nc,0\n', "line 3 is malformed"),
            ('text,label\n"a"b,1\n', "line 2 is malformed"),
            ("text,text,label\na,b,1\n", "two columns are named 'text'"),
            ("\n\n", "has no header"),
        ],
    )
    def test_malformed_csv(self, tmp_path: Path, text: str, expected: str) -> None:
        assert expected in error_of(write(tmp_path / "r.csv", text))

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("r.jsonl", '{"text": "a", "label": 1}\n{"text": \n', "line 2 is not valid JSON"),
            ("r.jsonl", '{"text": "a", "label": 1}\n["b", 1]\n', "line 2 is not an object"),
            ("r.json", '[{"text": "a"},\n {"text" "b"}]', "line 2 is not valid JSON"),
            ("r.json", '[{"text": "a"}, 3]', "item 2 is not an object"),
            ("r.jsonl", "[" * 100_000, "line 1 cannot be read as a row"),
            ("r.jsonl", '{"label": ' + "9" * 5000 + "}", "line 1 cannot be read as a row"),
        ],
    )
    def test_malformed_json(self, tmp_path: Path, name: str, text: str, expected: str) -> None:
        assert expected in error_of(write(tmp_path / name, text))

    def test_damaged_arrow_files(self, tmp_path: Path) -> None:
        assert "not a readable Parquet" in error_of(write(tmp_path / "r.parquet", "nonsense"))
        assert "not a readable Arrow" in error_of(write(tmp_path / "r.arrow", "nonsense"))
        folder = save_dataset(tmp_path / "saved", two_rows())
        (folder / "data-00000-of-00001.arrow").unlink()
        assert "data-00000-of-00001.arrow is not a readable" in error_of(folder)
        write(folder / "state.json", "{}")
        assert "does not list the data files" in error_of(folder)

    def test_shards_that_do_not_fit(self, tmp_path: Path) -> None:
        other = pa.table({"text": ["c"], "label": ["one"]})
        folder = save_dataset(tmp_path / "saved", two_rows(), other)
        assert "do not fit together" in error_of(folder)

    def test_dataset_dict_lists_its_splits(self, tmp_path: Path) -> None:
        for split in ("train", "test"):
            save_dataset(tmp_path / "saved" / split, two_rows())
        message = error_of(tmp_path / "saved")
        assert "point at one of them" in message
        assert f"{tmp_path / 'saved' / 'test'}, {tmp_path / 'saved' / 'train'}" in message

    def test_download_cache_is_never_joined(self, tmp_path: Path) -> None:
        for split in ("train", "test"):
            folder = save_dataset(tmp_path / split, two_rows())
            (folder / "data-00000-of-00001.arrow").rename(tmp_path / f"movies-{split}.arrow")
            (folder / "state.json").unlink()
        assert "movies-test.arrow" in error_of(tmp_path)

    def test_folder_of_something_else(self, tmp_path: Path) -> None:
        assert "holds no Arrow files" in error_of(tmp_path)

    def test_labels_that_are_all_missing(self, tmp_path: Path) -> None:
        path = write(tmp_path / "r.csv", "text,label\na,\nb, \n")
        assert "has no label in any row; name another" in error_of(path)

    def test_secret_labels_are_missing(self, tmp_path: Path) -> None:
        feature = {"names": ["neg", "pos"], "_type": "ClassLabel"}
        secret = pa.table({"text": ["a", "b"], "label": [0, -1]})
        pa.parquet.write_table(class_label_schema(secret, feature), str(tmp_path / "r.parquet"))
        rows = load_rows(tmp_path / "r.parquet")
        assert (rows.texts, rows.labels) == (("a",), ("neg",))
        assert "without a label, left out: 1" in rows.notes[0]
        wrong = pa.table({"text": ["a"], "label": [2]})
        pa.parquet.write_table(class_label_schema(wrong, feature), str(tmp_path / "r.parquet"))
        assert "class 2 does not exist" in error_of(tmp_path / "r.parquet")

    @pytest.mark.parametrize(
        ("labels", "expected"),
        [
            (["a", 1], "found string in row 1, integer in row 2"),
            ([{"a": 1}], "found dict in row 1"),
            ([["a"], [1]], "integers and strings"),
            ([[0.5]], "must name the classes that hold"),
            ([[["a"]]], "must name the classes that hold"),
            ([[0, 3, 0]], "not a zero or one for every class"),
            (["Good", " good"], "'Good' and ' good' differ in case or spaces only"),
            ([["joy"], ["fear", "Joy"]], "'joy' and 'Joy' differ in case or spaces only"),
            (["['a', 'b']"], "is not a JSON list"),
            ([1.0, float("inf")], "row 2: inf is not a value to learn"),
        ],
    )
    def test_strange_labels(self, tmp_path: Path, labels: list[object], expected: str) -> None:
        rows = [{"text": "x", "label": label} for label in labels]
        assert expected in error_of(write_json_lines(tmp_path / "r.jsonl", *rows))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (5, "row 2 is of type int, expected a text"),
            ("\ud83d", "row 2 holds half a character"),
        ],
    )
    def test_strange_texts(self, tmp_path: Path, text: object, expected: str) -> None:
        rows = [{"text": "a", "label": 1}, {"text": text, "label": 0}]
        path = write(tmp_path / "r.jsonl", "\n".join(map(json.dumps, rows)))
        assert expected in error_of(path)
        path = write(tmp_path / "pair.jsonl", path.read_text().replace('"label"', '"text2"'))
        assert "column 'text" in error_of(path, labelled=False)
