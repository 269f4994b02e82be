"""Engines, techniques, trainings and tasks say of themselves what others must know of them."""

import ast
from collections.abc import Iterator

import pytest
from test_imports import source_files

from miaotui.engines import ENGINES
from miaotui.recipe import RECOVERIES
from miaotui.rivals import MORE_RIVALS
from miaotui.tasks import TASKS
from miaotui.techniques import TECHNIQUES

CONCRETE = {
    cls.__name__: cls.__module__.removeprefix("miaotui.").replace(".", "/") + ".py"
    for cls in (
        *ENGINES.values(),
        *TECHNIQUES.values(),
        *RECOVERIES.values(),
        *TASKS.values(),
        *(type(rival) for rival in MORE_RIVALS),
    )
}
"""Where each is written."""
OF_A_TASK = ("Problem", "SINGLE_LABEL", "MULTI_LABEL", "REGRESSION")
"""What only a task may branch on."""


def asked_classes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each class that code asks whether something is of it."""
    for node in ast.walk(tree):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            asked = node.args[1:]
        if isinstance(node, ast.Compare) and ast.unparse(node.left).startswith("type("):
            asked = node.comparators
        if isinstance(node, ast.MatchClass):
            asked = [node.cls]
        for part in (inner for one in asked for inner in ast.walk(one)):
            if isinstance(part, ast.Name | ast.Attribute):
                yield node.lineno, ast.unparse(part).split(".")[-1]


def questions(path: str, code: str) -> list[str]:
    return [
        f"{path}:{line}: asks whether something is a {name}; let {name} declare what matters"
        for line, name in asked_classes(ast.parse(code))
        if CONCRETE.get(name, path) != path
    ]


def branches_on_problems(path: str, code: str) -> list[str]:
    if path.startswith("tasks/"):
        return []
    return [
        f"{path}:{node.lineno}: {name} is a matter of tasks/"
        for node in ast.walk(ast.parse(code))
        for name in OF_A_TASK
        if (isinstance(node, ast.Name) and node.id == name)
        or (isinstance(node, ast.Attribute) and node.attr == name)
    ]


def test_nobody_asks_what_an_engine_technique_training_or_task_is() -> None:
    found = [text for path, code in source_files().items() for text in questions(path, code)]
    assert not found, "\n" + "\n".join(found)


def test_nothing_outside_tasks_branches_on_the_kind_of_task() -> None:
    files = source_files().items()
    found = [text for path, code in files for text in branches_on_problems(path, code)]
    assert not found, "\n" + "\n".join(found)


def test_the_search_does_not_go_by_adapters() -> None:
    """It asks what can be done to a model, not how that is come by."""
    keys = [
        f"{path}:{node.lineno}"
        for path, code in source_files().items()
        if path.startswith(("search/", "pipeline/"))
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Attribute) and node.attr == "has_adapter"
    ]
    assert not keys


@pytest.mark.parametrize(
    "code",
    [
        "isinstance(engine, OpenVinoEngine)",
        "isinstance(step, (techniques.Int8Static, str))",
        "isinstance(step, Distillation | None)",
        "type(engine) is NativeEngine",
        "match step:\n    case PruneStructure():\n        pass",
        "issubclass(kind, TokenClassification)",
    ],
)
def test_a_question_is_found(code: str) -> None:
    assert len(questions("search/planner.py", code)) == 1


def test_a_class_may_be_asked_for_in_its_own_file() -> None:
    assert not questions("engines/native.py", "isinstance(other, NativeEngine)")
    assert not questions("search/planner.py", "isinstance(layout, Packed)")
