"""What a caller may give to a predictor, and what it says to the rest."""

import math

import pytest

from miaotui.errors import DataError
from miaotui.predictor import Predictor
from miaotui.tasks.problems import Problem
from miaotui.tasks.text_classification import TextClassification
from tiny import tiny_tokenizer
from tiny_runner import Noted


@pytest.fixture
def predictor() -> Predictor:
    task = TextClassification.of(tiny_tokenizer(), ("a", "b"), Problem.SINGLE_LABEL, 32)
    return Predictor(task, Noted())


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (None, r"text 2 is None \(NoneType\); expected a str"),
        (math.nan, r"text 2 is nan \(float\)"),
        (7, r"text 2 is 7 \(int\)"),
        (b"bytes", r"text 2 is b'bytes' \(bytes\)"),
        (("a", None), r"text 2 is None \(NoneType\)"),
        (["a", "b"], r"text 2 is \['a', 'b'\] \(list\)"),
        ("caf\udce9", r"text 2 has half a character \('\\udce9'\) at 3"),
        (("a", "\ud800"), "text 2 has half a character"),
    ],
)
def test_what_is_no_text_is_named_by_its_place(
    predictor: Predictor, bad: object, says: str
) -> None:
    texts = ["a quiet film", "", bad, "dull"]
    with pytest.raises(DataError, match=says):
        predictor(texts)  # type: ignore[arg-type]
    answers = predictor.stream(iter(texts), rows=1)  # type: ignore[arg-type]
    assert len([next(answers), next(answers)]) == 2
    with pytest.raises(DataError, match=says):
        next(answers)


@pytest.mark.parametrize("one", ["a quiet film", b"bytes"])
def test_one_text_is_not_taken_for_its_letters(predictor: Predictor, one: object) -> None:
    with pytest.raises(TypeError, match="put it into a list"):
        predictor(one)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="put it into a list"):
        predictor.stream(one)  # type: ignore[arg-type]


def test_streamed_texts_are_answered_as_they_come(predictor: Predictor) -> None:
    taken = []

    def texts():  # type: ignore[no-untyped-def]
        for i in range(10):
            taken.append(i)
            yield "a quiet film"

    answers = predictor.stream(texts(), rows=2)
    next(answers)
    assert taken == [0, 1]
    assert len(list(answers)) == 9
    assert predictor([]) == []
