"""What every trial of one search shares: the original, its rows, the machine, where to work."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from miaotui.hardware import Machine
from miaotui.measure.quality import score
from miaotui.models.model import Calibration, Model
from miaotui.tasks.base import EncodedRows, Text
from miaotui.tasks.text_classification import Problem


@dataclass(frozen=True)
class Judged:
    """Rows of one split with their targets and the original's logits."""

    texts: Sequence[Text]
    rows: EncodedRows
    targets: ndarray
    original: Float32[ndarray, "rows labels"]

    def first(self, count: int) -> "Judged":
        count = min(count, len(self.texts))
        return Judged(
            self.texts[:count],
            self.rows.select(range(count)),
            self.targets[:count],
            self.original[:count],
        )


@dataclass(frozen=True)
class Context:
    """One search. `work` keeps trials and models, so that the next run goes on where this ended."""

    model: Model
    machine: Machine
    cores: int
    metric: str
    train: Calibration
    validation: Calibration
    unlabelled: EncodedRows | None
    selection: Judged
    work: Path
    fingerprint: str
    seed: int

    @property
    def problem(self) -> Problem:
        return self.model.task.problem

    @cached_property
    def original_quality(self) -> float:
        """The original's metric on the selection rows."""
        return score(self.metric, self.selection.original, self.selection.targets)

    @property
    def edges(self) -> tuple[int, ...]:
        """Bucket lengths from training rows: quantiles rounded up to eights, then the longest."""
        lengths = self.train.rows.lengths
        cuts = np.quantile(lengths, (0.15, 0.35, 0.55, 0.75, 0.9, 0.99))
        rounded = sorted({int(-(-cut // 8) * 8) for cut in cuts})
        return (*rounded, *(e for e in (128, 256, 512) if e > rounded[-1]))
