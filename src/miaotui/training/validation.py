"""The number that early stopping watches; larger is better."""

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from miaotui.tasks.text_classification import Problem


def validation_metric(
    problem: Problem, logits: Float32[ndarray, "rows labels"], targets: ndarray
) -> float:
    """Accuracy, share of right label decisions, or minus the mean squared error."""
    if problem is Problem.SINGLE_LABEL:
        return float((logits.argmax(axis=1) == targets).mean())
    if problem is Problem.MULTI_LABEL:
        return float(((logits >= 0) == (targets >= 0.5)).mean())
    return -float(np.mean((logits[:, 0] - targets) ** 2))
