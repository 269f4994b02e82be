"""How good a model's answers are, and what another one loses: the only thing that search,
acceptance test, cascades and bench know of quality."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from miaotui.data.rows import Rows
from miaotui.errors import BudgetError, DataError, EngineFailed
from miaotui.measure.statistics import PairedLoss, PairedShares, paired_bootstrap
from miaotui.tasks.base import EncodedRows, Text
from miaotui.tasks.metrics import Evidence, Metric
from miaotui.tasks.outputs import Outputs, Targets
from miaotui.tasks.task import Task

_FEWEST_RESAMPLED = 2


class Opened(Protocol):
    """A model that is ready to run."""

    def run(self, rows: EncodedRows) -> Outputs: ...


@dataclass(frozen=True)
class Split:
    """Rows that a judge goes by: texts, what they are encoded as, targets, and what the original
    answered."""

    texts: Sequence[Text]
    rows: EncodedRows
    targets: Targets
    original: Outputs

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, count: int) -> "Split":
        """Of the first texts, `count` at most."""
        rows = self.rows.first_inputs(count)
        own = range(len(rows))
        return Split(self.texts[:count], rows, self.targets.select(own), self.original.select(own))


@dataclass(frozen=True)
class Judgement:
    """What a candidate is worth beside the original, on the inputs of one split.

    `loss` is what it loses, original - optimized in the metric's own units, paired: Tango for
    shares of inputs, BCa bootstrap otherwise (which has no width where all answers that count are
    equal); `class_losses` the same of each class that the inputs have, where these are judged.
    `agreement` is the share of inputs answered alike, `divergence` how far the answers are apart.
    `evidence` is the candidate's, input by input, `outputs` what it gave.
    """

    metric: str
    original: float
    optimized: float
    loss: PairedLoss
    rows: int
    agreement: float
    divergence: float
    evidence: Evidence = field(compare=False, repr=False)
    outputs: Outputs = field(compare=False, repr=False)
    class_losses: Mapping[str, PairedLoss] = field(default_factory=dict)

    @property
    def drop(self) -> float:
        return self.loss.estimate

    @property
    def interval_95(self) -> tuple[float, float]:
        return self.loss.interval()


class Judge(ABC):
    """Judges opened models on the rows of a split."""

    metric: str

    @abstractmethod
    def split(self, rows: Rows, original: Opened) -> Split:
        """Has the original answer the rows."""

    @abstractmethod
    def judge(self, opened: Opened, split: Split) -> Judgement:
        """Runs the candidate on the split, beside the original."""

    @abstractmethod
    def original_quality(self, split: Split) -> float:
        """The original's metric."""


@dataclass(frozen=True)
class OutputsJudge(Judge):
    """For tasks whose answers are read from one run's outputs; `metric` is the name of one of the
    task's. `each_class` judges every class by itself too."""

    task: Task
    metric: str
    seed: int = 0
    each_class: bool = False

    @property
    def follows_changes(self) -> bool:
        """As of the metric."""
        return metric_of(self.task, self.metric).follows_changes

    def split(self, rows: Rows, original: Opened) -> Split:
        encoded = self.task.encode(rows.texts)
        return Split(rows.texts, encoded, self.task.targets(rows, encoded), original.run(encoded))

    def judge(self, opened: Opened, split: Split) -> Judgement:
        return self.compare(opened.run(split.rows), split)

    def original_quality(self, split: Split) -> float:
        return self.score(split.original, split.targets, split.rows.input_starts)

    def score(
        self,
        outputs: Outputs,
        targets: Targets,
        input_starts: Int64[ndarray, " inputs_plus_1"] | None = None,
    ) -> float:
        """The metric's value. Arrays that do not fit are a DataError, outputs that are not finite
        an EngineFailed."""
        metric = metric_of(self.task, self.metric)
        return metric.value(self._evidence(metric, outputs, targets, input_starts))

    def compare(self, outputs: Outputs, split: Split) -> Judgement:
        """Judges outputs that are at hand; errors as of `score`."""
        metric, groups = metric_of(self.task, self.metric), split.rows.input_starts
        original = self._evidence(metric, split.original, split.targets, groups)
        optimized = self._evidence(metric, outputs, split.targets, groups)
        before, after = split.original.merged(groups), outputs.merged(groups)
        return Judgement(
            metric=self.metric,
            original=metric.value(original),
            optimized=metric.value(optimized),
            loss=_loss(metric, original, optimized, self.seed),
            rows=len(optimized),
            agreement=float(self.task.same_answers(before, after).mean()),
            divergence=self.task.divergence(before, after),
            evidence=optimized,
            outputs=outputs,
            class_losses=self._class_losses(outputs, split) if self.each_class else {},
        )

    def _class_losses(self, outputs: Outputs, split: Split) -> dict[str, PairedLoss]:
        """Of the classes that the split has."""
        groups, losses = split.rows.input_starts, {}
        for name, metric in self.task.class_metrics.items():
            original = self._evidence(metric, split.original, split.targets, groups)
            if len(original) >= (1 if metric.is_share else _FEWEST_RESAMPLED):
                optimized = self._evidence(metric, outputs, split.targets, groups)
                losses[name] = _loss(metric, original, optimized, self.seed)
        return losses

    def _evidence(
        self,
        metric: Metric,
        outputs: Outputs,
        targets: Targets,
        groups: Int64[ndarray, " inputs_plus_1"] | None,
    ) -> Evidence:
        _check(outputs, targets)
        return metric.evidence(outputs.merged(groups), targets.merged(groups))


def judge_for(task: Task, metric: str | None = None, each_class: bool = False) -> OutputsJudge:
    """By the task's default metric or the one named; one that does not suit it is a BudgetError,
    and so are classes where it has none."""
    if each_class and not task.class_metrics:
        raise BudgetError("max-class-drop is for tasks with classes; these answers are values")
    return OutputsJudge(task, metric_of(task, metric).name, each_class=each_class)


def metric_of(task: Task, name: str | None) -> Metric:
    """One of the task's metrics, its default for None; another is a BudgetError that lists them."""
    known = {metric.name: metric for metric in task.metrics}
    if name is None:
        return task.metrics[0]
    if name not in known:
        raise BudgetError(
            f"metric {name!r} is not one for this {task.name} task; choose one of "
            f"{', '.join(known)}"
        )
    return known[name]


def _check(outputs: Outputs, targets: Targets) -> None:
    values, wanted = outputs.values, targets.values
    if values.ndim != 2 or len(outputs) != len(targets) or len(values) != len(wanted):
        raise DataError(
            f"outputs of shape {values.shape} and targets of shape {wanted.shape} do not fit; "
            "expected one of each for every readout of every row"
        )
    if not len(outputs):
        raise DataError("no rows to judge by; give at least one")
    broken = int((~np.isfinite(values)).any(axis=1).sum())
    if broken:
        raise EngineFailed(
            f"the outputs of {broken} of {len(values)} readouts are not finite; choose another "
            "precision or engine for this model"
        )


def _loss(metric: Metric, original: Evidence, optimized: Evidence, seed: int) -> PairedLoss:
    rows = len(original)
    if metric.is_share:
        lost = int((original & ~optimized).sum())
        won = int((optimized & ~original).sum())
        return PairedShares(lost, won, rows)

    def difference(chosen: Int64[ndarray, " chosen"]) -> float:
        return metric.value(original[chosen]) - metric.value(optimized[chosen])

    return paired_bootstrap(difference, rows, seed=seed)
