"""What a run will not be able to show, said at its start: of what rows and time cannot decide."""

from collections.abc import Iterator

from miaotui.budget import Budget
from miaotui.data.split import DataSplits
from miaotui.measure.judge import OutputsJudge, metric_of
from miaotui.measure.statistics import rows_to_decide

SHORTEST_PROOF_S = 300.0
"""From this budget on the best rivals are always measured."""
_CHANGED = 0.05


def foreseen(splits: DataSplits, judge: OutputsJudge, budget: Budget) -> Iterator[str]:
    """One line for each."""
    rows = len(splits.test)
    if metric_of(judge.task, judge.metric).is_share and budget.max_drop > 0:
        needed = rows_to_decide(budget.max_drop, budget.confidence, _CHANGED)
        if rows < needed:
            yield (
                f"{rows:,} test rows can hardly show a loss below {budget.max_drop:.2%} with "
                f"{budget.confidence:.0%} confidence: what changes {_CHANGED:.0%} of the answers "
                f"and loses nothing needs about {needed:,}; give more rows, --test, or a lower "
                "--confidence"
            )
    if budget.time_budget_s < SHORTEST_PROOF_S:
        yield (
            f"{budget.time_budget_s:.0f} s leave little for rivals: the result is compared with "
            "the baseline and those that the time allows, which may be none; give a "
            f"--time-budget of {SHORTEST_PROOF_S / 60:.0f}m or more for a proof"
        )
