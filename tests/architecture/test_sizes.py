"""Files and functions stay small, names stay honest, and nothing unsafe or silent creeps in."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "miaotui"

MAX_FILE_LINES = 450
SHORT_LINES, SHORT_SHARE = 30, 0.90
LONG_LINES, LONG_SHARE = 50, 0.03

VAGUE_NAME = re.compile(r"manager|helper|handler|utils", re.IGNORECASE)
PICKLERS = frozenset({"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


def source_files() -> dict[str, str]:
    """Paths relative to the package, and their code."""
    return {
        path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(SOURCE.rglob("*.py"))
    }


def body_lines(function: Function) -> int:
    """Lines from the first statement after the docstring to the last, both counted."""
    first = 1 if ast.get_docstring(function) is not None else 0
    if len(function.body) == first:
        return 0
    return (function.end_lineno or 0) - function.body[first].lineno + 1


def functions(code: str) -> list[Function]:
    return [node for node in ast.walk(ast.parse(code)) if isinstance(node, Function)]


def over(limit: int) -> list[str]:
    """Functions whose body has more lines than `limit`, longest first."""
    found = [
        (body_lines(function), f"{path}:{function.lineno}: {function.name}")
        for path, code in source_files().items()
        for function in functions(code)
        if body_lines(function) > limit
    ]
    return [f"{name}, {lines} lines" for lines, name in sorted(found, reverse=True)]


def num_functions() -> int:
    return sum(len(functions(code)) for code in source_files().values())


def asserts(node: ast.AST) -> str | None:
    if isinstance(node, ast.Assert):
        return "assert vanishes under -O; raise a named error of miaotui.errors"
    return None


def catches_everything(node: ast.AST) -> str | None:
    if not isinstance(node, ast.ExceptHandler):
        return None
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    if any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in caught):
        return "catches everything; name the errors that are expected"
    return None


def unpickles(node: ast.AST) -> str | None:
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        names = [node.module or ""]
    if any(name.split(".")[0] in PICKLERS for name in names):
        return "unpickling runs code; use safetensors, JSON or ONNX"
    return None


def loads_unsafely(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if ast.unparse(node.func) == "torch.load" and given.get("weights_only") != "True":
        return "torch.load unpickles; pass weights_only=True"
    if given.get("allow_pickle", "False") != "False":
        return "allow_pickle unpickles; leave it out"
    if given.get("trust_remote_code", "False") != "False":
        return "trust_remote_code runs code of the model's author; leave it out"
    return None


def names_a_class_vaguely(node: ast.AST) -> str | None:
    if isinstance(node, ast.ClassDef) and VAGUE_NAME.search(node.name):
        return f"{node.name} does not say what it is; name the thing"
    return None


RULES: tuple[Callable[[ast.AST], str | None], ...] = (
    asserts,
    catches_everything,
    unpickles,
    loads_unsafely,
    names_a_class_vaguely,
)


def violations(code: str, rule: Callable[[ast.AST], str | None]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(code)):
        reason = rule(node)
        if reason is not None:
            yield getattr(node, "lineno", 0), reason


def test_no_file_is_too_long() -> None:
    long = {path: code.count("\n") for path, code in source_files().items()}
    found = {path: lines for path, lines in long.items() if lines > MAX_FILE_LINES}
    assert not found, f"split these, the limit is {MAX_FILE_LINES} lines: {found}"


def test_nine_functions_in_ten_are_short() -> None:
    found, total = over(SHORT_LINES - 1), num_functions()
    assert len(found) <= (1 - SHORT_SHARE) * total, (
        f"{len(found)} of {total} functions have {SHORT_LINES} lines or more:\n" + "\n".join(found)
    )


def test_hardly_any_function_is_long() -> None:
    found, total = over(LONG_LINES), num_functions()
    assert len(found) <= LONG_SHARE * total, (
        f"{len(found)} of {total} functions have over {LONG_LINES} lines:\n" + "\n".join(found)
    )


def test_no_file_has_a_vague_name() -> None:
    found = [path for path in source_files() if VAGUE_NAME.search(path)]
    assert not found, f"name the thing that is inside: {found}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_source_file_breaks_a_rule(rule: Callable[[ast.AST], str | None]) -> None:
    found = [
        f"{path}:{line}: {reason}"
        for path, code in source_files().items()
        for line, reason in violations(code, rule)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (asserts, "assert 1"),
        (catches_everything, "try:\n    f()\nexcept:\n    pass"),
        (catches_everything, "try:\n    f()\nexcept Exception as e:\n    pass"),
        (catches_everything, "try:\n    f()\nexcept (OSError, BaseException):\n    pass"),
        (unpickles, "import pickle"),
        (unpickles, "def f():\n    from joblib.externals import x"),
        (loads_unsafely, "import torch\ntorch.load(path)"),
        (loads_unsafely, "torch.load(path, weights_only=False)"),
        (loads_unsafely, "np.load(path, allow_pickle=True)"),
        (loads_unsafely, "AutoModel.from_pretrained(x, trust_remote_code=flag)"),
        (names_a_class_vaguely, "class TrialManager: pass"),
    ],
)
def test_each_rule_finds_what_it_forbids(rule: Callable[[ast.AST], str | None], code: str) -> None:
    assert len(list(violations(code, rule))) == 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_rule_finds_fault_with_good_code(rule: Callable[[ast.AST], str | None]) -> None:
    code = """
import torch
class Trial:
    def load(self):
        try:
            return torch.load(self.path, weights_only=True)
        except (OSError, ValueError) as error:
            raise ModelError("unreadable") from error
"""
    assert list(violations(code, rule)) == []


def test_a_docstring_does_not_count_as_body() -> None:
    code = 'def f(\n    x,\n):\n    """One.\n\n    Two.\n    """\n    y = x\n    return y\n'
    assert [body_lines(function) for function in functions(code)] == [2]
    assert [body_lines(function) for function in functions('def f():\n    """Only."""\n')] == [0]
