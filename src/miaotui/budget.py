"""What the user allows: accuracy, time, memory, and what to optimize for."""

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from miaotui.errors import BudgetError

DEFAULT_CONFIDENCE = 0.8
STRICT_CONFIDENCE = 0.95
SMALLEST_TIME_BUDGET_S = 60.0
SMALLEST_MEMORY_BYTES = 50_000_000

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?\s*$")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*$", re.IGNORECASE)


class Objective(StrEnum):
    """What is made best among the configurations that keep the limit."""

    THROUGHPUT = "throughput"
    """Rows per second, offline, text in to answer out."""
    LATENCY = "latency"
    """Batch-1 p99 in milliseconds; p50 breaks ties."""
    SIZE = "size"
    """Bytes needed to serve."""


@dataclass(frozen=True)
class Budget:
    """The limits of one optimization.

    `max_drop` is absolute, in the metric's own units (0.01 is one point of accuracy), and holds
    with `confidence`: the one-sided bound of the loss on the test rows keeps it (0.5 is the point
    estimate). `max_class_drop` bounds the loss of every single class in the same way.
    `max_memory_bytes` bounds the peak of a process that does nothing but serve the model.
    """

    max_drop: float = 0.01
    objective: Objective = Objective.THROUGHPUT
    time_budget_s: float = 600.0
    target_p99_ms: float | None = None
    max_memory_bytes: int | None = None
    confidence: float = DEFAULT_CONFIDENCE
    max_class_drop: float | None = None

    def __post_init__(self) -> None:
        _check_drop("max_drop", self.max_drop)
        if self.max_class_drop is not None:
            _check_drop("max_class_drop", self.max_class_drop)
            if self.max_class_drop == 0:
                raise BudgetError("no rows show that a class loses nothing; allow some, as 5%")
        if not 0.5 <= self.confidence < 1:
            raise BudgetError(
                f"confidence is {self.confidence}; expected 50% or more and less than 100%, as 80%"
            )
        if not math.isfinite(self.time_budget_s):
            raise BudgetError(f"time budget is {self.time_budget_s} s; expected a duration, as 10m")
        if self.time_budget_s < SMALLEST_TIME_BUDGET_S:
            raise BudgetError(
                f"a time budget of {self.time_budget_s:g} s is too short to measure anything; "
                f"the smallest sensible one is {SMALLEST_TIME_BUDGET_S:g}s"
            )
        if self.target_p99_ms is not None and self.target_p99_ms <= 0:
            raise BudgetError(
                f"target p99 is {self.target_p99_ms} ms; expected more than 0, as 5ms"
            )
        if self.max_memory_bytes is not None and self.max_memory_bytes < SMALLEST_MEMORY_BYTES:
            raise BudgetError(
                f"max memory is {self.max_memory_bytes} bytes; Python and an engine alone take "
                f"more than {SMALLEST_MEMORY_BYTES // 1_000_000}MB, give at least that"
            )

    @property
    def ranks_by(self) -> Objective:
        """What trials are ranked by: a target p99 makes it the latency."""
        return self.objective if self.target_p99_ms is None else Objective.LATENCY


def _check_drop(name: str, drop: float) -> None:
    if not math.isfinite(drop) or not 0 <= drop < 1:
        raise BudgetError(f"{name} is {drop}; expected 0% or more and less than 100%, such as 1%")


def parse_drop(text: str) -> float:
    """Reads "1%", "0.5%" or "0.01" as an absolute drop (0.01, 0.005, 0.01)."""
    return parse_share(text, "max-drop", "1% or 0.01")


def parse_limit(max_drop: str | None, max_change: str | None) -> float:
    """The limit of what may be lost: of quality (1% where nothing is said), or of the answers."""
    if max_drop is not None and max_change is not None:
        raise BudgetError("--max-drop judges by labels and --max-change without; give one of them")
    if max_change is not None:
        change = parse_share(max_change, "max-change", "1% or 0.01")
        _check_drop("max-change", change)
        return change
    return Budget.max_drop if max_drop is None else parse_drop(max_drop)


def parse_share(text: str, option: str, example: str) -> float:
    """Reads "80%" or "0.8" as 0.8; anything else is a BudgetError that names the option."""
    stripped = text.strip()
    try:
        if stripped.endswith("%"):
            return float(stripped[:-1]) / 100
        return float(stripped)
    except ValueError:
        raise BudgetError(f"{option} {text!r} is not a number; write it as {example}") from None


def parse_confidence(text: str | None, strict: bool) -> float:
    """Reads "80%" or "0.8"; None is the default, `strict` 95%, both together a BudgetError."""
    if strict and text is not None:
        raise BudgetError("--strict is --confidence 95%; give one of the two")
    if strict:
        return STRICT_CONFIDENCE
    return DEFAULT_CONFIDENCE if text is None else parse_share(text, "confidence", "80% or 0.8")


def parse_duration(text: str, default_unit: str = "s") -> float:
    """Reads "10m", "90s", "5ms" or "1h" as seconds."""
    match = _DURATION.match(text)
    if match is None:
        raise BudgetError(f"{text!r} is not a duration; write it as 10m, 90s, 5ms or 1h")
    return float(match[1]) * _SECONDS[match[2] or default_unit]


def parse_bytes(text: str) -> int:
    """Reads "200MB", "1.5GiB" or "4096" as bytes."""
    match = _BYTES.match(text)
    if match is None:
        raise BudgetError(f"{text!r} is not a size; write it as 200MB or 1.5GiB")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " KMGT".index(match[2].upper() or " "))
