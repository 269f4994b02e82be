"""How good answers are, and how much was lost: metrics on arrays of logits and targets.

Logits are float32 [rows, labels]. Targets are int64 [rows] (single label), float32 [rows, labels]
(multi-label) or float32 [rows] (regression).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped
from numpy import ndarray

from miaotui.errors import BudgetError, DataError, EngineFailed
from miaotui.measure.statistics import paired_bootstrap, tango_interval, tango_upper_bound
from miaotui.tasks.text_classification import Problem

Logits = Float32[ndarray, "rows labels"]
Targets = Int64[ndarray, " rows"] | Float32[ndarray, "rows labels"] | Float32[ndarray, " rows"]
Evidence = Shaped[ndarray, "rows columns"]
"""What a metric needs to know of each row; chosen rows of it give the metric on those rows."""

REGRESSION_TOLERANCE = 1e-4
"""Two regression answers within this, absolute or relative, are the same answer."""


@dataclass(frozen=True)
class Metric:
    """A metric in two steps, so that resampling rows repeats only the second."""

    name: str
    problems: tuple[Problem, ...]
    evidence: Callable[[Logits, Targets], Evidence]
    value: Callable[[Evidence], float]


@dataclass(frozen=True)
class Quality:
    """A metric's value and the number of rows it rests on."""

    metric: str
    value: float
    rows: int


@dataclass(frozen=True)
class DropReport:
    """What the optimized model lost: `drop` = original - optimized, in the metric's own units.

    `interval_95` is two-sided and `upper_bound_95` one-sided, both paired: Tango for accuracy, BCa
    bootstrap otherwise (which has no width where all answers that count are equal). `agreement` is
    the share of rows answered alike.
    """

    metric: str
    original: float
    optimized: float
    drop: float
    interval_95: tuple[float, float]
    upper_bound_95: float
    rows: int
    agreement: float


def score(metric: str, logits: Logits, targets: Targets) -> float:
    """The metric on these rows.

    Arrays that do not fit are a DataError, a metric that does not suit them a BudgetError, and
    logits that are not finite an EngineFailed.
    """
    chosen = _suited(metric, _checked_problem(logits, targets))
    return chosen.value(chosen.evidence(logits, targets))


def quality(metric: str, logits: Logits, targets: Targets) -> Quality:
    """`score` together with what it rests on; the same errors."""
    return Quality(metric, score(metric, logits, targets), len(targets))


def compare(
    metric: str,
    problem: Problem,
    original_logits: Logits,
    optimized_logits: Logits,
    targets: Targets,
    seed: int = 0,
) -> DropReport:
    """Judges the optimized model against the original on the same rows; errors as of `score`."""
    for logits in (original_logits, optimized_logits):
        if _checked_problem(logits, targets) is not problem:
            raise DataError(
                f"targets of type {targets.dtype} and shape {targets.shape} are not those of a "
                f"{problem.value} task; see the shapes in miaotui.measure.quality"
            )
    same = equal_answers(problem, original_logits, optimized_logits)
    chosen = _suited(metric, problem)
    original = chosen.evidence(original_logits, targets)
    optimized = chosen.evidence(optimized_logits, targets)
    drop, interval, upper = _loss(chosen, original, optimized, seed)
    return DropReport(
        metric=metric,
        original=chosen.value(original),
        optimized=chosen.value(optimized),
        drop=drop,
        interval_95=interval,
        upper_bound_95=upper,
        rows=len(targets),
        agreement=float(same.mean()),
    )


def same_answers(problem: Problem, a: Logits, b: Logits) -> bool:
    """Whether every row is answered alike; see `equal_answers`."""
    return bool(equal_answers(problem, a, b).all())


def equal_answers(problem: Problem, a: Logits, b: Logits) -> Bool[ndarray, " rows"]:
    """Row by row: the same best label, the same set of labels, or values within 1e-4.

    A row with an output that is not finite equals no other.
    """
    if a.shape != b.shape:
        raise DataError(f"answers of shapes {a.shape} and {b.shape} are not of the same rows")
    alike: Bool[ndarray, " rows"] = (np.isfinite(a) & np.isfinite(b)).all(axis=1)
    if problem is Problem.SINGLE_LABEL:
        alike &= a.argmax(axis=1) == b.argmax(axis=1)
    elif problem is Problem.MULTI_LABEL:
        alike &= (_labels_on(a) == _labels_on(b)).all(axis=1)
    else:
        close = np.isclose(a, b, rtol=REGRESSION_TOLERANCE, atol=REGRESSION_TOLERANCE)
        alike &= close.all(axis=1)
    return alike


def default_metric(problem: Problem) -> str:
    """Accuracy (single-label), macro-F1 (multi-label) or Spearman (regression)."""
    return metrics_for(problem)[0]


def metrics_for(problem: Problem) -> tuple[str, ...]:
    """Names of the metrics that suit `problem`, its default first."""
    return tuple(name for name, metric in METRICS.items() if problem in metric.problems)


def check_metric(metric: str, problem: Problem) -> None:
    """Raises a BudgetError that lists the valid ones unless `metric` suits `problem`."""
    _suited(metric, problem)


def _suited(metric: str, problem: Problem) -> Metric:
    if metric not in metrics_for(problem):
        raise BudgetError(
            f"metric {metric!r} is not one for a {problem.value} task; choose one of "
            f"{', '.join(metrics_for(problem))}"
        )
    return METRICS[metric]


def _checked_problem(logits: Logits, targets: Targets) -> Problem:
    """The problem that the targets belong to, once both arrays are found to fit."""
    if logits.ndim != 2 or len(logits) != len(targets) or not len(targets):
        raise DataError(
            f"logits of shape {logits.shape} and targets of shape {targets.shape} do not fit; "
            "expected [rows, labels] and the same number of rows, at least one"
        )
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if broken:
        raise EngineFailed(
            f"the outputs of {broken} of {len(logits)} rows are not finite; choose another "
            "precision or engine for this model"
        )
    return _problem_of(logits, targets)


def _problem_of(logits: Logits, targets: Targets) -> Problem:
    rows, labels = logits.shape
    if targets.ndim == 2 and targets.shape == (rows, labels):
        return Problem.MULTI_LABEL
    if targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer):
        if targets.min() < 0 or targets.max() >= labels:
            raise DataError(f"a target label is outside 0 to {labels - 1}; check the label names")
        return Problem.SINGLE_LABEL
    if targets.ndim == 1 and labels == 1:
        return Problem.REGRESSION
    raise DataError(
        f"targets of type {targets.dtype} and shape {targets.shape} do not fit {labels} outputs; "
        "expected int64 [rows], float32 [rows, labels], or float32 [rows] for a single output"
    )


def _loss(
    metric: Metric, original: Evidence, optimized: Evidence, seed: int
) -> tuple[float, tuple[float, float], float]:
    """Drop, two-sided interval and one-sided bound."""
    rows = len(original)
    if metric.name == "accuracy":
        lost = int((original & ~optimized).sum())
        won = int((optimized & ~original).sum())
        # One division: 10 of 1,000 is 0.01 exactly, a difference of two accuracies is not.
        drop = (lost - won) / rows
        return drop, tango_interval(lost, won, rows), tango_upper_bound(lost, won, rows)

    def difference(chosen: Int64[ndarray, " chosen"]) -> float:
        return metric.value(original[chosen]) - metric.value(optimized[chosen])

    bootstrap = paired_bootstrap(difference, rows, seed=seed)
    return bootstrap.estimate, bootstrap.interval(), bootstrap.upper_bound()


def _labels_on(logits: Logits) -> Bool[ndarray, "rows labels"]:
    """Labels whose sigmoid is 0.5 or above: those of a logit of 0 or above."""
    on: Bool[ndarray, "rows labels"] = logits >= 0
    return on


def _right(logits: Logits, targets: Targets) -> Bool[ndarray, "rows 1"]:
    right: Bool[ndarray, " rows"] = logits.argmax(axis=1) == targets
    return right[:, None]


def _share(right: Bool[ndarray, "rows 1"]) -> float:
    return float(right.mean())


def _predicted_and_true(logits: Logits, targets: Targets) -> Int64[ndarray, "rows 3"]:
    """Predicted label, true label, number of labels."""
    rows, labels = logits.shape
    return np.stack([logits.argmax(axis=1), targets, np.full(rows, labels)], axis=1)


def _mcc(evidence: Int64[ndarray, "rows 3"]) -> float:
    """Matthews correlation, many classes (Gorodkin 2004, R_K); 0 where either side is constant."""
    labels = int(evidence[0, 2])
    predicted = np.bincount(evidence[:, 0], minlength=labels).astype(np.float64)
    true = np.bincount(evidence[:, 1], minlength=labels).astype(np.float64)
    rows = len(evidence)
    right = float((evidence[:, 0] == evidence[:, 1]).sum())
    spread = (rows**2 - float(predicted @ predicted)) * (rows**2 - float(true @ true))
    return (right * rows - float(predicted @ true)) / float(np.sqrt(spread)) if spread else 0.0


def _label_hits(logits: Logits, targets: Targets) -> Bool[ndarray, "rows 3*labels"]:
    """For each label: predicted and true, predicted, true."""
    labels = logits.shape[1]
    if targets.ndim == 2:
        predicted, true = _labels_on(logits), targets >= 0.5
    else:
        every = np.arange(labels)
        predicted, true = logits.argmax(axis=1)[:, None] == every, targets[:, None] == every
    return np.concatenate([predicted & true, predicted, true], axis=1)


def _macro_f1(hits: Bool[ndarray, "rows 3*labels"]) -> float:
    """Mean F1 of all labels; a label neither predicted nor true counts 0, as in scikit-learn."""
    both, predicted, true = hits.sum(axis=0, dtype=np.float64).reshape(3, -1)
    return float(np.mean(2 * both / np.maximum(predicted + true, 1)))


def _positive_hits(logits: Logits, targets: Targets) -> Bool[ndarray, "rows 3"]:
    """As `_label_hits`, of the second label alone."""
    if logits.shape[1] != 2:
        raise BudgetError(
            f"f1 is for 2 labels, the second one the positive; here are {logits.shape[1]}: choose "
            "macro_f1 or accuracy"
        )
    return _label_hits(logits, targets)[:, 1::2]


def _values(logits: Logits, targets: Targets) -> Float64[ndarray, "rows 2"]:
    """Predicted value, true value."""
    if len(targets) > 1 and np.ptp(targets) == 0:
        raise DataError("all targets are equal, so no correlation exists; give rows that differ")
    return np.stack([logits[:, 0], targets], axis=1).astype(np.float64)


def _pearson(values: Float64[ndarray, "rows 2"]) -> float:
    """0 where either side is constant: such answers tell nothing."""
    if not np.ptp(values, axis=0).all():
        return 0.0
    centred = values - values.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0).prod())
    return float(centred[:, 0] @ centred[:, 1] / spread)


def _spearman(values: Float64[ndarray, "rows 2"]) -> float:
    """Pearson of ranks, ties sharing their mean rank (Spearman 1904)."""
    return _pearson(np.stack([_ranks(values[:, 0]), _ranks(values[:, 1])], axis=1))


def _ranks(values: Float64[ndarray, " rows"]) -> Float64[ndarray, " rows"]:
    """As scipy's rankdata from 1, several times faster on the thousands of resamples."""
    _, place, ties = np.unique(values, return_inverse=True, return_counts=True)
    means: Float64[ndarray, " distinct"] = np.cumsum(ties) - (ties - 1) / 2
    return means[place]


_SINGLE = (Problem.SINGLE_LABEL,)
_REGRESSION = (Problem.REGRESSION,)
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _SINGLE, _right, _share),
        Metric("macro_f1", (Problem.SINGLE_LABEL, Problem.MULTI_LABEL), _label_hits, _macro_f1),
        Metric("mcc", _SINGLE, _predicted_and_true, _mcc),
        Metric("f1", _SINGLE, _positive_hits, _macro_f1),
        Metric("spearman", _REGRESSION, _values, _spearman),
        Metric("pearson", _REGRESSION, _values, _pearson),
    )
}
"""All metrics by name; the first that suits a problem is its default."""
