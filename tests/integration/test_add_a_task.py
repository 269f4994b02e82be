"""The guide to a task of one's own, done as it says, in a copy of the package."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny_job
from tiny import save_tiny

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "add-a-task.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def apply(diff: str, root: Path) -> int:
    """Makes the edits of one file, each below or instead of the line before it, and counts them."""
    name, *lines = diff.splitlines()
    path = root / name.removeprefix("--- ")
    text, edits = path.read_text(encoding="utf-8"), 0
    for before, line in zip(lines, lines[1:], strict=False):
        if line.startswith("+"):
            kept = f"{before[1:]}\n" if before.startswith(" ") else ""
            assert text.count(f"{before[1:]}\n") == 1, f"{path} has no line {before[1:]!r}"
            text = text.replace(f"{before[1:]}\n", f"{kept}{line[1:]}\n")
            edits += 1
    path.write_text(text, encoding="utf-8")
    return edits


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with what the guide adds to it."""
    root = tmp_path_factory.mktemp("repository")
    for part in ("src", "docs"):
        shutil.copytree(ROOT / part, root / part)
    blocks = FENCE.findall(PAGE)
    (code,) = (text for language, text in blocks if language == "python")
    (root / "src/miaotui/tasks/star_rating.py").write_text(code, encoding="utf-8")
    edits = [apply(text, root) for language, text in blocks if language == "diff"]
    assert sum(edits) == 3, "the guide promises three edits of one line"
    return root


def run(package: Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "miaotui", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(package / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_task_goes_from_rows_to_answers(package: Path, tmp_path: Path) -> None:
    texts = [str(text) for text in tiny_job.texts(1200)]
    rows = tmp_path / "reviews.csv"
    with rows.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "stars"])
        table.writerows([text, 1 + len(text.split()) % 5] for text in texts)
    model, tuned, fast = save_tiny("bert", tmp_path / "tiny"), tmp_path / "model", tmp_path / "fast"
    task = ("--task", "star-rating")
    run(package, "finetune", model, "--data", rows, *task, "--epochs", 1, "--out", tuned)
    limits = ("--max-drop", "5%", "--time-budget", "60s", "--json")
    document = run(package, "optimize", tuned, "--data", rows, *task, *limits, "--out", fast)
    quality = json.loads(document)["quality"]
    assert quality["metric"] == "quadratic_kappa"
    assert quality["within_budget"]
    (line,) = run(package, "predict", fast, "a warm , funny film").splitlines()
    answer = json.loads(line)
    assert answer["stars"] in range(1, 6)
    assert answer["off_by"] >= 0


def test_its_metric_is_cohens_kappa(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.metrics import cohen_kappa_score

    code: dict[str, object] = {"__name__": "star_rating"}
    (text,) = (text for language, text in FENCE.findall(PAGE) if language == "python")
    exec(compile(text, "star_rating.py", "exec"), code)  # noqa: S102
    draw = np.random.default_rng(0)
    rated, true = draw.integers(0, 5, 200), draw.integers(0, 5, 200)
    found = code["_kappa"](np.stack([rated, true], axis=1))  # type: ignore[operator]
    assert found == pytest.approx(cohen_kappa_score(rated, true, weights="quadratic"))
