"""Imports point strictly down the list of docs and design; heavy ones stay where they belong."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

PACKAGE = "miaotui"
SOURCE = Path(__file__).parents[2] / "src" / PACKAGE

ORDER: tuple[tuple[str, ...], ...] = (
    ("__init__", "__version__", "__main__"),
    ("cli",),
    ("serving",),
    ("pipeline",),
    ("search", "rivals"),
    ("report",),
    ("measure", "worker_process"),
    ("bundle", "footprint", "survey"),
    ("fallback",),
    ("host",),
    ("workers", "cascade"),
    ("predictor", "golden"),
    ("recipe",),
    ("techniques", "training", "engines"),
    ("models",),
    ("tasks",),
    ("data",),
    ("process",),
    ("hardware", "devices", "budget", "quiet", "paths", "drift"),
    ("cgroups",),
    ("errors", "version"),
)
"""Top to bottom. A module imports from lower rows and from itself, never from its own row."""

LEVEL = {name: level for level, row in enumerate(ORDER) for name in row}

STRANGERS = {
    "serving": ("search", "rivals"),
    "measure": ("engines", "models", "techniques", "training"),
}
"""Those that stand lower and still must stay unknown."""

TORCH = ("torch", "transformers")
LIGHT = {
    "cli.py": (*TORCH, "openvino", "onnxruntime", "nncf"),
    "predictor.py": TORCH,
    "workers.py": TORCH,
    "worker_process.py": TORCH,
    "bundle.py": TORCH,
    "cascade.py": TORCH,
    "fallback.py": TORCH,
    "host.py": TORCH,
    "golden.py": TORCH,
    "engines/stored.py": TORCH,
    "footprint.py": TORCH,
    "tasks/*": TORCH,
    "data/*": TORCH,
    "engines/base.py": TORCH,
    "engines/layouts.py": TORCH,
    "engines/onnxruntime*.py": TORCH,
    "engines/openvino*.py": TORCH,
    "engines/tensorrt.py": TORCH,
    "engines/native*.py": TORCH,
}
"""What a file must not import while it is itself imported: predicting needs no torch."""


def source_files() -> dict[str, str]:
    """Paths relative to the package, and their code."""
    return {
        path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(SOURCE.rglob("*.py"))
    }


def absolute_targets(node: ast.AST, path: str) -> Iterator[str]:
    """Dotted names that an import statement of the file at `path` may bring in."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        here = [PACKAGE, *Path(path).parts[:-1]]
        start = ".".join(here[: len(here) + 1 - node.level]) if node.level else ""
        base = ".".join(part for part in (start, node.module) if part)
        yield from (f"{base}.{alias.name}" for alias in node.names)


def all_imports(path: str, code: str) -> list[tuple[int, str]]:
    """Line and dotted name of every import, inside functions and for type checking too."""
    return [
        (node.lineno, target)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for target in absolute_targets(node, path)
    ]


def is_for_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imported_at_once(path: str, code: str) -> list[tuple[int, str]]:
    """Imports that run when the file is imported: outside functions and type checking."""
    found: list[tuple[int, str]] = []
    waiting: list[ast.AST] = [ast.parse(code)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [(node.lineno, target) for target in absolute_targets(node, path)]
        waiting += node.orelse if is_for_type_checking(node) else ast.iter_child_nodes(node)
    return found


def part_of(path: str) -> str:
    """The name in ORDER that the file at `path` belongs to."""
    return Path(path).parts[0].removesuffix(".py")


def order_violation(path: str, target: str) -> str | None:
    """Why the file at `path` must not import `target`, or None where it may."""
    package, _, inside = target.partition(".")
    source, wanted = part_of(path), inside.partition(".")[0]
    if package != PACKAGE or not inside or wanted == source:
        return None
    if wanted not in LEVEL:
        return f"unknown module {wanted!r}: {ADD_TO_ORDER}"
    if wanted in STRANGERS.get(source, ()):
        return f"{source} must not know {wanted}"
    if LEVEL[wanted] <= LEVEL[source]:
        return f"{source} must not import {wanted}: it does not stand below it in ORDER"
    return None


ADD_TO_ORDER = f"add it to the right row of ORDER in tests/architecture/{Path(__file__).name}"


def order_violations(path: str, code: str) -> list[str]:
    if part_of(path) not in LEVEL:
        return [f"{path}: unknown top-level module {part_of(path)!r}: {ADD_TO_ORDER}"]
    return [
        f"{path}:{line}: {reason}"
        for line, target in all_imports(path, code)
        if (reason := order_violation(path, target)) is not None
    ]


def weight_violations(path: str, code: str) -> list[str]:
    forbidden = {name for glob, names in LIGHT.items() if fnmatch(path, glob) for name in names}
    return [
        f"{path}:{line}: {target.split('.')[0]} must not be imported at the top; "
        f"import it inside the function that needs it"
        for line, target in imported_at_once(path, code)
        if target.split(".")[0] in forbidden
    ]


def test_imports_point_strictly_down() -> None:
    found = [text for path, code in source_files().items() for text in order_violations(path, code)]
    assert not found, "\n" + "\n".join(found)


def test_heavy_imports_stay_out_of_light_files() -> None:
    found = [
        text for path, code in source_files().items() for text in weight_violations(path, code)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("measure/speed.py", "from miaotui.engines.base import Session"),
        ("measure/speed.py", "def f():\n    import miaotui.models.shape"),
        ("techniques/prune.py", "from miaotui.engines import base"),
        ("training/trainer.py", "from miaotui.techniques.prune import Prune"),
        ("search/planner.py", "from miaotui.rivals import stock"),
        ("serving/http.py", "from miaotui.search import trials"),
        ("data/rows.py", "from miaotui.tasks import base"),
        ("data/rows.py", "from ..tasks.base import Text"),
        ("tasks/base.py", "from .. import cli"),
        ("workers.py", "from .cascade import Cascade"),
        ("predictor.py", "from miaotui import bundle"),
        (
            "models/encoder.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from miaotui.recipe import R",
        ),
        ("errors.py", "import miaotui.hardware"),
        ("pipeline/prepare.py", "from miaotui import __version__"),
        ("budget.py", "from miaotui.hardware import probe"),
        ("novelty.py", ""),
        ("cli.py", "from miaotui.novelty import thing"),
    ],
)
def test_an_import_that_points_up_or_aside_is_found(path: str, code: str) -> None:
    assert len(order_violations(path, code)) == 1


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("cli.py", "from miaotui import pipeline, version\nfrom miaotui.serving import http"),
        ("measure/speed.py", "from .statistics import bca\nfrom miaotui.tasks.base import Text"),
        ("report/card.py", "from miaotui.measure.measurement import Measurement"),
        ("tasks/base.py", "from miaotui.data.rows import Rows\nimport miaotui.data.rows"),
        ("workers.py", "from miaotui.predictor import Predictor"),
        ("budget.py", "import json\nimport numpy.linalg\nfrom miaotui.errors import BudgetError"),
        ("engines/openvino.py", "from . import layouts\nfrom ..models.shape import EncoderShape"),
    ],
)
def test_an_import_that_points_down_is_allowed(path: str, code: str) -> None:
    assert order_violations(path, code) == []


@pytest.mark.parametrize(
    ("path", "code", "count"),
    [
        ("cli.py", "import torch.nn", 1),
        ("cli.py", "try:\n    from openvino import Core\nexcept ImportError:\n    pass", 1),
        ("cli.py", "class A:\n    import nncf", 1),
        ("cli.py", "def f():\n    import torch", 0),
        ("tasks/deep/base.py", "from transformers import AutoTokenizer", 1),
        ("engines/onnxruntime.py", "import onnxruntime", 0),
        ("engines/onnxruntime_export.py", "import torch", 1),
        ("engines/torch.py", "import torch", 0),
        (
            "bundle.py",
            "import typing\nif typing.TYPE_CHECKING:\n    import torch\nelse:\n    import torch",
            1,
        ),
        ("predictor.py", "from miaotui.engines import torch", 0),
    ],
)
def test_a_heavy_import_is_found_where_it_costs(path: str, code: str, count: int) -> None:
    assert len(weight_violations(path, code)) == count
