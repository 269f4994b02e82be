"""Rows without labels: what the original answers stands in for them, so that a candidate is judged
by how many answers it changes."""

import hashlib
import json
from dataclasses import dataclass, field, replace

import numpy as np

from miaotui.data.inputs import Text
from miaotui.data.rows import Rows
from miaotui.engines import REFERENCE
from miaotui.errors import BudgetError
from miaotui.models.model import Model
from miaotui.pipeline.affordable import rows_per_s
from miaotui.pipeline.options import OptimizeOptions

COUNTS_FILE = "answered-rows.json"
_SHARE, _FEWEST = 0.15, 512
"""Of the time budget, for all files together; and the fewest rows of one that make sense of it."""


@dataclass
class OwnAnswers:
    """Has the original answer files of rows. `rest` are texts that the time did not allow for:
    these may be distilled on. `counts` says how many rows of each file were answered.

    With `sample` no more are answered, and the others get those answers in turn: enough to tell how
    large the splits will be.
    """

    model: Model
    cores: int
    options: OptimizeOptions
    sample: int | None = None
    rest: list[Text] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def label_(self, rows: Rows) -> Rows:
        """As many of the rows as the time allows, drawn by the seed, with the original's answers as
        labels; as many as before in a run that goes on, which has their number in its work folder.
        """
        key = _key(rows, self.options)
        with REFERENCE().open_model(self.model, self.cores) as session:
            most = _counted(self.options).get(key)
            if most is None:
                most = self._affordable(rows, rows_per_s(rows, session, self.model.task))
            order = np.random.default_rng(self.options.rows.seed).permutation(len(rows))
            chosen = rows.select(np.sort(order[:most]))
            answered = len(chosen) if self.sample is None else min(self.sample, len(chosen))
            encoded = self.model.task.encode(chosen.texts[:answered])
            labels = self.model.task.labels_of(encoded, session.run(encoded))
        self.counts[key] = most
        self.rest += [rows.texts[i] for i in np.sort(order[most:]).tolist()]
        whole = tuple(labels[i % answered] for i in range(len(chosen)))
        return replace(chosen, labels=whole)

    def _affordable(self, rows: Rows, speed: float) -> int:
        given = self.options.rows
        files = sum(path is not None for path in (given.data, given.selection, given.test))
        seconds = _SHARE * self.options.budget.time_budget_s / files
        fewest = min(_FEWEST, len(rows))
        if fewest / speed > 2 * seconds:
            needed_s = fewest / speed * files / (2 * _SHARE)
            raise BudgetError(
                f"the original answers {speed:.1f} rows/s here, too few to stand in for labels in "
                f"the time; give a --time-budget of at least {needed_s:.0f}s"
            )
        return max(fewest, int(seconds * speed))


def _key(rows: Rows, options: OptimizeOptions) -> str:
    asked = f"{options.rows.seed} {options.budget.time_budget_s}"
    return hashlib.sha256(f"{asked}{rows.texts!r}".encode()).hexdigest()[:16]


def _counted(options: OptimizeOptions) -> dict[str, int]:
    path = options.work / COUNTS_FILE
    if options.fresh or not path.exists():
        return {}
    counts: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return counts
