"""Cells of a label column to labels: integers, decimal numbers, strings or lists of labels."""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from miaotui.errors import DataError

Label = str | int | float | tuple[str | int, ...]
"""A class, a value to predict, or (a tuple) the classes that all hold."""

_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})", re.ASCII)
_NUMBER = re.compile(
    r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|[+-]?inf", re.ASCII | re.IGNORECASE
)
_LISTED = 5
_MOST_WHOLE = 20
"""Distinct whole numbers that are still taken for classes."""


@dataclass(frozen=True)
class Labels:
    """The label of every row, None where it has none; `notes` say what was guessed."""

    values: tuple[Label | None, ...]
    notes: tuple[str, ...] = ()


def labels_from_cells(
    cells: Sequence[Any], typed: bool, names: tuple[str, ...] | None, where: str
) -> Labels:
    """Labels that are all of one kind; a column without any is a DataError.

    Integers stay integers and decimal numbers stay so, unless they are a few whole ones, which are
    classes; integers among decimal numbers become decimal. Untyped cells (CSV) are numbers if all
    of them look like numbers ("007" is a code). Strings that all look like lists are read as JSON
    lists, lists of a zero or one for every class as the classes that hold. `names` replaces class
    indices.
    """
    values = [_stripped(cell) for cell in cells] if not typed else list(cells)
    values = _lists_from_json(values, where)
    values = values if typed else _numbers_from_strings(values)
    present = {i: v for i, v in enumerate(values) if not _is_missing(v, named=names is not None)}
    if not present:
        raise DataError(f"{where} has no label in any row; name another with --label-column")
    if names is not None:
        present = {i: _named(value, names, where) for i, value in present.items()}
    labels, notes = _of_one_kind(present, where)
    return Labels(tuple(labels.get(i) for i in range(len(values))), notes)


def listed_rows(indices: Sequence[int]) -> str:
    """Row numbers as people count them: from 1, without the header; five at most."""
    numbers = ", ".join(str(i + 1) for i in indices[:_LISTED])
    more = f" and {len(indices) - _LISTED} more" if len(indices) > _LISTED else ""
    return f"row{'s' if len(indices) > 1 else ''} {numbers}{more}"


def _stripped(cell: Any) -> Any:
    return cell.strip() if isinstance(cell, str) else cell


def _is_missing(value: Any, named: bool) -> bool:
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, float):
        return math.isnan(value)
    # `datasets` writes -1 for the rows of a test split whose classes are secret.
    return value is None or (named and value == -1)


def _lists_from_json(values: list[Any], where: str) -> list[Any]:
    present = [value for value in values if value is not None and value != ""]
    if not present or not all(_looks_like_list(value) for value in present):
        return values
    return [_list_from_json(value, i, where) for i, value in enumerate(values)]


def _looks_like_list(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip()[:1] + value.rstrip()[-1:] == "[]"


def _list_from_json(value: Any, index: int, where: str) -> Any:
    if not value:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f'{where}, row {index + 1}: {value[:60]!r} is not a JSON list; write it as ["a", "b"]'
        ) from error


def _numbers_from_strings(values: list[Any]) -> list[Any]:
    present = [value for value in values if value != ""]
    if not all(isinstance(value, str) for value in present):
        return values
    if all(_INTEGER.fullmatch(value) for value in present):
        return [int(value) if value else None for value in values]
    if all(_NUMBER.fullmatch(value) for value in present):
        return [float(value) if value else None for value in values]
    return values


def _named(value: Any, names: tuple[str, ...], where: str) -> Any:
    if isinstance(value, list):
        return [_named(item, names, where) for item in value]
    if not isinstance(value, int):
        return value
    if not 0 <= value < len(names):
        raise DataError(
            f"{where}: class {value} does not exist, the file names {len(names)} classes; "
            "repair the label or the ClassLabel feature"
        )
    return names[value]


def _of_one_kind(values: Mapping[int, Any], where: str) -> tuple[dict[int, Label], tuple[str, ...]]:
    """Labels by row, and what was guessed."""
    first_of: dict[str, int] = {}
    for i, value in values.items():
        first_of.setdefault(_KINDS.get(type(value), type(value).__name__), i)
    kinds = set(first_of)
    if kinds == {"integer", "decimal number"}:
        kinds = {"decimal number"}
    if len(kinds) > 1 or not kinds <= _READERS.keys():
        kinds_met = ", ".join(f"{kind} in row {i + 1}" for kind, i in first_of.items())
        raise DataError(
            f"{where}: labels must all be integers, decimal numbers, strings, or lists of "
            f"integers or strings; found {kinds_met}"
        )
    (kind,) = kinds
    if kind == "decimal number" and _are_classes(values.values()):
        classes = sorted({int(value) for value in values.values()})
        told = f"{where}: decimal numbers that are whole are read as classes {_first(classes)}"
        return {i: int(value) for i, value in values.items()}, (told,)
    if kind == "list" and _are_multi_hot(list(values.values())):
        told = f"{where}: lists of a zero or one for every class are read as the classes that hold"
        held: dict[int, Label] = {
            i: tuple(j for j, one in enumerate(v) if one) for i, v in values.items()
        }
        return held, (told,)
    labels = {i: _READERS[kind](value, f"{where}, row {i + 1}") for i, value in values.items()}
    _refuse_mixed_items(tuple(labels.values()), where)
    _refuse_alike_but_for_case(labels.values(), where)
    return labels, ()


def _are_classes(values: Collection[float]) -> bool:
    whole = all(math.isfinite(value) and value == int(value) for value in values)
    return whole and len(set(values)) <= _MOST_WHOLE


def _are_multi_hot(lists: Sequence[Sequence[Any]]) -> bool:
    """All as long, more than one, and of zeros and ones: as lists of classes they would say the
    same of every row, or name a class twice."""
    width = len(lists[0])
    return width > 1 and all(len(v) == width and all(x in (0, 1) for x in v) for v in lists)


def _refuse_alike_but_for_case(labels: Collection[Label], where: str) -> None:
    names: dict[str, str] = {}
    listed = (item for v in labels for item in (v if isinstance(v, tuple) else (v,)))
    for label in dict.fromkeys(item for item in listed if isinstance(item, str)):
        other = names.setdefault(" ".join(label.casefold().split()), label)
        if other != label:
            raise DataError(
                f"{where}: classes {other!r} and {label!r} differ in case or spaces only; write "
                "them alike"
            )


def _first(values: Sequence[object]) -> str:
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return ", ".join(map(str, values[:_LISTED])) + more


def _string(value: Any, where: str) -> Label:
    return str(value)


def _integer(value: Any, where: str) -> Label:
    return int(value)


def _decimal(value: Any, where: str) -> Label:
    if not math.isfinite(value):
        raise DataError(f"{where}: {value} is not a value to learn; correct or remove the row")
    return float(value)


def _classes(value: Any, where: str) -> Label:
    classes = tuple(int(item) if isinstance(item, int) else item for item in value)
    if not all(isinstance(item, str | int) for item in classes):
        raise DataError(
            f"{where}: a list of labels must name the classes that hold, as "
            f'["a", "b"]; found {value!r:.80}'
        )
    if len(set(classes)) < len(classes):
        raise DataError(
            f"{where}: a class is listed twice ({value!r:.80}); list the classes that hold, as "
            '["a", "b"] or [0, 3], not a zero or one for every class'
        )
    return classes


def _refuse_mixed_items(labels: Sequence[Label], where: str) -> None:
    items = [item for label in labels if isinstance(label, tuple) for item in label]
    if len({type(item) for item in items}) > 1:
        raise DataError(
            f"{where}: the lists of labels hold integers and strings; use only one of the two"
        )


_KINDS = {
    bool: "integer",
    int: "integer",
    float: "decimal number",
    str: "string",
    list: "list",
}
_READERS: dict[str, Callable[[Any, str], Label]] = {
    "integer": _integer,
    "decimal number": _decimal,
    "string": _string,
    "list": _classes,
}
