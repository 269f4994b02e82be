"""Two models of one task, whose labels may stand in another order."""

from collections.abc import Sequence

from miaotui.errors import ModelError
from miaotui.tasks.task import Task

_LISTED = 5


def label_order(ours: Task, theirs: Task) -> list[int]:
    """Where each label of `ours` stands among the outputs of `theirs`, matched by name, without
    regard to case and outer spaces where only that differs. Other tasks, and labels of which one
    side knows more or others, are a ModelError."""
    if ours.kind != theirs.kind:
        raise ModelError(
            f"one model is for {ours.kind}, the other for {theirs.kind}; compare two of the same "
            "task"
        )
    if len(ours.labels) == len(theirs.labels) == 1:  # a value, whatever it is called
        return [0]
    for spelled in (_as_written, _loosely):
        mine, other = spelled(ours.labels), spelled(theirs.labels)
        if set(mine) == set(other) and len(set(mine)) == len(mine) == len(other):
            return [other.index(label) for label in mine]
    raise ModelError(
        f"the labels differ: one model knows {_listed(ours.labels)}, the other "
        f"{_listed(theirs.labels)}; give both the same names (id2label in config.json)"
    )


def _as_written(labels: Sequence[str]) -> list[str]:
    return list(labels)


def _loosely(labels: Sequence[str]) -> list[str]:
    return [label.strip().casefold() for label in labels]


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _LISTED} more" if len(labels) > _LISTED else ""
    return ", ".join(map(repr, labels[:_LISTED])) + more
