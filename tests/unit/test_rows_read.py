"""What is said of a file that was read: counts, lengths, and what was left out or guessed."""

from pathlib import Path

import pytest

from miaotui.report.rows_read import read_line
from miaotui.tasks import Task
from miaotui.tasks.problems import Problem
from miaotui.tasks.rows_read import RowsRead, rows_read
from miaotui.tasks.text_classification import TextClassification
from miaotui.tasks.token_classification import TokenClassification
from tiny import TAGS, tiny_tokenizer


def task(problem: Problem = Problem.SINGLE_LABEL) -> Task:
    return TextClassification.of(tiny_tokenizer(), ("neg", "pos"), problem, 96)


def read(path: Path, content: str | bytes, reader: Task, labelled: bool = True) -> RowsRead:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return rows_read(reader, reader.read_rows(path, labelled=labelled))


def test_classes_are_counted(tmp_path: Path) -> None:
    content = "id,Review,Sentiment\n1,the film,neg\n2,a dull story,pos\n3,the,pos\n4,,pos\n5,a,\n"

    found = read(tmp_path / "rows.csv", content, task())

    assert (found.rows, found.dropped, found.columns) == (3, 2, ("Review", "Sentiment"))
    assert list(found.classes.items()) == [("pos", 2), ("neg", 1)]
    assert read_line(found) == (
        f"{tmp_path}/rows.csv: 3 rows (Review, Sentiment) of text-classification; 2 classes: "
        "pos 2, neg 1; 4 tokens in the median, 5 at most; 2 left out"
    )


def test_guesses_about_the_file_are_in_its_notes(tmp_path: Path) -> None:
    content = "文本;标签\n这部电影，太好看了;1.0\n剧情拖沓;0.0\n".encode("gb18030")

    notes = read(tmp_path / "rows.csv", content, task()).notes

    said = ("GB18030", "a semicolon", "classes 0, 1")
    assert [word in note for word, note in zip(said, notes, strict=True)] == [True] * 3


def test_values_are_told_by_their_range(tmp_path: Path) -> None:
    found = read(tmp_path / "rows.csv", "text,label\na,0.5\nb,-2\nc,7\n", task(Problem.REGRESSION))

    assert (found.classes, found.values) == ({}, (-2.0, 7.0))
    assert "; values -2 to 7; " in read_line(found)


def test_of_several_labels_each_counts(tmp_path: Path) -> None:
    content = '{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": ["y"]}\n'

    found = read(tmp_path / "rows.jsonl", content, task(Problem.MULTI_LABEL))

    assert "2 classes: y 2, x 1" in read_line(found)


def test_of_a_tagger_the_types_of_entities_count(tmp_path: Path) -> None:
    tagger = TokenClassification(tiny_tokenizer(), TAGS, 96)
    content = "the B-LOC\nfilm I-LOC\nis O\n\nwit B-PER\nand O\nwit B-PER\n"

    found = read(tmp_path / "rows.conll", content, tagger)

    assert "2 rows (word, tag) of token-classification; 2 classes: PER 2, LOC 1" in read_line(found)
    content = '{"text": "the film", "spans": [{"start": 0, "end": 3, "label": "LOC"}]}\n'
    spans = read(tmp_path / "rows.jsonl", content.encode("utf-16"), tagger)
    assert (spans.columns, len(spans.notes)) == (("text", "spans"), 1)


def test_without_labels_there_are_no_classes(tmp_path: Path) -> None:
    found = read(tmp_path / "rows.txt", "the film\n\na\n", task(), labelled=False)

    assert read_line(found) == (
        f"{tmp_path}/rows.txt: 3 rows (text) of text-classification; "
        "3 tokens in the median, 4 at most"
    )


def test_a_long_file_is_measured_by_rows_from_all_of_it(tmp_path: Path) -> None:
    content = "text,label\n" + "a,x\n" * 3000 + "the film is,y\n" * 3000

    found = read(tmp_path / "rows.csv", content, task())

    assert (found.rows, found.rows_measured, found.longest_tokens) == (6000, 2000, 5)
    assert "5 at most among 2,000 of them" in read_line(found)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (7, "7 classes: c0 7, c1 6, c2 5, c3 4, c4 3, c5 2, c6 1;"),
        (9, "9 classes: c0 9, c1 8, c2 7, c3 6, c4 5, c5 4, 3 more with 3 to 1;"),
        (1, "1 class: c0 1;"),
    ],
)
def test_many_classes_are_shortened(classes: int, said: str, tmp_path: Path) -> None:
    rows = "".join(f"a{i},c{i}\n" * (classes - i) for i in range(classes))

    assert said in read_line(read(tmp_path / "rows.csv", f"text,label\n{rows}", task()))


def test_a_long_name_of_a_class_stays_on_the_line(tmp_path: Path) -> None:
    found = read(tmp_path / "rows.csv", 'text,label\na,"' + "long\nname " * 20 + '"\n', task())

    assert "1 class: long name long name lon… 1" in read_line(found)
    assert "\n" not in read_line(found)
