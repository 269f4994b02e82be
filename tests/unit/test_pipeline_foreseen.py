"""What rows and time cannot decide is said at the start."""

import pytest

from miaotui.budget import Budget
from miaotui.data.rows import Rows
from miaotui.measure.judge import judge_for
from miaotui.pipeline.foreseen import foreseen
from miaotui.tasks.problems import Problem
from miaotui.tasks.text_classification import TextClassification
from tiny import tiny_tokenizer

LONG = Budget(time_budget_s=600)


def told(test: Rows, budget: Budget, metric: str | None = None) -> list[str]:
    task = TextClassification.of(tiny_tokenizer(), ["a", "b", "c"], Problem.SINGLE_LABEL, 8)
    return list(foreseen(test, judge_for(task, metric), budget))


def rows(a: int, b: int, c: int = 1) -> Rows:
    labels = ("a",) * a + ("b",) * b + ("c",) * c
    return Rows(tuple(map(str, range(len(labels)))), labels, "rows.csv")


def test_enough_rows_and_time_need_no_word() -> None:
    assert told(rows(400, 400), LONG) == []


@pytest.mark.parametrize(
    ("count", "metric", "needed"), [(100, None, "about 36"), (30, "agreement", "about 7")]
)
def test_few_rows(count: int, metric: str | None, needed: str) -> None:
    """By labels what changes 5% of the answers takes some 360 rows at 1%, by agreement 71 do."""
    (line,) = told(rows(count // 2, count // 2), LONG, metric)
    assert "can hardly show a loss below 1.00% with 80% confidence" in line
    assert needed in line
    assert told(rows(50, 50), LONG, "agreement") == []


def test_a_lower_confidence_takes_fewer_rows() -> None:
    assert told(rows(60, 60), Budget(time_budget_s=600, confidence=0.5)) == []


def test_a_rare_class_and_one_without_rows() -> None:
    limited = Budget(time_budget_s=600, max_class_drop=0.05)
    missing, rare = told(rows(500, 9, 0), limited)
    assert "no test row is of c" in missing
    assert "the class b has 9 test rows" in rare
    assert told(rows(500, 40, 40), limited) == []


def test_a_short_budget_is_no_proof() -> None:
    (line,) = told(rows(400, 400), Budget(time_budget_s=60))
    assert "60 s leave little for rivals" in line
    assert "5m or more" in line
