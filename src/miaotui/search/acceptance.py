"""The acceptance test: the frozen candidates, tested safest first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from miaotui.budget import Budget
from miaotui.measure.judge import Judgement, Split
from miaotui.measure.statistics import PairedLoss
from miaotui.search.build import built, open_recipe
from miaotui.search.context import Context
from miaotui.search.trials import Trial

_ESTIMATE = 0.5


@dataclass(frozen=True)
class Tested:
    """A candidate on the test split. `confidence` is what it was judged with: None for the
    untouched model, whose estimate stands."""

    trial: Trial
    report: Judgement
    passed: bool
    confidence: float | None = None

    @property
    def upper_bound(self) -> float | None:
        """Of its loss."""
        return None if self.confidence is None else bound(self.report.loss, self.confidence)


def keeps(report: Judgement, budget: Budget) -> bool:
    """Whether the loss is within the limit, and that of each class within its own, with the
    budget's confidence: the one-sided paired bound. Every one of them must be, so that none needs a
    correction for the others. 0% asks for equal answers."""
    if budget.max_drop == 0:
        return report.agreement == 1.0
    losses = [(report.loss, budget.max_drop)]
    if budget.max_class_drop is not None:
        losses += [(loss, budget.max_class_drop) for loss in report.class_losses.values()]
    return all(bound(loss, budget.confidence) <= limit for loss, limit in losses)


def bound(loss: PairedLoss, confidence: float) -> float:
    """The one-sided upper bound; at 50% the estimate itself."""
    return loss.estimate if confidence == _ESTIMATE else loss.upper_bound(confidence)


def run_acceptance(
    context: Context, candidates: Sequence[Trial], test: Split, budget: Budget
) -> list[Tested]:
    """Tests in order, stops at the first failure; the last that passed is the answer: a fixed
    sequence, which breaks the limit no more often than a single test does, however many candidates
    there are. The first, the tuned original, is the answer whatever it scores; what it loses is
    rounding, for which the estimate stands."""
    tested: list[Tested] = []
    for trial in candidates:
        report = _judged(context, trial, test)
        confidence = _ESTIMATE if trial.is_original else budget.confidence
        passed = keeps(report, replace(budget, confidence=confidence))
        tested.append(Tested(trial, report, passed, None if trial.is_original else confidence))
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
