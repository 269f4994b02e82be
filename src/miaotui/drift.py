"""Whether the rows that come are still like those that were measured, told by how many of them the
first stage of a cascade is sure of."""

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

RECENT_ROWS = 2000
"""Rows that a drift is read from: the last ones answered, in whole calls."""
_LEAST_SHIFT = 0.03
_Z = 3.29
"""Half of a 99.9% interval, in standard errors."""


@dataclass(frozen=True)
class Drift:
    """The share of the last `rows` rows that the first stage answered, beside the share that it
    answered of `test_rows` rows where the bundle was made. `shifted`: they differ by over three
    points, and by more than chance would explain (99.9%)."""

    expected: float
    test_rows: int
    observed: float
    rows: int
    shifted: bool


def drift(expected: float, test_rows: int, observed: float, rows: int) -> Drift:
    """Compares two shares by the normal approximation of their difference."""
    pooled = (expected * test_rows + observed * rows) / (test_rows + rows)
    error = math.sqrt(pooled * (1 - pooled) * (1 / test_rows + 1 / rows))
    shifted = abs(observed - expected) > max(_LEAST_SHIFT, _Z * error)
    return Drift(expected, test_rows, observed, rows, shifted)


def merged(drifts: Sequence[Drift]) -> Drift | None:
    """Of several processes that run the same bundle; None where none has one."""
    rows = sum(part.rows for part in drifts)
    if not rows:
        return None
    observed = sum(part.observed * part.rows for part in drifts) / rows
    return drift(drifts[0].expected, drifts[0].test_rows, observed, rows)


class RecentShare:
    """A share over the last RECENT_ROWS rows, in whole calls; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[tuple[int, int]] = deque()
        self._rows = 0

    def add(self, rows: int, counted: int) -> None:
        with self._lock:
            self._calls.append((rows, counted))
            self._rows += rows
            while self._rows - self._calls[0][0] >= RECENT_ROWS:
                self._rows -= self._calls.popleft()[0]

    def rows_and_share(self) -> tuple[int, float]:
        """How many rows it is of, and the share: 0 of none."""
        with self._lock:
            counted = sum(counted for _, counted in self._calls)
            return self._rows, counted / self._rows if self._rows else 0.0
