"""Texts in, token ids out; logits in, answers out."""

from pathlib import Path

import numpy as np
import pytest

from miaotui.data.rows import Rows
from miaotui.errors import DataError, ModelError
from miaotui.tasks.base import EncodedRows, encoded_rows, joined
from miaotui.tasks.outputs import one_a_row
from miaotui.tasks.problems import Problem
from miaotui.tasks.saved import open_task, save_task
from miaotui.tasks.text_classification import TextClassification
from tiny import tiny_tokenizer


def a_task(
    problem: Problem = Problem.SINGLE_LABEL,
    labels: tuple[str, ...] = ("bad", "good"),
    max_tokens: int = 16,
    **tokenizer: bool,
) -> TextClassification:
    return TextClassification.of(tiny_tokenizer(**tokenizer), labels, problem, max_tokens)


def test_encode_gives_what_the_tokenizer_gives() -> None:
    task, texts = a_task(max_tokens=64), ["the film is quiet", "a dull story; told twice"]

    rows = task.encode(texts)

    for i, text in enumerate(texts):
        assert rows.select([i]).ids.tolist() == tiny_tokenizer().encode(text).ids
    assert rows.type_ids is None
    assert rows.truncated is None


def test_an_empty_text_keeps_its_specials() -> None:
    rows = a_task().encode(["", "the film"])

    assert rows.lengths[0] == 2
    assert rows.select([0]).ids.tolist() == [2, 3]


def test_no_texts_are_no_rows() -> None:
    rows = a_task().encode([])

    assert len(rows) == 0
    assert rows.total_tokens == 0


def test_a_pair_has_two_types() -> None:
    rows = a_task(max_tokens=64).encode([("the film", "a story"), ("a", "b")])
    expected = tiny_tokenizer().encode("the film", "a story")

    assert rows.select([0]).ids.tolist() == expected.ids
    assert rows.type_ids is not None
    assert rows.select([0]).type_ids.tolist() == expected.type_ids


def test_pairs_of_a_tokenizer_without_types_have_none() -> None:
    assert a_task(types=False).encode([("the film", "a story")]).type_ids is None


def test_one_text_and_a_pair_mix() -> None:
    rows = a_task(max_tokens=64).encode(["the film", ("the film", "a story")])

    assert len(rows) == 2
    assert not rows.select([0]).type_ids.any()
    assert rows.select([1]).type_ids.any()


def test_truncated_rows_are_told_and_counted() -> None:
    rows = a_task(max_tokens=8).encode(["the film", "the film is a quiet wonder " * 9, ""])

    assert rows.truncated.tolist() == [False, True, False]
    assert rows.lengths.max() == 8


def test_a_text_of_a_hundred_thousand_characters_is_cut_not_refused() -> None:
    rows = a_task(max_tokens=16).encode(["the film is quiet " * 5556, "x" * 100_000])

    assert rows.lengths[0] == 16
    assert rows.lengths.max() <= 16
    assert rows.truncated[0]


def test_a_long_pair_is_cut_to_the_maximum() -> None:
    rows = a_task(max_tokens=12).encode([("the film " * 30, "a story " * 30)])

    assert rows.lengths.tolist() == [12]
    assert rows.truncated.tolist() == [True]
    assert set(rows.type_ids.tolist()) == {0, 1}


def test_chinese_is_one_token_a_character() -> None:
    rows = a_task(chinese=True, max_tokens=64).encode(["这部电影很好看", "画面𠀀好"])

    assert rows.lengths.tolist() == [9, 6]
    assert rows.select([1]).ids.tolist().count(1) == 1


def test_many_texts_keep_their_order() -> None:
    task = a_task(max_tokens=32)
    texts = ["film " * (1 + i % 7) for i in range(9000)]

    lengths = task.encode(texts).lengths

    one = task.encode(texts[:7]).lengths
    assert lengths.tolist() == [one[i % 7] for i in range(9000)]


def test_a_task_leaves_the_tokenizer_it_was_given_alone() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_padding(length=50)

    task = TextClassification.of(tokenizer, ("a", "b"), Problem.SINGLE_LABEL, 8)

    assert task.encode(["the film"]).lengths[0] < 50
    assert tokenizer.truncation is None
    assert tokenizer.padding is not None


def test_a_single_label_answer_is_the_softmax() -> None:
    answer = a_task().read(np.array([[0.0, np.log(3.0)]], dtype=np.float32))[0]

    assert answer.label == "good"
    assert answer.score == pytest.approx(0.75)
    assert answer.scores == pytest.approx({"bad": 0.25, "good": 0.75})
    assert answer.labels == ()


def test_a_multi_label_answer_names_all_at_a_half_or_above() -> None:
    task = a_task(Problem.MULTI_LABEL, ("funny", "sad", "long"))

    some, none = task.read(np.array([[2.0, -1.0, 0.0], [-3.0, -1.0, -2.0]], dtype=np.float32))

    assert some.labels == ("funny", "long")
    assert some.label == "funny"
    assert none.labels == ()
    assert none.label == "sad"


def test_a_regression_answer_is_the_value() -> None:
    answer = a_task(Problem.REGRESSION, ("stars",)).read(np.array([[3.5]], np.float32))[0]

    assert (answer.label, answer.score, answer.scores) == ("stars", 3.5, {"stars": 3.5})


@pytest.mark.parametrize("problem", list(Problem))
@pytest.mark.filterwarnings("error")
def test_extreme_logits_give_finite_scores(problem: Problem) -> None:
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype=np.float32)

    for answer in a_task(problem).read(logits):
        assert np.isfinite(list(answer.scores.values())).all()


@pytest.mark.parametrize("problem", list(Problem))
def test_no_logits_are_no_answers(problem: Problem) -> None:
    assert a_task(problem).read(np.zeros((0, 0), dtype=np.float32)) == []


def test_an_answer_says_that_its_text_was_cut() -> None:
    task, outputs = a_task(max_tokens=8), one_a_row(np.zeros((2, 2), dtype=np.float32))
    texts = ["the film is a quiet wonder " * 9, "the film"]

    answers = task.answers(texts, task.encode(texts), outputs)

    assert [answer.truncated for answer in answers] == [True, False]


@pytest.mark.parametrize("problem", list(Problem))
def test_a_saved_task_opens_as_itself(problem: Problem, tmp_path: Path) -> None:
    task = a_task(problem, ("差", "好"), max_tokens=9, chinese=True)
    save_task(task, tmp_path)

    opened = open_task(tmp_path)

    assert (opened.labels, opened.problem, opened.max_tokens) == (("差", "好"), problem, 9)
    texts = ["这部电影很好看" * 5, ""]
    assert opened.encode(texts).ids.tolist() == task.encode(texts).ids.tolist()
    assert opened.encode(texts).truncated.tolist() == [True, False]


@pytest.mark.parametrize("name", ["task.json", "tokenizer.json"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    save_task(a_task(), tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(ModelError, match=f"lacks {name}"):
        open_task(tmp_path)


@pytest.mark.parametrize("name", ["task.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"labels": 3}', ""])
def test_a_strange_file_is_a_model_error(name: str, content: str, tmp_path: Path) -> None:
    save_task(a_task(), tmp_path)
    (tmp_path / name).write_text(content, encoding="utf-8")

    with pytest.raises(ModelError, match=name):
        open_task(tmp_path)


def some_rows() -> EncodedRows:
    return encoded_rows([[1, 2, 3], [4], [], [5, 6]], [[0, 0, 1], [1], [], [0, 0]])


def test_select_takes_rows_in_the_order_asked() -> None:
    rows = some_rows().select([3, 0, 2])

    assert rows.ids.tolist() == [5, 6, 1, 2, 3]
    assert rows.type_ids.tolist() == [0, 0, 0, 0, 1]
    assert rows.lengths.tolist() == [2, 3, 0]


def test_chunks_joined_are_the_rows() -> None:
    rows = some_rows()

    whole = joined(list(rows.chunks(3)))

    assert whole.ids.tolist() == rows.ids.tolist()
    assert whole.starts.tolist() == rows.starts.tolist()
    assert whole.type_ids.tolist() == rows.type_ids.tolist()


def test_joined_keeps_what_was_cut() -> None:
    task = a_task(max_tokens=4)
    parts = [task.encode(["the film is quiet"]), task.encode(["film"])]

    assert joined(parts).truncated.tolist() == [True, False]


def test_joining_nothing_gives_no_rows() -> None:
    assert len(joined([])) == 0


def test_types_of_only_zeros_are_none() -> None:
    assert encoded_rows([[1, 2]], [[0, 0]]).type_ids is None


def test_rows_are_equal_where_every_part_is() -> None:
    ids, starts = np.array([5, 6, 7], np.int32), np.array([0, 1, 3])
    rows = EncodedRows(ids, starts)
    zeros = EncodedRows(ids, starts, np.zeros(3, np.int32), np.zeros(2, bool))

    assert rows.equals(zeros)
    assert zeros.equals(rows)
    for other in (
        EncodedRows(ids + 1, starts),
        EncodedRows(ids, np.array([0, 2, 3])),
        EncodedRows(ids, starts, np.array([0, 0, 1], np.int32)),
        EncodedRows(ids, starts, None, np.array([False, True])),
        EncodedRows(ids[:1], starts[:2]),
    ):
        assert not rows.equals(other)
        assert not other.equals(rows)


def test_enough_rows_of_two_classes_can_be_trained_on() -> None:
    a_task().check_trainable(Rows(("a",) * 50, (*["x"] * 49, "y"), "rows"))
    a_task(Problem.REGRESSION).check_trainable(Rows(("a",) * 50, (0.5, 0.7) * 25, "rows"))


@pytest.mark.parametrize(
    ("rows", "problem", "expected"),
    [
        (
            Rows(("a",) * 49, (*["x"] * 48, "y"), "rows"),
            Problem.SINGLE_LABEL,
            "49 rows, expected at least 50",
        ),
        (Rows(("a",) * 50, ("x",) * 50, "rows"), Problem.SINGLE_LABEL, "only one class .'x'."),
        (Rows(("a",) * 50, (0.5,) * 50, "rows"), Problem.REGRESSION, "every label is 0.5"),
        (Rows(("a",) * 50, None, "rows"), Problem.SINGLE_LABEL, "has no labels"),
    ],
)
def test_rows_that_nothing_can_be_trained_on_are_refused(
    rows: Rows, problem: Problem, expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        a_task(problem).check_trainable(rows)


@pytest.mark.parametrize(
    ("good", "problem", "metric"),
    [
        (89, Problem.SINGLE_LABEL, "accuracy"),
        (430, Problem.SINGLE_LABEL, "macro_f1"),
        (430, Problem.REGRESSION, "spearman"),
    ],
)
def test_rows_of_nearly_one_class_are_not_judged_by_accuracy(
    good: int, problem: Problem, metric: str
) -> None:
    names = ("score",) if problem is Problem.REGRESSION else ("bad", "good")
    labels = ("good",) * good + ("bad",) * 20

    chosen, why = a_task(problem, names).metric_for(Rows(("a",) * len(labels), labels, "r"))

    assert chosen.name == metric
    assert (why is not None) == (metric == "macro_f1")
    assert why is None or "96% of the rows have one class" in why
