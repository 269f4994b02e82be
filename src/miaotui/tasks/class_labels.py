"""Labels of rows to the outputs of a model, and back to names."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from miaotui.data.label_cells import Label
from miaotui.errors import DataError, ModelError

SINGLE_LABEL = "single_label"
MULTI_LABEL = "multi_label"
REGRESSION = "regression"
"""The problems, spelled as in `miaotui.tasks.text_classification.Problem`."""

REGRESSION_NAME = "score"
_POSITION = re.compile(r"LABEL_(\d{1,9})", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
_WHOLE = re.compile(r"([+-]?(?:0|[1-9]\d{0,8}))(?:\.0*)?", re.ASCII)
"""Not "007", which is a code."""
_TRUTH = {"false": 0, "true": 1}
_LISTED = 5


def infer_problem(labels: Sequence[Label]) -> str:
    """Decimal numbers are a regression, tuples multi-label, all else single-label."""
    if not labels:
        raise DataError("there are no labels to tell the problem from; give labelled rows")
    if any(isinstance(label, tuple) for label in labels):
        return MULTI_LABEL
    return REGRESSION if any(isinstance(label, float) for label in labels) else SINGLE_LABEL


def infer_label_names(labels: Sequence[Label]) -> tuple[str, ...]:
    """The names of the outputs: integers in numeric, strings in lexicographic order.

    A regression has the one name "score".
    """
    if infer_problem(labels) == REGRESSION:
        return (REGRESSION_NAME,)
    items = {item for label in labels for item in (label if isinstance(label, tuple) else (label,))}
    integers = sorted(item for item in items if isinstance(item, int))
    strings = sorted(item for item in items if isinstance(item, str))
    return (*(str(item) for item in integers), *strings)


def class_names(config: Any) -> tuple[str, ...]:
    """Of a classifier's outputs, in their order: that of the ids, which may have gaps. Two classes
    of one name are a ModelError."""
    ids: dict[str, int] = {}
    for number, name in sorted(config.id2label.items()):
        if str(name) in ids:
            raise ModelError(
                f"classes {ids[str(name)]} and {number} of the model are both named {str(name)!r}; "
                "give each its own name in id2label of its config.json"
            )
        ids[str(name)] = number
    return tuple(ids)


def encode_labels(
    labels: Sequence[Label],
    names: Sequence[str],
    problem: str,
    label_order: Sequence[str] | None = None,
) -> Int64[ndarray, " rows"] | Float32[ndarray, "rows labels"] | Float32[ndarray, " rows"]:
    """What the loss and the metrics compare with the outputs called `names`.

    Single-label: int64 [rows], the index of each label. Multi-label: float32 [rows, labels] of
    zeros and ones. Regression: float32 [rows]. An integer means the name that reads so or, where
    no name is a number, the position in `names`; a string means the name that equals it, as
    "LABEL_1" a position, as "1" or "1.0" what the integer means; of two classes "True" is 1. Where
    all names are "LABEL_0", "LABEL_1"..., strings are placed by the order of classes that their
    file declares (`Rows.label_order`). Unknown ones are a DataError.
    """
    if problem == REGRESSION:
        return _encode_values(labels)
    if problem == MULTI_LABEL:
        return _encode_sets(labels, names, label_order)
    _refuse_kind(labels, tuple, "lists of labels", "gives one label a row; use single labels")
    _refuse_kind(labels, float, "decimal numbers", "is a classifier; write classes as 1, not 1.0")
    positions = _positions(labels, names, label_order)
    return np.fromiter((positions[label] for label in labels), np.int64, len(labels))


def _encode_values(labels: Sequence[Label]) -> Float32[ndarray, " rows"]:
    _refuse_kind(labels, (str, tuple), "classes", "is a regression; give a number for every row")
    return np.asarray(labels, dtype=np.float32)


def _encode_sets(
    labels: Sequence[Label], names: Sequence[str], label_order: Sequence[str] | None
) -> Float32[ndarray, "rows labels"]:
    single = (str, int, float)
    _refuse_kind(labels, single, "single labels", 'is multi-label; give lists such as ["a", "b"]')
    sets = [label for label in labels if isinstance(label, tuple)]
    positions = _positions([item for items in sets for item in items], names, label_order)
    encoded = np.zeros((len(sets), len(names)), dtype=np.float32)
    for row, items in zip(encoded, sets, strict=True):
        row[[positions[item] for item in items]] = 1
    return encoded


def _refuse_kind(
    labels: Sequence[Label], kind: type | tuple[type, ...], described: str, expected: str
) -> None:
    wrong = next((label for label in labels if isinstance(label, kind)), None)
    if wrong is not None:
        raise DataError(f"the labels are {described} (such as {wrong!r}), but the model {expected}")


def _positions(
    labels: Sequence[Label], names: Sequence[str], label_order: Sequence[str] | None
) -> dict[Label, int]:
    """The index among `names` of every distinct label."""
    if label_order is not None and _are_positions(names) and len(label_order) == len(names):
        names = label_order
    positions = {label: _position(label, names) for label in dict.fromkeys(labels)}
    known = {label: index for label, index in positions.items() if index is not None}
    if len(known) < len(positions):
        unknown = [label for label, index in positions.items() if index is None]
        raise DataError(
            f"labels unknown to the model: {_listed(unknown)}; it knows {_listed(names)}; "
            "rename the labels of the rows, or the model's (id2label in its config.json)"
        )
    return known


def _are_positions(names: Sequence[str]) -> bool:
    return all(name == f"LABEL_{i}" for i, name in enumerate(names))


def _position(label: Label, names: Sequence[str]) -> int | None:
    if str(label) in names:
        return list(names).index(str(label))
    match, number = _POSITION.fullmatch(str(label)), _number(label, len(names))
    if match:
        index: int | None = int(match[1])
    elif number is None:
        return None
    elif {name.casefold() for name in names} == set(_TRUTH):
        index = next((i for i, name in enumerate(names) if _TRUTH[name.casefold()] == number), None)
    elif str(number) in names:
        index = list(names).index(str(number))
    else:
        index = None if any(_NUMBER.fullmatch(name) for name in names) else number
    return index if index is not None and 0 <= index < len(names) else None


def _number(label: Label, num_names: int) -> int | None:
    """The whole number that a label is or is written as; of two classes true is 1."""
    text = str(label).casefold()
    if text in _TRUTH and num_names == len(_TRUTH):
        return _TRUTH[text]
    match = _WHOLE.fullmatch(text)
    return int(match[1]) if match else None


def _listed(labels: Sequence[Label]) -> str:
    more = f" and {len(labels) - _LISTED} more" if len(labels) > _LISTED else ""
    return ", ".join(repr(label) for label in labels[:_LISTED]) + more
