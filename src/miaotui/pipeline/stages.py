"""What each stage of a cascade answers of the test rows, and how well."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float32
from numpy import ndarray

from miaotui.cascade import Cascade, write_first
from miaotui.measure.quality import score
from miaotui.search.context import Judged

_LEAST_ROWS = 30


@dataclass(frozen=True)
class Stages:
    """The share that the first stage answers, and the metric on each stage's rows: None where it
    has too few to say."""

    answered: float
    rows: int
    first: float | None
    second: float | None

    def sentence(self, metric: str) -> str:
        def rated(value: float | None) -> str:
            return "" if value is None else f" ({metric} {value:.3f})"

        return (
            f"a cascade: its first stage answers {self.answered:.0%} of the test rows"
            f"{rated(self.first)}, the second the rest{rated(self.second)}"
        )


def measure_stages(
    cascade: Cascade, test: Judged, logits: Float32[ndarray, "rows labels"], metric: str
) -> Stages:
    """`logits` are the cascade's own of all test rows."""
    first = cascade.answered_first(test.rows)

    def on(chosen: ndarray) -> float | None:
        if chosen.sum() < _LEAST_ROWS:
            return None
        return score(metric, logits[chosen], test.targets[chosen])

    return Stages(float(first.mean()), len(test.rows), on(first), on(~first))


def record_stages(folder: Path, cascade: Cascade, stages: Stages) -> None:
    """Writes into the first stage's file what a drift is measured against."""
    known = {"answered": stages.answered, "test_rows": stages.rows}
    write_first(folder, cascade.facts.model_copy(update=known))
