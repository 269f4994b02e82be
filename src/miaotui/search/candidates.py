"""Choosing among trials: pure functions of them and the budget."""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist

from miaotui.budget import Budget
from miaotui.search.shrinkage import believed
from miaotui.search.trials import Trial

MOST_FROZEN = 5
_SMALLEST_ERROR = 1e-6
_EVEN, _WORTH_A_TEST = 0.5, 0.3
"""The chance to keep the limits with which a trial leads, and the least with which it is built upon
and may be a candidate."""


def allowed(trial: Trial, budget: Budget) -> bool:
    """Whether the selection rows say that a trial will pass the acceptance test; 0% asks for equal
    answers."""
    if not trial.ok or not fits_memory(trial, budget):
        return False
    return trial.same_answers if budget.max_drop == 0 else chance(trial, budget) >= _EVEN


def promising(trial: Trial, budget: Budget) -> bool:
    """Whether a trial may yet pass, or keeps the limits by what was measured of it though so few
    test rows will hardly show it; 0% asks for equal answers."""
    if allowed(trial, budget):
        return True
    if not trial.ok or not fits_memory(trial, budget) or budget.max_drop == 0:
        return False
    return chance(trial, budget) >= _WORTH_A_TEST or _within_limits(trial, budget)


def _within_limits(trial: Trial, budget: Budget) -> bool:
    worst = max((entry.drop for entry in trial.class_drops), default=-math.inf)
    most = budget.max_class_drop
    return trial.drop <= budget.max_drop and (most is None or worst <= most)


def fits_memory(trial: Trial, budget: Budget) -> bool:
    limit, taken = budget.max_memory_bytes, trial.memory_bytes
    return limit is None or (taken is not None and taken <= limit)


def pareto_front(trials: Sequence[Trial], budget: Budget) -> list[Trial]:
    """The trials that no other beats in both divergence and cost, cheapest first.

    Divergence, not drop: over a few hundred rows a drop is mostly chance, and a lucky one would
    leave no safer step to fall back on.
    """
    chosen: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (t.cost(budget.ranks_by), t.divergence)):
        if not chosen or trial.divergence < chosen[-1].divergence:
            chosen.append(trial)
    return chosen


def frozen_candidates(
    trials: Sequence[Trial], original: Trial, budget: Budget, most: int = MOST_FROZEN
) -> list[Trial]:
    """At most so many for the acceptance test, safest first, the tuned original at the head: those
    steps of the Pareto front that promise the greatest gain, since the test ends at a failure.

    With a target p99 it is the safest that meets it, unless the original does.
    """
    hopeful = [t for t in trials if promising(t, budget)]
    kept = [t for t in hopeful if t.recipe != original.recipe]
    if budget.target_p99_ms is not None:
        if original.p99_ms <= budget.target_p99_ms:
            return [original]
        meeting = [t for t in kept if t.p99_ms <= budget.target_p99_ms]
        meeting.sort(key=lambda t: (not allowed(t, budget), t.divergence, t.cost(budget.ranks_by)))
        return [original, *meeting[:1]]
    faster = [t for t in kept if t.cost(budget.ranks_by) < original.cost(budget.ranks_by)]
    steps = pareto_front(faster, budget)[::-1]
    return [original, *_greatest_gain(steps, original, budget, most)]


def _greatest_gain(
    steps: Sequence[Trial], original: Trial, budget: Budget, most: int
) -> Sequence[Trial]:
    """Those of the steps, in their order, whose acceptance test is expected to gain most."""
    known = [
        (chance(t, budget), math.log(original.times_behind(t, budget.ranks_by))) for t in steps
    ]
    sizes = range(min(most - 1, len(steps)), 0, -1)
    choices = [choice for size in sizes for choice in combinations(range(len(steps)), size)]
    best = max(choices, key=lambda chosen: _expected_gain([known[i] for i in chosen]), default=())
    return [steps[i] for i in best]


def _expected_gain(steps: Sequence[tuple[float, float]]) -> float:
    """The logarithm of what the accepted one of the steps (chance, gain over the original) is
    expected to gain. Steps are taken to fail together: one is reached with the smallest chance of
    those up to it."""
    gain, sure, before = 0.0, 1.0, 0.0
    for likely, gains in steps:
        sure = min(sure, likely)
        gain += sure * (gains - before)
        before = gains
    return gain


def chance(trial: Trial, budget: Budget) -> float:
    """That a trial passes the acceptance test: that each loss, as it is believed to be and with its
    doubt there, keeps its limit. The untouched model does whatever the rows."""
    if budget.max_drop == 0 or trial.is_original:
        return 1.0
    drop, error = trial.drop, trial.drop_error
    if trial.follows_changes:
        drop, error = believed(drop, error, trial.changed)
    losses = [(drop, error, trial.test_error, budget.max_drop)]
    if budget.max_class_drop is not None:
        most = budget.max_class_drop
        losses += [(e.drop, e.drop_error, e.test_error, most) for e in trial.class_drops]
    return min(_chance(*loss, budget.confidence) for loss in losses)


def _chance(
    drop: float, drop_error: float, test_error: float, limit: float, confidence: float
) -> float:
    """The drop on test rows is taken to be normal around the one believed, straying by the errors
    of both."""
    spread = max(math.hypot(drop_error, test_error), _SMALLEST_ERROR)
    most = limit - NormalDist().inv_cdf(confidence) * test_error
    return NormalDist().cdf((most - drop) / spread)


def tuned_original(trials: Sequence[Trial], budget: Budget) -> Trial | None:
    """The best fp32 configuration of the untouched model: it answers as the original whatever the
    rows, and so may stand at the head of the candidates."""
    return _best_kept([t for t in _free(trials) if not t.recipe.steps], budget)


def best_float(trials: Sequence[Trial], budget: Budget) -> Trial | None:
    """The best float configuration (fp32 or bf16) of the untouched model: the honest baseline."""
    return _best_kept([t for t in _free(trials) if t.recipe.is_float], budget)


def _free(trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if t.ok and t.origin == "free"]


def _best_kept(trials: Sequence[Trial], budget: Budget) -> Trial | None:
    kept = [t for t in trials if allowed(t, budget)] or trials
    return min(kept, key=lambda t: t.cost(budget.ranks_by), default=None)


def best_so_far(trials: Sequence[Trial], budget: Budget) -> Trial | None:
    keeping = [t for t in trials if allowed(t, budget)]
    return min(keeping, key=lambda t: t.cost(budget.ranks_by), default=None)
