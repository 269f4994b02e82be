"""How sure the outputs of each row are: what a cascade compares with a threshold."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from miaotui.errors import RecipeError
from miaotui.tasks.outputs import Outputs

Confidence = Float32[ndarray, " rows"]


def confidence(name: str, outputs: Outputs) -> Confidence:
    """By name; "expected-error" needs a curve that was fitted to it, and is a RecipeError here."""
    if name not in CONFIDENCES:
        raise RecipeError(f"a cascade cannot go by {name} alone")
    return CONFIDENCES[name](outputs)


def _margin(outputs: Outputs) -> Confidence:
    """Log odds of the best label over the next one; of single readouts."""
    best = np.sort(outputs.values, axis=1)
    return best[:, -1] - best[:, -2]  # type: ignore[no-any-return]


def _nearest_decision(outputs: Outputs) -> Confidence:
    """Log odds of the label decision that is nearest to even."""
    return np.abs(outputs.values).min(axis=1)  # type: ignore[no-any-return]


def _least_margin(outputs: Outputs) -> Confidence:
    """The margin of the row's least sure readout; a row without any is sure of it."""
    margins = np.full(len(outputs), np.inf, dtype=np.float32)
    filled = outputs.lengths > 0
    if filled.any():
        margins[filled] = np.minimum.reduceat(_margin(outputs), outputs.starts[:-1][filled])
    return margins


CONFIDENCES: dict[str, Callable[[Outputs], Confidence]] = {
    "margin": _margin,
    "nearest-decision": _nearest_decision,
    "least-margin": _least_margin,
}
