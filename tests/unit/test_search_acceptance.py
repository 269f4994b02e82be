"""What passes the acceptance test: the bound of a loss at the confidence asked for."""

import numpy as np
import pytest

from miaotui.budget import Budget
from miaotui.measure.judge import Judgement, OutputsJudge, Split
from miaotui.measure.statistics import tango_upper_bound
from miaotui.search.acceptance import bound, keeps
from miaotui.tasks.base import encoded_rows
from miaotui.tasks.outputs import one_a_row
from miaotui.tasks.problems import Problem
from miaotui.tasks.text_classification import TextClassification
from tiny import tiny_tokenizer

ROWS = 1000
NAMES = ("common", "rare")
RARE = 100


def judgement(lost: int, won: int, lost_of_rare: int = 0, each_class: bool = False) -> Judgement:
    """Of 900 rows of one class and 100 of another, the original is wrong on the last 50 of each."""
    targets = np.repeat([0, 1], [ROWS - RARE, RARE])
    original = targets.copy()
    original[850:900], original[950:] = 1, 0
    optimized = original.copy()
    optimized[:lost] = 1
    optimized[850 : 850 + won] = 0
    optimized[900 : 900 + lost_of_rare] = 0
    task = TextClassification.of(tiny_tokenizer(), NAMES, Problem.SINGLE_LABEL, 8)
    logits = np.eye(2, dtype=np.float32)
    rows = encoded_rows([[1]] * ROWS)
    split = Split([""] * ROWS, rows, one_a_row(targets), one_a_row(logits[original]))
    judge = OutputsJudge(task, "accuracy", each_class=each_class)
    return judge.compare(one_a_row(logits[optimized]), split)


def test_the_bound_decides_and_not_the_estimate() -> None:
    """8 of 1,000 lost and none won: 0.8 points, below 1.09 with 80% confidence."""
    report = judgement(8, 0)
    assert report.drop == 0.008
    assert bound(report.loss, 0.8) == tango_upper_bound(8, 0, ROWS, 0.8)
    assert 0.0105 < bound(report.loss, 0.8) < 0.0115
    assert not keeps(report, Budget(max_drop=0.01))
    assert keeps(report, Budget(max_drop=0.01, confidence=0.5))
    assert keeps(report, Budget(max_drop=0.012))
    assert not keeps(report, Budget(max_drop=0.012, confidence=0.95))


def test_at_even_odds_it_is_the_estimate_to_the_last_digit() -> None:
    report = judgement(14, 4)
    assert keeps(report, Budget(max_drop=0.01, confidence=0.5))
    assert not keeps(report, Budget(max_drop=0.00999, confidence=0.5))


def test_a_class_that_loses_more_than_allowed_fails_the_whole() -> None:
    """12 of 100 rare ones are lost and 12 others won: no loss in all."""
    report = judgement(0, 12, lost_of_rare=12, each_class=True)
    assert report.drop == 0
    assert report.class_losses["rare"].estimate == pytest.approx(0.12)
    assert report.class_losses["common"].estimate == pytest.approx(-12 / 900)
    assert keeps(report, Budget(max_drop=0.01))
    assert not keeps(report, Budget(max_drop=0.01, max_class_drop=0.12))
    assert keeps(report, Budget(max_drop=0.01, max_class_drop=0.16))


def test_classes_are_judged_only_where_that_is_asked_for() -> None:
    assert judgement(0, 0).class_losses == {}
    assert set(judgement(0, 0, each_class=True).class_losses) == set(NAMES)


def test_no_drop_at_all_asks_for_equal_answers() -> None:
    assert keeps(judgement(0, 0), Budget(max_drop=0.0))
    assert not keeps(judgement(5, 5), Budget(max_drop=0.0))
