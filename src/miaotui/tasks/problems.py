"""The three problems of text classification, each with all that follows from it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from miaotui.tasks import metrics
from miaotui.tasks.metrics import Metric, labels_on
from miaotui.tasks.task import ConfidenceName, LossName

Logits = Float32[ndarray, "rows labels"]
REGRESSION_TOLERANCE = 1e-4
"""Two regression answers within this, absolute or relative, are the same answer."""


class Problem(StrEnum):
    """How outputs become answers."""

    SINGLE_LABEL = "single_label"
    MULTI_LABEL = "multi_label"
    REGRESSION = "regression"


@dataclass(frozen=True)
class Rules:
    """What a problem means for training and judging. `problem_type` is transformers' name."""

    problem_type: str
    loss: LossName
    confidence: ConfidenceName
    metrics: tuple[Metric, ...]
    class_metric: Callable[[int], Metric] | None
    """Of one label alone."""
    same: Callable[[Logits, Logits], Bool[ndarray, " rows"]]
    progress: Callable[[Logits, ndarray], float]


def _same_label(a: Logits, b: Logits) -> Bool[ndarray, " rows"]:
    return a.argmax(axis=1) == b.argmax(axis=1)  # type: ignore[no-any-return]


def _same_labels(a: Logits, b: Logits) -> Bool[ndarray, " rows"]:
    return (labels_on(a) == labels_on(b)).all(axis=1)  # type: ignore[no-any-return]


def _same_value(a: Logits, b: Logits) -> Bool[ndarray, " rows"]:
    close = np.isclose(a, b, rtol=REGRESSION_TOLERANCE, atol=REGRESSION_TOLERANCE)
    return close.all(axis=1)  # type: ignore[no-any-return]


def _share_right(logits: Logits, targets: ndarray) -> float:
    return float((logits.argmax(axis=1) == targets).mean())


def _share_of_decisions(logits: Logits, targets: ndarray) -> float:
    return float(((logits >= 0) == (targets >= 0.5)).mean())


def _minus_squared_error(logits: Logits, targets: ndarray) -> float:
    return -float(np.mean((logits[:, 0] - targets) ** 2))


RULES = {
    Problem.SINGLE_LABEL: Rules(
        problem_type="single_label_classification",
        loss="cross-entropy",
        confidence="margin",
        metrics=(metrics.ACCURACY, metrics.MACRO_F1, metrics.MCC, metrics.F1, metrics.AGREEMENT),
        class_metric=metrics.class_recall,
        same=_same_label,
        progress=_share_right,
    ),
    Problem.MULTI_LABEL: Rules(
        problem_type="multi_label_classification",
        loss="binary-cross-entropy",
        confidence="nearest-decision",
        metrics=(metrics.MACRO_F1, metrics.AGREEMENT_OF_LABELS),
        class_metric=metrics.label_f1,
        same=_same_labels,
        progress=_share_of_decisions,
    ),
    Problem.REGRESSION: Rules(
        problem_type="regression",
        loss="squared-error",
        confidence="expected-error",
        metrics=(metrics.SPEARMAN, metrics.PEARSON, metrics.AGREEMENT_OF_VALUES),
        class_metric=None,
        same=_same_value,
        progress=_minus_squared_error,
    ),
}
