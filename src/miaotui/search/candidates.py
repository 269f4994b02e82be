"""Choosing among trials: pure functions of them and the budget."""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist

from miaotui.budget import Budget
from miaotui.search.trials import Trial

MOST_FROZEN = 5
ONE_SIDED_95 = NormalDist().inv_cdf(0.95)
_SMALLEST_ERROR = 1e-6
_WORTH_A_TEST = 0.3
"""The least chance to keep the limit with which a trial is built upon and may be a candidate."""


def allowed(trial: Trial, budget: Budget) -> bool:
    """Whether the selection rows say that a trial keeps the limits; 0% asks for equal answers."""
    if not trial.ok or not fits_memory(trial, budget):
        return False
    return trial.same_answers if budget.max_drop == 0 else trial.drop <= budget.max_drop


def promising(trial: Trial, budget: Budget) -> bool:
    """Whether a trial may yet keep the limits on test rows, though it narrowly failed on the
    selection rows; 0% asks for equal answers."""
    if allowed(trial, budget):
        return True
    may = trial.ok and fits_memory(trial, budget) and budget.max_drop > 0
    return may and chance(trial, budget) >= _WORTH_A_TEST


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


def frozen_candidates(trials: Sequence[Trial], original: Trial, budget: Budget) -> list[Trial]:
    """At most five for the acceptance test, safest first, the tuned original at the head: those
    steps of the Pareto front that promise the greatest gain, since the test ends at a failure.

    With a target p99 it is the safest that meets it, unless the original does.
    """
    hopeful = [t for t in trials if promising(t, budget)]
    kept = [t for t in hopeful if t.recipe.key != original.recipe.key]
    if budget.target_p99_ms is not None:
        if original.p99_ms <= budget.target_p99_ms:
            return [original]
        meeting = [t for t in kept if t.p99_ms <= budget.target_p99_ms]
        meeting.sort(key=lambda t: (not allowed(t, budget), t.divergence, t.cost(budget.ranks_by)))
        return [original, *meeting[:1]]
    faster = [t for t in kept if t.cost(budget.ranks_by) < original.cost(budget.ranks_by)]
    steps = pareto_front(faster, budget)[::-1]
    sizes = range(min(MOST_FROZEN - 1, len(steps)), 0, -1)
    choices = [choice for size in sizes for choice in combinations(steps, size)]
    best = max(choices, key=lambda c: expected_gain(c, original, budget), default=())
    return [original, *best]


def expected_gain(choice: Sequence[Trial], original: Trial, budget: Budget) -> float:
    """The logarithm of what the accepted one is expected to gain over the original, in the
    objective's cost. Steps are taken to fail together: one is reached with the smallest chance of
    those up to it."""
    gain, sure, before = 0.0, 1.0, original
    for trial in choice:
        sure = min(sure, chance(trial, budget))
        gain += sure * math.log(before.times_behind(trial, budget.ranks_by))
        before = trial
    return gain


def chance(trial: Trial, budget: Budget) -> float:
    """That a trial keeps the limit on test rows. Its drop there is taken to be normal around the
    one on selection rows, and to stray as far as two drops on as many rows do from each other."""
    if budget.max_drop == 0:
        return 1.0
    stray = max(trial.drop_error, _SMALLEST_ERROR)
    limit = budget.max_drop - (ONE_SIDED_95 * stray if budget.strict else 0.0)
    return NormalDist().cdf((limit - trial.drop) / (math.sqrt(2) * stray))


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
