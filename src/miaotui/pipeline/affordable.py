"""How many rows the original can answer within the time: with many or long ones, not all."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miaotui.data.rows import Rows
from miaotui.data.split import DataSplits
from miaotui.engines.base import RowRunner
from miaotui.errors import BudgetError
from miaotui.search.context import write_json
from miaotui.tasks import Task

_SAMPLE = 48


@dataclass(frozen=True)
class _Share:
    """Of the time budget, for the original to answer a split; and the fewest rows that make sense
    of it."""

    of_budget: float
    fewest: int


_SHARES = {
    "selection": _Share(0.04, 400),
    "test": _Share(0.12, 1000),
    "train": _Share(0.2, 2000),
}
_JUDGED_SHARE = 0.5
"""Selection and test rows that would take more of the budget than this are refused."""


def affordable_splits(  # noqa: PLR0913  (what is cut, by what, and where that is remembered)
    splits: DataSplits,
    session: RowRunner,
    task: Task,
    budget_s: float,
    seed: int,
    memory: Path,
) -> tuple[DataSplits, list[str]]:
    """The splits with no more rows than the time allows, drawn by the seed, and what to say of it.

    The counts are kept in the file `memory`, so that a run that goes on has the same rows.
    """
    counts = _counts(splits, session, task, budget_s, memory)
    cut: dict[str, Rows] = {}
    notes = []
    for name, most in counts.items():
        rows: Rows = getattr(splits, name)
        if most < len(rows):
            chosen = np.random.default_rng(seed).permutation(len(rows))[:most]
            cut[name] = rows.select(np.sort(chosen).tolist())
            notes.append(f"time allowed for {most:,} of {len(rows):,} {name} rows")
    kept = replace(
        splits,
        selection=cut.get("selection", splits.selection),
        test=cut.get("test", splits.test),
        train=cut.get("train", splits.train),
    )
    return kept, notes


def _counts(
    splits: DataSplits,
    session: RowRunner,
    task: Task,
    budget_s: float,
    memory: Path,
) -> dict[str, int]:
    if memory.exists():
        remembered: dict[str, int] = json.loads(memory.read_text(encoding="utf-8"))
        return remembered
    counts = affordable_counts(splits, rows_per_s(splits.selection, session, task), budget_s)
    write_json(memory, counts)
    return counts


def affordable_counts(splits: DataSplits, speed: float, budget_s: float) -> dict[str, int]:
    """Rows of each split that an original of so many rows/s can answer; where that is too few to
    judge anything a BudgetError."""
    counts = {
        name: min(len(getattr(splits, name)), max(s.fewest, int(s.of_budget * budget_s * speed)))
        for name, s in _SHARES.items()
    }
    needed_s = (counts["selection"] + counts["test"]) / speed
    if needed_s > _JUDGED_SHARE * budget_s:
        raise BudgetError(
            f"the original answers {speed:.1f} rows/s here, so that to judge anything takes "
            f"{needed_s:.0f} s; give a --time-budget of at least {needed_s / _JUDGED_SHARE:.0f}s"
        )
    return counts


def rows_per_s(rows: Rows, session: RowRunner, task: Task) -> float:
    """How fast the first few rows are answered."""
    encoded = task.encode(rows.texts[:_SAMPLE])
    session.run(encoded.select(range(min(8, len(encoded)))))
    began = time.perf_counter()
    session.run(encoded)
    return encoded.num_inputs / max(time.perf_counter() - began, 1e-6)
