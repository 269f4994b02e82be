"""The wall-clock budget and who is told what is going on."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

SEARCH_SHARE = 0.7
"""Of the time budget; the rest is for the test gate, the rivals and the final measurement."""
RIVALS_SHARE = 0.2


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
    def search_left_s(self) -> float:
        return self.budget_s * SEARCH_SHARE - self.elapsed_s


@dataclass(frozen=True)
class News:
    """What progress shows: the stage, what is tried, the best so far, the time left."""

    stage: str
    trying: str
    best: str
    left_s: float


Watch = Callable[[News], None]


def silent(news: News) -> None:
    """Shows nothing."""
