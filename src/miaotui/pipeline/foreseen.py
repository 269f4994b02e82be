"""What a run will not be able to show, said at its start: of what rows and time cannot decide."""

from collections import Counter
from collections.abc import Iterator

from miaotui.budget import Budget
from miaotui.data.rows import Rows
from miaotui.measure.judge import OutputsJudge, metric_of
from miaotui.measure.statistics import rows_to_decide

SHORTEST_PROOF_S = 300.0
"""From this budget on the best rivals are always measured."""
_CHANGED = 0.05


def foreseen(test: Rows, judge: OutputsJudge, budget: Budget) -> Iterator[str]:
    """One line for each."""
    metric = metric_of(judge.task, judge.metric)
    sure, remedy = f"{budget.confidence:.0%} confidence", "give more rows, --test"
    if metric.is_share and budget.max_drop > 0:
        changed = _CHANGED if metric.follows_changes else 0.0
        needed = rows_to_decide(budget.max_drop, budget.confidence, changed)
        what = f"changes {_CHANGED:.0%} of the answers and loses nothing" if changed else "is equal"
        if len(test) < needed:
            yield (
                f"{len(test):,} test rows can hardly show a loss below {budget.max_drop:.2%} with "
                f"{sure}: what {what} needs about {needed:,}; {remedy}, or a lower --confidence"
            )
    if budget.max_class_drop is not None:
        yield from _rare_classes(test, judge, budget.max_class_drop, budget.confidence)
    if budget.time_budget_s < SHORTEST_PROOF_S:
        yield (
            f"{budget.time_budget_s:.0f} s leave little for rivals: the result is compared with "
            "the baseline and those that the time allows, which may be none; give a "
            f"--time-budget of {SHORTEST_PROOF_S / 60:.0f}m or more for a proof"
        )


def _rare_classes(test: Rows, judge: OutputsJudge, most: float, confidence: float) -> Iterator[str]:
    """The rarest class, where nothing is surely within its limit; and those that have no row."""
    counts = Counter(dict.fromkeys(judge.task.class_metrics, 0))
    for label in test.labels or ():
        counts.update(judge.task.classes_of(label))
    missing = [name for name, count in counts.items() if not count]
    if missing:
        yield f"no test row is of {', '.join(missing[:5])}: --max-class-drop says nothing of it"
    known = {name: count for name, count in counts.items() if count}
    rarest = min(known, key=lambda name: known[name], default=None)
    needed = rows_to_decide(most, confidence, 0.0)
    if rarest is not None and known[rarest] < needed:
        yield (
            f"the class {rarest} has {known[rarest]:,} test rows: to show with {confidence:.0%} "
            f"confidence that it loses less than {most:.2%} takes {needed:,} even where nothing "
            "is lost; give more rows, --test, or a higher --max-class-drop"
        )
