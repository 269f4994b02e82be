"""Rows without labels: what the original answers stands in for them, so that a candidate is judged
by how many answers it changes."""

import json
from dataclasses import dataclass, replace

import numpy as np

from miaotui.data.inputs import Text
from miaotui.data.rows import Rows
from miaotui.engines import REFERENCE
from miaotui.models.model import Model
from miaotui.pipeline.affordable import rows_per_s
from miaotui.pipeline.options import OptimizeOptions

METRIC = "agreement"
COUNT_FILE = "answered-rows.json"
_FEWEST, _SHARE = 2048, 0.15
"""Rows that are answered at least, and what of the time budget may go into more."""


@dataclass(frozen=True)
class OwnAnswers:
    """Rows with the original's answers as labels, and the texts that the time did not allow for:
    these may be distilled on."""

    rows: Rows
    rest: tuple[Text, ...] = ()


def own_answers(rows: Rows, model: Model, cores: int, options: OptimizeOptions) -> OwnAnswers:
    """Of as many rows as the time allows, drawn by the seed; as many as before in a run that goes
    on, which has their number in its work folder."""
    with REFERENCE().open_model(model, cores) as session:
        most = _count(options)
        if most is None:
            speed = rows_per_s(rows, session, model.task)
            most = max(_FEWEST, int(_SHARE * options.budget.time_budget_s * speed))
        order = np.random.default_rng(options.rows.seed).permutation(len(rows))
        chosen = rows.select(np.sort(order[:most]))
        encoded = model.task.encode(chosen.texts)
        labels = model.task.labels_of(encoded, session.run(encoded))
    rest = tuple(rows.texts[i] for i in np.sort(order[most:]).tolist())
    return OwnAnswers(replace(chosen, labels=tuple(labels)), rest)


def _count(options: OptimizeOptions) -> int | None:
    path = options.work / COUNT_FILE
    return int(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
