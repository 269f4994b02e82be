"""Choosing among trials: pure functions of them and the budget."""

from collections.abc import Sequence

from miaotui.budget import Budget
from miaotui.search.trials import Trial

_MOST_FROZEN = 5


def allowed(trial: Trial, budget: Budget) -> bool:
    """Whether the selection rows say that a trial keeps the limit; 0% asks for equal answers."""
    if not trial.ok:
        return False
    return trial.same_answers if budget.max_drop == 0 else trial.drop <= budget.max_drop


def front(trials: Sequence[Trial], budget: Budget) -> list[Trial]:
    """The trials that no other beats in both drop and cost, cheapest first."""
    chosen: list[Trial] = []
    for trial in sorted(
        (t for t in trials if t.ok), key=lambda t: (t.cost(budget.objective), t.drop)
    ):
        if not chosen or trial.drop < chosen[-1].drop:
            chosen.append(trial)
    return chosen


def frozen_candidates(trials: Sequence[Trial], original: Trial, budget: Budget) -> list[Trial]:
    """At most five for the test gate, safest first, the tuned original at the head.

    With a target p99 it is those that meet it, the smallest drop last, so that it is the answer.
    """
    kept = [t for t in trials if allowed(t, budget) and t.recipe.key != original.recipe.key]
    if budget.target_p99_ms is not None:
        meeting = [t for t in kept if t.p99_ms <= budget.target_p99_ms]
        meeting.sort(key=lambda t: (t.drop, t.cost(budget.objective)))
        return [original, *meeting[:1]]
    best = front(kept, budget)[: _MOST_FROZEN - 1]
    faster = [t for t in best if t.cost(budget.objective) < original.cost(budget.objective)]
    return [original, *reversed(faster)]


def tuned_original(trials: Sequence[Trial], budget: Budget) -> Trial | None:
    """The best float configuration of the untouched model: the honest baseline."""
    floats = [t for t in trials if t.ok and t.origin == "free" and not t.recipe.steps]
    return min(floats, key=lambda t: t.cost(budget.objective), default=None)


def best_so_far(trials: Sequence[Trial], budget: Budget) -> Trial | None:
    keeping = [t for t in trials if allowed(t, budget)]
    return min(keeping, key=lambda t: t.cost(budget.objective), default=None)
