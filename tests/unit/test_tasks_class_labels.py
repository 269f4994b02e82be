import numpy as np
import pytest

from miaotui.data.label_cells import Label
from miaotui.errors import DataError
from miaotui.tasks.class_labels import (
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    encode_labels,
    infer_label_names,
    infer_problem,
)
from miaotui.tasks.problems import Problem


def test_problems_are_spelled_as_in_the_task() -> None:
    assert {SINGLE_LABEL, MULTI_LABEL, REGRESSION} == {problem.value for problem in Problem}


@pytest.mark.parametrize(
    ("labels", "problem", "names"),
    [
        (("pos", "neg", "pos"), SINGLE_LABEL, ("neg", "pos")),
        (("差评", "好评"), SINGLE_LABEL, ("好评", "差评")),
        ((10, 9, -1), SINGLE_LABEL, ("-1", "9", "10")),
        ((0.5, 1.0), REGRESSION, ("score",)),
        ((("b", "a"), (), ("c",)), MULTI_LABEL, ("a", "b", "c")),
        (((), (10, 2)), MULTI_LABEL, ("2", "10")),
    ],
)
def test_problem_and_names_from_labels(
    labels: tuple[Label, ...], problem: str, names: tuple[str, ...]
) -> None:
    assert infer_problem(labels) == problem
    assert infer_label_names(labels) == names


def test_no_labels_have_no_problem() -> None:
    with pytest.raises(DataError, match="no labels to tell the problem from"):
        infer_problem(())


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (("pos", "neg"), ("neg", "pos"), [1, 0]),
        ((1, 0, 1), ("LABEL_0", "LABEL_1"), [1, 0, 1]),
        ((1, 0), ("neg", "pos"), [1, 0]),
        ((1, 5), ("5", "3", "1"), [2, 0]),
        ((-1, 1), ("-1", "1"), [0, 1]),
        (("LABEL_1", "neg"), ("neg", "pos"), [1, 0]),
        (("LABEL_1",), ("LABEL_1", "LABEL_0"), [0]),
        (("1",), ("0", "1"), [1]),
        (("1", "0"), ("neg", "pos"), [1, 0]),
        (("1.0", "0.0"), ("neg", "pos"), [1, 0]),
        (("1.0", "5."), ("5", "3", "1"), [2, 0]),
        (("1.0", "2.0"), ("1.0", "2.0"), [0, 1]),
        (("True", "false"), ("neg", "pos"), [1, 0]),
        (("TRUE", "FALSE"), ("0", "1"), [1, 0]),
        (("true", "false"), ("True", "False"), [0, 1]),
        ((1, 0), ("True", "False"), [0, 1]),
        ((1, 0), ("false", "true"), [1, 0]),
    ],
)
def test_single_label(
    labels: tuple[Label, ...], names: tuple[str, ...], expected: list[int]
) -> None:
    encoded = encode_labels(labels, names, Problem.SINGLE_LABEL)
    assert encoded.dtype == np.int64
    assert encoded.tolist() == expected


def test_names_inferred_from_labels_encode_them() -> None:
    for labels in [("b", "a", "c"), (3, 1, 2), (0, 1, 2)]:
        names = infer_label_names(labels)
        encoded = encode_labels(labels, names, SINGLE_LABEL)
        assert [names[i] for i in encoded] == [str(label) for label in labels]


def test_declared_order_places_names_of_a_model_that_only_numbers_them() -> None:
    labels, order = ("pos", "neg"), ("pos", "neg")
    assert encode_labels(labels, ("LABEL_0", "LABEL_1"), SINGLE_LABEL, order).tolist() == [0, 1]
    assert encode_labels(labels, ("neg", "pos"), SINGLE_LABEL, order).tolist() == [1, 0]
    with pytest.raises(DataError, match="unknown to the model: 'pos', 'neg'"):
        encode_labels(labels, ("LABEL_0", "LABEL_1"), SINGLE_LABEL)
    with pytest.raises(DataError, match="it knows 'LABEL_0', 'LABEL_1', 'LABEL_2'"):
        encode_labels(labels, ("LABEL_0", "LABEL_1", "LABEL_2"), SINGLE_LABEL, order)


def test_multi_label() -> None:
    encoded = encode_labels((("c", "a"), (), ("LABEL_1",)), ("a", "b", "c"), MULTI_LABEL)
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_multi_label_of_integers() -> None:
    encoded = encode_labels(((2, 0), (1,)), ("joy", "fear", "rage"), MULTI_LABEL)
    assert encoded.tolist() == [[1, 0, 1], [0, 1, 0]]


def test_regression() -> None:
    encoded = encode_labels((0.5, 2.0), ("score",), REGRESSION)
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [0.5, 2.0]
    assert encode_labels((1, 5), ("LABEL_0",), REGRESSION).tolist() == [1.0, 5.0]


@pytest.mark.parametrize(
    ("labels", "names", "problem", "expected"),
    [
        (("good",), ("neg", "pos"), SINGLE_LABEL, "unknown to the model: 'good'; it knows 'neg', "),
        ((2,), ("neg", "pos"), SINGLE_LABEL, "unknown to the model: 2; it knows 'neg', 'pos'"),
        ((-1,), ("neg", "pos"), SINGLE_LABEL, "unknown to the model: -1;"),
        ((0,), ("1", "2"), SINGLE_LABEL, "unknown to the model: 0; it knows '1', '2'"),
        (("LABEL_2",), ("neg", "pos"), SINGLE_LABEL, "'LABEL_2'"),
        (tuple("abcdefg"), ("x",), SINGLE_LABEL, "'a', 'b', 'c', 'd', 'e' and 2 more; it knows"),
        ((("x", "y"),), ("x",), MULTI_LABEL, "unknown to the model: 'y'"),
        ((1.0,), ("0", "1"), SINGLE_LABEL, "write classes as 1, not 1.0"),
        ((("a",),), ("a",), SINGLE_LABEL, "lists of labels .*use single labels"),
        (("a",), ("a",), MULTI_LABEL, "is multi-label; give lists"),
        (("a",), ("score",), REGRESSION, "is a regression; give a number"),
        (((1,),), ("score",), REGRESSION, "is a regression; give a number"),
    ],
)
def test_labels_that_do_not_fit(
    labels: tuple[Label, ...], names: tuple[str, ...], problem: str, expected: str
) -> None:
    with pytest.raises(DataError, match=expected) as raised:
        encode_labels(labels, names, problem)
    assert "\n" not in str(raised.value)
