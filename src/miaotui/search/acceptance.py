"""The acceptance test: the frozen candidates, tested safest first."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float32
from numpy import ndarray

from miaotui.budget import Budget
from miaotui.measure.quality import DropReport, compare
from miaotui.search.build import built, open_recipe
from miaotui.search.context import Context, SplitRows
from miaotui.search.trials import Trial


@dataclass(frozen=True)
class Tested:
    """A candidate on the test split."""

    trial: Trial
    report: DropReport
    passed: bool
    logits: Float32[ndarray, "rows labels"]


def keeps(report: DropReport, budget: Budget) -> bool:
    """Whether a drop is within the limit: its point estimate, or with `strict` the one-sided 95%
    paired bound."""
    if budget.max_drop == 0:
        return report.agreement == 1.0
    return (report.upper_bound_95 if budget.strict else report.drop) <= budget.max_drop


def run_acceptance(
    context: Context, candidates: Sequence[Trial], test: SplitRows, budget: Budget
) -> list[Tested]:
    """Tests in order, stops at the first failure; the last that passed is the answer. The first,
    the tuned original, is the answer whatever it scores."""
    tested: list[Tested] = []
    for trial in candidates:
        logits = _logits(context, trial, test)
        report = compare(context.metric, context.problem, test.original, logits, test.targets)
        tested.append(Tested(trial, report, keeps(report, budget), logits))
        if not tested[-1].passed:
            break
    return tested


def answer(tested: Sequence[Tested]) -> Tested:
    """The last candidate that passed, or the tuned original."""
    return next((t for t in reversed(tested) if t.passed), tested[0])


def _logits(context: Context, trial: Trial, test: SplitRows) -> Float32[ndarray, "rows labels"]:
    session = open_recipe(trial.recipe, context, built(trial.recipe, context).folder)
    logits = session.run(test.rows)
    session.close()
    return logits
