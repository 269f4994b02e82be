"""Metrics in two steps, so that resampling rows repeats only the second: evidence row by row, then
a value of any rows' evidence."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped
from numpy import ndarray

from miaotui.errors import BudgetError, DataError
from miaotui.tasks.outputs import Outputs, Targets

Logits = Float32[ndarray, "rows labels"]
Evidence = Shaped[ndarray, "rows columns"]
"""What a metric needs to know of each row; chosen rows of it give the metric on those rows."""


@dataclass(frozen=True)
class Metric:
    """`is_share`: the evidence is one boolean a row and the value their mean. `follows_changes`:
    what a compressed model loses is a steady share of the answers that it changes."""

    name: str
    evidence: Callable[[Outputs, Targets], Evidence]
    value: Callable[[Evidence], float]
    is_share: bool = False
    follows_changes: bool = False


def labels_on(logits: Logits) -> Bool[ndarray, "rows labels"]:
    """Labels whose sigmoid is 0.5 or above: those of a logit of 0 or above."""
    on: Bool[ndarray, "rows labels"] = logits >= 0
    return on


def _right(outputs: Outputs, targets: Targets) -> Bool[ndarray, "rows 1"]:
    right: Bool[ndarray, " rows"] = outputs.values.argmax(axis=1) == targets.values
    return right[:, None]


def _all_labels_right(outputs: Outputs, targets: Targets) -> Bool[ndarray, "rows 1"]:
    right: Bool[ndarray, " rows"] = (labels_on(outputs.values) == (targets.values >= 0.5)).all(1)
    return right[:, None]


def share_right(right: Bool[ndarray, "rows 1"]) -> float:
    return float(right.mean())


def _predicted_and_true(outputs: Outputs, targets: Targets) -> Int64[ndarray, "rows 3"]:
    """Predicted label, true label, number of labels."""
    rows, labels = outputs.values.shape
    predicted = outputs.values.argmax(axis=1)
    return np.stack([predicted, targets.values, np.full(rows, labels)], axis=1)


def _mcc(evidence: Int64[ndarray, "rows 3"]) -> float:
    """Matthews correlation, many classes (Gorodkin 2004, R_K); 0 where either side is constant."""
    labels = int(evidence[0, 2])
    predicted = np.bincount(evidence[:, 0], minlength=labels).astype(np.float64)
    true = np.bincount(evidence[:, 1], minlength=labels).astype(np.float64)
    rows = len(evidence)
    right = float((evidence[:, 0] == evidence[:, 1]).sum())
    spread = (rows**2 - float(predicted @ predicted)) * (rows**2 - float(true @ true))
    return (right * rows - float(predicted @ true)) / float(np.sqrt(spread)) if spread else 0.0


def _label_hits(outputs: Outputs, targets: Targets) -> Bool[ndarray, "rows 3*labels"]:
    """For each label: predicted and true, predicted, true."""
    logits, wanted = outputs.values, targets.values
    if wanted.ndim == 2:
        predicted, true = labels_on(logits), wanted >= 0.5
    else:
        every = np.arange(logits.shape[1])
        predicted, true = logits.argmax(axis=1)[:, None] == every, wanted[:, None] == every
    return np.concatenate([predicted & true, predicted, true], axis=1)


def _macro_f1(hits: Bool[ndarray, "rows 3*labels"]) -> float:
    """Mean F1 of all labels; a label neither predicted nor true counts 0, as in scikit-learn."""
    both, predicted, true = hits.sum(axis=0, dtype=np.float64).reshape(3, -1)
    return float(np.mean(2 * both / np.maximum(predicted + true, 1)))


def _positive_hits(outputs: Outputs, targets: Targets) -> Bool[ndarray, "rows 3"]:
    """As `_label_hits`, of the second label alone."""
    labels = outputs.values.shape[1]
    if labels != 2:
        raise BudgetError(
            f"f1 is for 2 labels, the second one the positive; here are {labels}: choose macro_f1 "
            "or accuracy"
        )
    return _label_hits(outputs, targets)[:, 1::2]


def class_recall(label: int) -> Metric:
    """The share of the rows of one class (single-label) that are answered right: no evidence where
    no row is of it."""

    def right(outputs: Outputs, targets: Targets) -> Bool[ndarray, "rows 1"]:
        own: Bool[ndarray, "rows 1"] = _right(outputs, targets)[targets.values == label]
        return own

    return Metric("recall", right, share_right, is_share=True)


def label_f1(label: int) -> Metric:
    """F1 of one label of several a row: no evidence where no row has it."""

    def hits(outputs: Outputs, targets: Targets) -> Bool[ndarray, "rows 3"]:
        own: Bool[ndarray, "rows 3"] = _label_hits(outputs, targets)[
            :, label :: outputs.values.shape[1]
        ]
        return own if own[:, 2].any() else own[:0]

    return Metric("f1", hits, _macro_f1)


def _values(outputs: Outputs, targets: Targets) -> Float64[ndarray, "rows 2"]:
    """Predicted value, true value."""
    wanted = targets.values
    if len(wanted) > 1 and np.ptp(wanted) == 0:
        raise DataError("all targets are equal, so no correlation exists; give rows that differ")
    return np.stack([outputs.values[:, 0], wanted], axis=1).astype(np.float64)


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


ACCURACY = Metric("accuracy", _right, share_right, is_share=True, follows_changes=True)
MACRO_F1 = Metric("macro_f1", _label_hits, _macro_f1)
MCC = Metric("mcc", _predicted_and_true, _mcc)
F1 = Metric("f1", _positive_hits, _macro_f1)
AGREEMENT_NAME = "agreement"
"""Of the metrics for labels that are the original's own answers."""
AGREEMENT = Metric(AGREEMENT_NAME, _right, share_right, is_share=True)
AGREEMENT_OF_LABELS = Metric(AGREEMENT_NAME, _all_labels_right, share_right, is_share=True)
AGREEMENT_OF_VALUES = Metric(AGREEMENT_NAME, _values, _spearman)
SPEARMAN = Metric("spearman", _values, _spearman)
PEARSON = Metric("pearson", _values, _pearson)
