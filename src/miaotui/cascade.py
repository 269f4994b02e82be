"""A small model answers the rows it is sure of, a larger one the rest. Imports no torch."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from miaotui.drift import Drift, RecentShare, drift
from miaotui.engines import Engine
from miaotui.engines.base import RowRunner
from miaotui.errors import BundleError, RecipeError
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.text_classification import Problem

ENGINE_FOLDER = "engine"
FIRST_FOLDER = "first"
FIRST_FILE = "first.json"


class First(BaseModel):
    """The first stage on disk: its engine, and the confidence from which its answer stands.

    `answered` is the share of `test_rows` rows that it answered where the bundle was made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Engine
    problem: Problem
    threshold: float
    answered: float | None = Field(default=None, ge=0, le=1)
    test_rows: int = Field(default=0, ge=0)


class Cascade(RowRunner):
    """Two sessions as one; safe to call from several threads."""

    def __init__(self, first: RowRunner, second: RowRunner, facts: First) -> None:
        self._first = first
        self._second = second
        self.facts = facts
        """As on disk."""
        self._recent = RecentShare()

    def run(self, rows: EncodedRows) -> Float32[ndarray, "rows labels"]:
        """Logits of every row, from whichever stage answered it."""
        logits = self._first.run(rows)
        unsure = np.flatnonzero(self._unsure(logits))
        self._recent.add(len(rows), len(rows) - len(unsure))
        if len(unsure):
            logits[unsure] = self._second.run(rows.select(unsure))
        return logits

    def answered_first(self, rows: EncodedRows) -> Bool[ndarray, " rows"]:
        """Which of the rows the first stage answers; no part of what `drift` sees."""
        return ~self._unsure(self._first.run(rows))

    def drift(self) -> Drift | None:
        """What the last rows say; None before any, or where no share was measured."""
        rows, observed = self._recent.rows_and_share()
        if not rows or self.facts.answered is None or not self.facts.test_rows:
            return None
        return drift(self.facts.answered, self.facts.test_rows, observed, rows)

    def close(self) -> None:
        self._first.close()
        self._second.close()

    def _unsure(self, logits: Float32[ndarray, "rows labels"]) -> ndarray:
        if not len(logits):
            return np.zeros(0, dtype=bool)
        return confidence(self.facts.problem, logits) < self.facts.threshold


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


def _read_first(folder: Path) -> First | None:
    """The first stage in `folder`, None where there is none; a strange one is a BundleError."""
    path = folder / FIRST_FILE
    if not path.exists():
        return None
    try:
        return First.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise BundleError(f"{path} is not the first stage of a cascade") from error


def open_stages(engine: Engine, folder: Path, cores: int) -> RowRunner:
    """What lies in `folder`: an engine's files, and a first stage before it if there is one."""
    second = engine.open(folder / ENGINE_FOLDER, cores)
    first = _read_first(folder)
    if first is None:
        return second
    return Cascade(first.engine.open(folder / FIRST_FOLDER, cores), second, first)
