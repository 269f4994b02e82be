"""The acceptance test: the frozen candidates, tested safest first."""

from collections.abc import Sequence
from dataclasses import dataclass

from miaotui.budget import Budget
from miaotui.measure.judge import Judgement, Split
from miaotui.search.build import built, open_recipe
from miaotui.search.context import Context
from miaotui.search.trials import Trial


@dataclass(frozen=True)
class Tested:
    """A candidate on the test split."""

    trial: Trial
    report: Judgement
    passed: bool


def keeps(report: Judgement, budget: Budget) -> bool:
    """Whether a drop is within the limit: its point estimate, or with `strict` the one-sided 95%
    paired bound."""
    if budget.max_drop == 0:
        return report.agreement == 1.0
    return (report.upper_bound_95 if budget.strict else report.drop) <= budget.max_drop


def run_acceptance(
    context: Context, candidates: Sequence[Trial], test: Split, budget: Budget
) -> list[Tested]:
    """Tests in order, stops at the first failure; the last that passed is the answer. The first,
    the tuned original, is the answer whatever it scores."""
    tested: list[Tested] = []
    for trial in candidates:
        report = _judged(context, trial, test)
        tested.append(Tested(trial, report, keeps(report, budget)))
        if not tested[-1].passed:
            break
    return tested


def answer(tested: Sequence[Tested]) -> Tested:
    """The last candidate that passed, or the tuned original."""
    return next((t for t in reversed(tested) if t.passed), tested[0])


def _judged(context: Context, trial: Trial, test: Split) -> Judgement:
    folder = built(trial.recipe, context).folder
    with open_recipe(trial.recipe, context, folder) as session:
        return context.judge.judge(session, test)
