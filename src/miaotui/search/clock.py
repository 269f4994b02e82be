"""The wall-clock budget and who is told what is going on."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

SEARCH_SHARE = 0.68
"""Of the time budget; the rest is for the acceptance test, the rivals and the final measurement."""
LEAST_SHARE = 0.4
"""Of a short budget."""
PROOF_S = 210.0
"""Kept where the budget is short, for the last side-by-side timing, the acceptance test and the
proof. On two cores and 1,535 test rows the acceptance test took 35 s, opening six rivals and
testing their answers 84 s; what is left must still measure them."""


@dataclass(frozen=True)
class Clock:
    """Time since the run began, against its budget."""

    budget_s: float
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def left_s(self) -> float:
        return self.budget_s - self.elapsed_s

    @property
    def search_s(self) -> float:
        """The search's part of the budget."""
        return min(
            self.budget_s * SEARCH_SHARE, max(self.budget_s - PROOF_S, self.budget_s * LEAST_SHARE)
        )

    @property
    def search_left_s(self) -> float:
        return self.search_s - self.elapsed_s


@dataclass(frozen=True)
class News:
    """What progress shows: the stage, what is tried, the best so far, the time left."""

    stage: str
    trying: str
    best: str
    left_s: float
    note: str = ""
    """A line to keep on the screen."""


Watch = Callable[[News], None]


@dataclass
class TimedWatch:
    """Passes news on, and knows which stage took how long: each until the next one's first news."""

    clock: Clock
    watch: Watch
    _stage: str = "loading"
    _since_s: float = 0.0
    _seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self, news: News) -> None:
        self._close_()
        self._stage = news.stage
        self.watch(news)

    def seconds(self) -> dict[str, float]:
        """Of each stage up to now, in the order they began."""
        self._close_()
        return dict(self._seconds)

    def _close_(self) -> None:
        now = self.clock.elapsed_s
        taken = self._seconds.get(self._stage, 0.0) + now - self._since_s
        self._seconds[self._stage], self._since_s = taken, now


def silent(news: News) -> None:
    """Shows nothing."""
