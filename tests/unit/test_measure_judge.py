"""Metrics against hand-computed and scipy values; drops, agreement and refusals."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from miaotui.data.rows import Rows
from miaotui.errors import BudgetError, DataError, EngineFailed
from miaotui.measure.judge import Judgement, OutputsJudge, Split, judge_for
from miaotui.measure.statistics import tango_interval, tango_upper_bound
from miaotui.tasks.base import encoded_rows
from miaotui.tasks.outputs import Outputs, Targets, one_a_row
from miaotui.tasks.problems import Problem
from miaotui.tasks.task import Task
from miaotui.tasks.text_classification import TextClassification
from miaotui.tasks.token_classification import TokenClassification
from tiny import tiny_tokenizer


def task(problem: Problem = Problem.SINGLE_LABEL, labels: int = 2) -> Task:
    names = [f"label {i}" for i in range(labels)]
    return TextClassification.of(tiny_tokenizer(), names, problem, 8)


def score(metric, logits, targets, problem=Problem.SINGLE_LABEL):
    judge = judge_for(task(problem, logits.shape[-1]), metric)
    return judge.score(one_a_row(logits), one_a_row(targets))


def compare(metric, problem, original, optimized, targets) -> Judgement:
    rows = encoded_rows([[1]] * len(targets))
    split = Split([""] * len(targets), rows, one_a_row(targets), one_a_row(original))
    return OutputsJudge(task(problem, original.shape[1]), metric).compare(
        one_a_row(optimized), split
    )


def equal_answers(problem, a, b):
    return task(problem, a.shape[1]).same_answers(one_a_row(a), one_a_row(b))


def same_answers(problem, a, b):
    return bool(equal_answers(problem, a, b).all())


def _logits(labels, of=2):
    """Logits that answer `labels`."""
    return np.eye(of, dtype=np.float32)[np.asarray(labels)]


def _labels(*values):
    return np.array(values, dtype=np.int64)


def test_accuracy_counts_right_rows():
    assert score("accuracy", _logits([0, 1, 1, 0]), _labels(0, 1, 0, 0)) == 0.75


def test_multi_label_macro_f1_by_hand():
    logits = np.array([[1, -1, -1], [1, 0, -1], [-1, 1, -1]], dtype=np.float32)
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=np.float32)
    # label 0: 1 hit, 2 predicted, 1 true; label 1: a logit of 0 counts, 1 hit, 2 predicted,
    # 1 true; label 2: never predicted, never true, 0.
    found = score("macro_f1", logits, targets, Problem.MULTI_LABEL)
    assert found == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_single_label_macro_f1_and_binary_f1_by_hand():
    logits, targets = _logits([0, 1, 1, 0, 1]), _labels(0, 1, 0, 1, 1)
    negative, positive = 2 * 1 / (2 + 2), 2 * 2 / (3 + 3)
    assert score("f1", logits, targets) == pytest.approx(positive)
    assert score("macro_f1", logits, targets) == pytest.approx((negative + positive) / 2)


def test_mcc_is_the_correlation_of_two_labels_and_zero_for_a_constant_answer():
    rng = np.random.default_rng(0)
    targets = rng.integers(2, size=200)
    predicted = np.where(rng.random(200) < 0.8, targets, 1 - targets)
    expected = pearsonr(predicted, targets).statistic
    assert score("mcc", _logits(predicted), targets) == pytest.approx(expected)
    assert score("mcc", _logits([1] * 200), targets) == 0


def test_mcc_of_three_labels_by_hand():
    # s=6 rows, c=4 right, predicted counts (2, 1, 3), true counts (2, 2, 2).
    predicted, targets = [0, 0, 1, 2, 2, 2], _labels(0, 0, 1, 1, 2, 2)
    found = score("mcc", _logits(predicted, of=3), targets)
    assert found == pytest.approx((5 * 6 - 12) / np.sqrt((36 - 14) * (36 - 12)))


def test_correlations_agree_with_scipy_ties_included():
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 6, size=150).astype(np.float32)
    values = (targets + rng.normal(size=150)).round().astype(np.float32)
    logits = values[:, None]
    found = [score(m, logits, targets, Problem.REGRESSION) for m in ("spearman", "pearson")]
    assert found[0] == pytest.approx(spearmanr(values, targets)[0])
    assert found[1] == pytest.approx(pearsonr(values, targets)[0])


def test_a_constant_answer_does_not_correlate():
    targets = np.arange(7, dtype=np.float32)
    for metric in ("pearson", "spearman"):
        logits = np.full((7, 1), 0.1, dtype=np.float32)
        assert score(metric, logits, targets, Problem.REGRESSION) == 0


def test_constant_targets_are_refused():
    with pytest.raises(DataError, match="no correlation exists"):
        score("spearman", np.ones((3, 1), np.float32), np.ones(3, np.float32), Problem.REGRESSION)


@pytest.mark.parametrize(
    ("problem", "default"),
    [
        (Problem.SINGLE_LABEL, "accuracy"),
        (Problem.MULTI_LABEL, "macro_f1"),
        (Problem.REGRESSION, "spearman"),
    ],
)
def test_each_problem_has_its_default(problem, default):
    assert judge_for(task(problem)).metric == default


@pytest.mark.parametrize("metric", ["bleu", "spearman"])
def test_a_metric_that_does_not_suit_lists_those_that_do(metric):
    with pytest.raises(BudgetError, match=r"accuracy, macro_f1, mcc, f1"):
        judge_for(task(), metric)
    with pytest.raises(BudgetError, match=metric):
        score(metric, _logits([0, 1]), _labels(0, 1))


def test_f1_needs_two_labels():
    with pytest.raises(BudgetError, match="here are 3"):
        score("f1", _logits([0, 1], of=3), _labels(0, 1))


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (_logits([0, 1]), _labels(0)),
        (np.zeros(2, dtype=np.float32), _labels(0, 1)),
        (np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=np.int64)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(logits, targets):
    with pytest.raises(DataError):
        score("accuracy", logits, targets)


def test_outputs_that_are_not_finite_are_an_engine_failure_and_no_answer():
    broken = _logits([0, 1])
    broken[0, 0] = np.nan
    with pytest.raises(EngineFailed, match="1 of 2 readouts are not finite"):
        score("accuracy", broken, _labels(0, 1))
    assert equal_answers(Problem.SINGLE_LABEL, _logits([0, 1]), broken).tolist() == [False, True]


def test_compare_of_accuracy_is_exact_and_uses_tango():
    targets = np.zeros(1000, dtype=np.int64)
    original, optimized = np.zeros(1000, dtype=np.int64), np.zeros(1000, dtype=np.int64)
    original[:100] = 1
    optimized[:100] = 1
    optimized[100:114] = 1  # lost
    optimized[:4] = 0  # won
    report = compare(
        "accuracy", Problem.SINGLE_LABEL, _logits(original), _logits(optimized), targets
    )
    assert report.drop == 0.01  # exactly, so that a limit of 1% is kept
    assert (report.original, report.optimized) == (0.9, 0.89)
    assert report.interval_95 == tango_interval(14, 4, 1000)
    assert report.loss.upper_bound(0.8) == tango_upper_bound(14, 4, 1000, 0.8)
    assert report.agreement == pytest.approx(0.982)
    assert report.rows == 1000


def _noisy(rng, targets, noise):
    return (2 * targets - 1 + rng.normal(scale=noise, size=targets.shape)).astype(np.float32)


def test_compare_of_macro_f1_brackets_its_drop_and_repeats():
    rng = np.random.default_rng(2)
    targets = (rng.random((300, 4)) < 0.3).astype(np.float32)
    original, optimized = _noisy(rng, targets, 0.5), _noisy(rng, targets, 1.0)
    report = compare("macro_f1", Problem.MULTI_LABEL, original, optimized, targets)
    assert report.drop == pytest.approx(report.original - report.optimized)
    assert 0 < report.interval_95[0] < report.drop
    assert report.drop < report.loss.upper_bound(0.8) < report.loss.upper_bound()
    assert report.loss.upper_bound() < report.interval_95[1]
    assert report == compare("macro_f1", Problem.MULTI_LABEL, original, optimized, targets)


def test_pairing_makes_the_interval_narrow():
    rng = np.random.default_rng(3)
    targets = rng.normal(size=400).astype(np.float32)
    original = (targets + rng.normal(size=400)).astype(np.float32)[:, None]
    near = original + rng.normal(scale=0.02, size=(400, 1)).astype(np.float32)
    far = (targets + rng.normal(size=400)).astype(np.float32)[:, None]
    paired = compare("spearman", Problem.REGRESSION, original, near, targets).interval_95
    unpaired = compare("spearman", Problem.REGRESSION, original, far, targets).interval_95
    assert paired[1] - paired[0] < 0.1 * (unpaired[1] - unpaired[0])


def test_same_answers_ignores_what_does_not_change_an_answer():
    single = _logits([0, 1, 1])
    assert same_answers(Problem.SINGLE_LABEL, single, single * 3)
    assert not same_answers(Problem.SINGLE_LABEL, single, _logits([0, 1, 0]))
    multi = np.array([[1, -1], [2, 3]], dtype=np.float32)
    assert same_answers(Problem.MULTI_LABEL, multi, multi * 5)
    assert not same_answers(Problem.MULTI_LABEL, multi, np.abs(multi))
    value = np.array([[3.0], [0.5]], dtype=np.float32)
    assert same_answers(Problem.REGRESSION, value, value + np.float32(5e-5))
    assert not same_answers(Problem.REGRESSION, value, value + np.float32(1e-3))


def test_the_first_texts_of_a_split_keep_all_their_windows():
    tagger = TokenClassification(tiny_tokenizer(), ("O", "I-PER"), max_tokens=12)
    rows = Rows((" ".join(["a quiet film"] * 30), "a film", "warm"), None, "")
    encoded = tagger.encode(rows.texts)
    starts = encoded.readout_starts
    outputs = Outputs(np.arange(2.0 * starts[-1], dtype=np.float32).reshape(-1, 2), starts)
    split = Split(rows.texts, encoded, Targets(np.zeros(starts[-1], np.int64), starts), outputs)

    first = split.first(2)

    windows = int(encoded.input_starts[2])
    assert (len(first), len(first.rows), first.rows.num_inputs) == (2, windows, 2)
    assert len(first.original) == len(first.targets) == windows > 2
    assert np.array_equal(first.original.values, outputs.values[: starts[windows]])
    assert len(split.first(10)) == len(split)


def test_f1_of_each_label_by_hand():
    """Of a label that no row has there is nothing to tell."""
    original = np.array([[1, -1, -1], [1, 1, -1], [-1, 1, -1]], dtype=np.float32)
    worse = original.copy()
    worse[0, 0] = -1
    targets = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=np.float32)
    rows = encoded_rows([[1]] * 3)
    split = Split([""] * 3, rows, one_a_row(targets), one_a_row(original))
    judge = judge_for(task(Problem.MULTI_LABEL, 3), each_class=True)
    losses = judge.compare(one_a_row(worse), split).class_losses
    assert {name: loss.estimate for name, loss in losses.items()} == pytest.approx(
        {"label 0": 1 - 2 / 3, "label 1": 0.0}
    )


def test_values_have_no_classes():
    with pytest.raises(BudgetError, match="max-class-drop is for tasks with classes"):
        judge_for(task(Problem.REGRESSION, 1), each_class=True)
