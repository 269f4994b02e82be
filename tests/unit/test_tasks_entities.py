"""Taggers: rows as people have them, words and windows, and F1 as the seqeval package has it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from miaotui.data.columns import ANY_COLUMNS
from miaotui.data.inputs import Words
from miaotui.errors import DataError
from miaotui.tasks.entities import Tags, read_spans
from miaotui.tasks.entity_rows import holds_entities, read_entity_rows
from miaotui.tasks.outputs import Outputs
from miaotui.tasks.token_classification import TokenClassification, entity_counts, micro_f1
from miaotui.tasks.words import join_words, split_words
from tiny import tiny_tokenizer

SENTENCES = [
    (["Ada", "Lovelace", "lived", "in", "London"], ["B-PER", "I-PER", "O", "O", "B-LOC"]),
    (["Nobody", "did"], ["O", "O"]),
    (["Paris", "Rome"], ["B-LOC", "B-LOC"]),
]
SCHEMES = {
    "BIO": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
    "BIOES": ("O", *(f"{letter}-{kind}" for kind in ("PER", "LOC") for letter in "BIES")),
}


def columns(sentences: list[tuple[list[str], list[str]]], between: str) -> str:
    blocks = [
        "\n".join(between.join((word, "NN", tag)) for word, tag in zip(*sentence, strict=True))
        for sentence in sentences
    ]
    return "\n\n".join(["-DOCSTART- -X- O", *blocks, ""])


def read(path: Path, text: str) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]], list[str]]:
    path.write_text(text, encoding="utf-8")
    assert holds_entities(path)
    rows = read_entity_rows(path, ANY_COLUMNS, labelled=True)
    words = [text.words for text in rows.texts if isinstance(text, Words)]
    return [tuple(w) for w in words], list(rows.labels or ()), list(rows.notes)  # type: ignore[arg-type]


@pytest.mark.parametrize("between", [" ", "\t"], ids=["space", "tab"])
def test_conll_columns(tmp_path: Path, between: str) -> None:
    words, tags, notes = read(tmp_path / "rows.conll", columns(SENTENCES, between))
    assert words == [tuple(words) for words, _ in SENTENCES]
    assert tags == [tuple(tags) for _, tags in SENTENCES]
    assert notes == []


def test_tokens_with_tags_in_json_lines_and_parquet(tmp_path: Path) -> None:
    table = [{"tokens": words, "tags": tags} for words, tags in SENTENCES]
    words, tags, _ = read(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, table)))
    assert (words[0], tags[0]) == (tuple(SENTENCES[0][0]), tuple(SENTENCES[0][1]))
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "rows.parquet")
    rows = read_entity_rows(tmp_path / "rows.parquet", ANY_COLUMNS, labelled=True)
    assert rows.labels == tuple(tuple(tags) for _, tags in SENTENCES)


def test_spans_of_characters_cut_the_words_they_end_in(tmp_path: Path) -> None:
    row = {
        "text": "Ada Lovelace, Londonborn.",
        "spans": [
            {"start": 0, "end": 12, "label": "PER"},
            {"start": 14, "end": 20, "label": "LOC"},
        ],
    }
    words, tags, _ = read(tmp_path / "rows.jsonl", json.dumps(row))
    assert words == [("Ada", "Lovelace", ",", "London", "born", ".")]
    assert tags == [("B-PER", "I-PER", "O", "B-LOC", "O", "O")]


@pytest.mark.parametrize(
    ("spans", "says"),
    [
        ([{"start": 0, "end": 99, "label": "PER"}], "not inside its text"),
        ([[0, 5, "PER"], [3, 8, "LOC"]], "two spans overlap at character 3"),
        ([{"start": "0", "end": 3, "label": "PER"}], "lacks start, end or label"),
        ("PER", "not a list of spans"),
    ],
)
def test_strange_spans_are_refused(tmp_path: Path, spans: object, says: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "Ada was here", "spans": spans}), encoding="utf-8")
    with pytest.raises(DataError, match=says):
        read_entity_rows(path, ANY_COLUMNS, labelled=True)


def test_tokens_and_tags_of_different_number_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"tokens": ["a", "b"], "tags": ["O"]}), encoding="utf-8")
    with pytest.raises(DataError, match="tokens and tags differ in number"):
        read_entity_rows(path, ANY_COLUMNS, labelled=True)


def test_impossible_tags_are_put_right_and_counted(tmp_path: Path) -> None:
    faulty = [(["a", "b", "c", "d"], ["O", "I-PER", "I-PER", "I-LOC"]), *SENTENCES * 2]
    _, tags, notes = read(tmp_path / "rows.conll", columns(faulty, " "))
    assert tags[0] == ("O", "B-PER", "I-PER", "B-LOC")
    assert notes == ["2 impossible tags of rows.conll: put right"]


def test_io_tags_are_no_fault_and_bioes_is_kept(tmp_path: Path) -> None:
    inside = [(["a", "b", "c"], ["I-PER", "I-PER", "O"]), (["d"], ["I-LOC"])]
    _, tags, notes = read(tmp_path / "io.conll", columns(inside, " "))
    assert (tags[0], notes) == (("B-PER", "I-PER", "O"), [])
    single = [(["a", "b", "c"], ["B-PER", "E-PER", "S-LOC"]), (["d"], ["O"])]
    _, tags, _ = read(tmp_path / "bioes.conll", columns(single, " "))
    assert tags[0] == ("B-PER", "E-PER", "S-LOC")


def test_words_of_english_and_chinese() -> None:
    text = "Ada's U.S. trip cost 1,000: 我爱北京 (don't ask)"
    words = split_words(text)
    expected = "Ada 's U.S . trip cost 1,000 : 我 爱 北 京 ( don't ask )"
    assert list(words.words) == expected.split()
    assert [text[a:b] for a, b in zip(words.starts, words.ends, strict=True)] == list(words.words)
    assert join_words(["我", "爱", "NLP", "!"]).text == "我爱 NLP !"


def test_a_long_text_is_read_in_windows_each_word_once() -> None:
    task = TokenClassification(tiny_tokenizer(), SCHEMES["BIO"], max_tokens=12)
    text = " ".join(["a quiet film"] * 30)
    rows = task.encode([text, "a dull story"])
    assert rows.input_starts is not None
    assert rows.lengths.max() <= 12
    merged = rows.readouts_or_all().merged(rows.input_starts)
    assert merged.values[: merged.starts[1], 1].tolist() == list(range(90))
    for window in range(int(rows.input_starts[1])):
        own = rows.readouts_or_all().select([window]).values[:, 0]
        assert 0 < own.min() <= own.max() < rows.lengths[window] - 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_f1_is_that_of_seqeval(scheme: str) -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    from seqeval.scheme import IOB2, IOBES

    labels, tags = SCHEMES[scheme], Tags(SCHEMES[scheme])
    draw = np.random.default_rng(0)
    for _ in range(60):
        lengths = draw.integers(0, 12, size=8)
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        true = draw.integers(0, len(labels), size=starts[-1])
        guess = np.where(draw.random(starts[-1]) < 0.6, true, draw.permutation(true))
        outputs = Outputs(np.eye(len(labels), dtype=np.float32)[guess], starts)
        found = micro_f1(entity_counts(tags, outputs, Outputs(true, starts)))
        named = [
            [[labels[tag] for tag in side[a:b]] for a, b in zip(starts, starts[1:], strict=False)]
            for side in (true, guess)
        ]
        expected = seqeval.f1_score(
            *named, mode="strict", scheme={"BIO": IOB2, "BIOES": IOBES}[scheme], zero_division=0
        )
        assert found == pytest.approx(expected)


def test_what_is_written_is_what_is_read() -> None:
    draw = np.random.default_rng(1)
    for labels in SCHEMES.values():
        writer = Tags(labels)
        for _ in range(50):
            tags = [labels[i] for i in draw.integers(0, len(labels), size=9)]
            spans = read_spans(tags)
            assert read_spans(writer.write(spans, 9)) == spans
