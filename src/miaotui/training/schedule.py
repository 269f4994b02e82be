"""A learning-rate schedule that reaches zero when the steps or the time are over."""

import math
import time
from collections import deque
from dataclasses import dataclass, field

_STEPS_TO_ESTIMATE = 20
_SHARE_TO_ESTIMATE = 0.1
_WINDOW_STEPS = 200
_FORWARD_SHARE = 0.4
"""A forward pass over a training step of as many rows, until an evaluation has been timed."""


@dataclass
class Schedule:
    """Run state: how long steps and evaluations take, and so how many steps fit.

    `planned` is what the settings ask for, `total` what is now believed to fit into `seconds`
    (counted from construction). An evaluation takes `evaluation_batches` forward passes.
    """

    planned: int
    warmup: float
    every: int
    seconds: float
    evaluation_batches: int
    total: int = 0
    evaluation_s: float | None = None
    began: float = field(default_factory=time.monotonic)
    _steps_s: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW_STEPS))

    def __post_init__(self) -> None:
        self.total = self.total or self.planned

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def step_s(self) -> float:
        """Mean time of the last steps, zero before the first."""
        return sum(self._steps_s) / len(self._steps_s) if self._steps_s else 0.0

    def rate(self, step: int) -> float:
        """Factor of the learning rate after `step` steps: linear up, then linear to zero."""
        warm = min(self.warmup * self.total, self.total - 1)
        if step < warm:
            return (step + 1) / (warm + 1)
        return max(0.0, (self.total - step) / max(1.0, self.total - warm))

    def note_step_(self, step: int, took_s: float) -> None:
        """Lays the rest of the schedule out anew once enough steps have been timed."""
        self._steps_s.append(took_s)
        if not math.isfinite(self.seconds):
            return
        timed = len(self._steps_s) >= _STEPS_TO_ESTIMATE
        if timed or self.elapsed_s >= _SHARE_TO_ESTIMATE * self.seconds:
            self.total = min(self.planned, step + self._steps_that_fit())

    def is_over(self, step: int) -> bool:
        """Whether no further step is planned, or none would end in time."""
        late = self.elapsed_s + self.step_s + self._evaluation_s() > self.seconds
        return step >= self.total or late

    def left_s(self, step: int) -> float:
        """Time that the remaining steps and evaluations will take."""
        steps = max(0, self.total - step)
        return steps * self.step_s + math.ceil(steps / self.every) * self._evaluation_s()

    def _steps_that_fit(self) -> int:
        left = self.seconds - self.elapsed_s - self._evaluation_s()
        cost = self.step_s + self._evaluation_s() / self.every
        return max(0, int(left / max(cost, 1e-9)))

    def _evaluation_s(self) -> float:
        if self.evaluation_s is not None:
            return self.evaluation_s
        return self.evaluation_batches * self.step_s * _FORWARD_SHARE
