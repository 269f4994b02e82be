"""What a measurement of two models side by side found: A beside B, on the same rows."""

from dataclasses import dataclass

from miaotui.measure.speed_result import SpeedResult
from miaotui.measure.statistics import Ratio


@dataclass(frozen=True)
class Side:
    """One of the two: its name as given, what it is, what it runs on, and what opening it said."""

    name: str
    is_bundle: bool
    runs_on: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class QualityOfTwo:
    """The metric of both; `drop` is a - b in its own units, paired, with its 95% interval."""

    metric: str
    a: float
    b: float
    drop: float
    interval_95: tuple[float, float]


@dataclass(frozen=True)
class SpeedOfTwo:
    """Raw values of both, and how many times better B is: `throughput`, `p50`, and `p99` where
    both have enough calls for one."""

    a: SpeedResult
    b: SpeedResult
    ratios: dict[str, Ratio]


@dataclass(frozen=True)
class Comparison:
    """`agreement` is the share of rows answered alike. `quality` is None where rows have no
    labels."""

    a: Side
    b: Side
    task: str
    rows: int
    cores: int
    agreement: float
    quality: QualityOfTwo | None
    speed: SpeedOfTwo
    notes: tuple[str, ...] = ()
