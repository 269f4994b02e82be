"""What each stage of a cascade answers of the test rows, and how well."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray

from miaotui.cascade import Cascade, write_stages
from miaotui.measure.judge import OutputsJudge, Split
from miaotui.tasks.outputs import Outputs

_LEAST_ROWS = 30


@dataclass(frozen=True)
class StageRows:
    """How many of the test rows a stage answered, and the metric on them: None where they are too
    few to say."""

    rows: int
    quality: float | None


def measure_stages(
    cascade: Cascade, test: Split, outputs: Outputs, judge: OutputsJudge
) -> list[StageRows]:
    """Every stage, as they are asked. `outputs` are the cascade's own of all test rows."""
    answered_by = cascade.answered_by(test.rows)

    def of(chosen: ndarray) -> StageRows:
        count = int(chosen.sum())
        if count < _LEAST_ROWS:
            return StageRows(count, None)
        rows = np.flatnonzero(chosen)
        return StageRows(count, judge.score(outputs.select(rows), test.targets.select(rows)))

    return [of(answered_by == number) for number in range(len(cascade.facts.stages) + 1)]


def sentence(stages: list[StageRows], metric: str) -> str:
    """One for the card: who answers which share, and how well."""
    total = sum(stage.rows for stage in stages)

    def told(stage: StageRows) -> str:
        rated = "" if stage.quality is None else f" ({metric} {stage.quality:.3f})"
        return f"{stage.rows / total:.0%}{rated}"

    first, *others, last = (told(stage) for stage in stages)
    between = "".join(f", the next {other}" for other in others)
    return f"a cascade: its first stage answers {first} of the test rows{between}, the last {last}"


def record_stages(folder: Path, cascade: Cascade, stages: list[StageRows]) -> None:
    """Writes into the stages' file what a drift is measured against."""
    rows = np.array([stage.rows for stage in stages])
    reached = rows[::-1].cumsum()[::-1]
    known = tuple(
        stage.model_copy(update={"answered": answered / max(reaching, 1)})
        for stage, answered, reaching in zip(
            cascade.facts.stages, rows[:-1].tolist(), reached[:-1].tolist(), strict=True
        )
    )
    changed = {"stages": known, "test_rows": int(rows.sum())}
    write_stages(folder, cascade.facts.model_copy(update=changed))
