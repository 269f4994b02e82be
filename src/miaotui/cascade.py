"""A small model answers the rows it is sure of, a larger one the rest. Imports no torch."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, ValidationError

from miaotui.engines import Engine
from miaotui.engines.base import RowRunner
from miaotui.errors import BundleError, RecipeError
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.text_classification import Problem

ENGINE_FOLDER = "engine"
FIRST_FOLDER = "first"
FIRST_FILE = "first.json"


class First(BaseModel):
    """The first stage on disk: its engine, and the confidence from which its answer stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Engine
    problem: Problem
    threshold: float


class Cascade:
    """Two sessions as one; safe to call from several threads."""

    def __init__(
        self, first: RowRunner, second: RowRunner, problem: Problem, threshold: float
    ) -> None:
        self._first = first
        self._second = second
        self._problem = problem
        self._threshold = threshold

    def run(self, rows: EncodedRows) -> Float32[ndarray, "rows labels"]:
        """Logits of every row, from whichever stage answered it."""
        logits = self._first.run(rows)
        unsure = np.flatnonzero(self._unsure(logits))
        if len(unsure):
            logits[unsure] = self._second.run(rows.select(unsure))
        return logits

    def share_answered(self, rows: EncodedRows) -> float:
        """The share of the rows that the first stage answers."""
        return float(1 - self._unsure(self._first.run(rows)).mean())

    def close(self) -> None:
        self._first.close()
        self._second.close()

    def _unsure(self, logits: Float32[ndarray, "rows labels"]) -> ndarray:
        if not len(logits):
            return np.zeros(0, dtype=bool)
        return confidence(self._problem, logits) < self._threshold


def confidence(
    problem: Problem, logits: Float32[ndarray, "rows labels"]
) -> Float32[ndarray, " rows"]:
    """How far each row is from another answer: the log odds of its best label over the next one,
    or of the label decision nearest to even. A regression has no such thing: a RecipeError."""
    if problem is Problem.REGRESSION:
        raise RecipeError("a cascade needs labels to be sure of; a regression has none")
    if problem is Problem.MULTI_LABEL:
        return np.abs(logits).min(axis=1)  # type: ignore[no-any-return]
    best = np.sort(logits, axis=1)
    return best[:, -1] - best[:, -2]  # type: ignore[no-any-return]


def write_first(folder: Path, first: First) -> None:
    (folder / FIRST_FILE).write_text(first.model_dump_json(indent=1), encoding="utf-8")


def open_stages(engine: Engine, folder: Path, cores: int) -> RowRunner:
    """What lies in `folder`: an engine's files, and a first stage before it if there is one."""
    second = engine.open(folder / ENGINE_FOLDER, cores)
    path = folder / FIRST_FILE
    if not path.exists():
        return second
    try:
        first = First.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise BundleError(f"{path} is not the first stage of a cascade") from error
    session = first.engine.open(folder / FIRST_FOLDER, cores)
    return Cascade(session, second, first.problem, first.threshold)
