"""Smaller models answer the rows they are sure of, larger ones the rest. Imports no torch."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from miaotui.drift import Drift, RecentShare, drift
from miaotui.engines import Engine
from miaotui.engines.base import RowRunner
from miaotui.errors import BundleError
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.confidence import confidence
from miaotui.tasks.outputs import Outputs
from miaotui.tasks.task import ConfidenceName

ENGINE_FOLDER = "engine"
STAGES_FILE = "stages.json"
_STAGES_FOLDER = "stages"
_MOST_KNOTS, _LEAST_ROWS_A_KNOT = 16, 12


class ErrorCurve(BaseModel):
    """The error that an answer in numbers is likely to have, by the answer itself: linear between
    the knots, constant beyond them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: tuple[FiniteFloat, ...] = Field(min_length=1)
    errors: tuple[FiniteFloat, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if len(self.answers) != len(self.errors) or list(self.answers) != sorted(self.answers):
            raise ValueError("a curve has an error for each answer, and its answers ascend")
        return self

    def predict(self, answers: Float32[ndarray, " rows"]) -> ndarray:
        return np.interp(answers, self.answers, self.errors)  # type: ignore[no-any-return]


def fit_error_curve(
    answers: Float32[ndarray, " rows"], better: Float32[ndarray, " rows"]
) -> ErrorCurve:
    """Root mean square distance from better answers, in groups of neighbouring ones."""
    order = np.argsort(answers, kind="stable")
    knots = int(np.clip(len(order) // _LEAST_ROWS_A_KNOT, 1, _MOST_KNOTS))
    groups = np.array_split(order, knots)
    return ErrorCurve(
        answers=tuple(float(answers[group].mean()) for group in groups),
        errors=tuple(float(np.sqrt(np.mean((answers - better)[group] ** 2))) for group in groups),
    )


class Stage(BaseModel):
    """An earlier stage, on disk: its engine, and the confidence from which its answer stands.

    `answered` is the share of test rows that it answered of those that reached it, where the bundle
    was made. Confidence in numbers is minus the error that `curve` expects.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Engine
    threshold: float
    curve: ErrorCurve | None = None
    answered: float | None = Field(default=None, ge=0, le=1)


class Stages(BaseModel):
    """All earlier stages of the last, as they are asked. `test_rows` were measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: ConfidenceName
    stages: tuple[Stage, ...] = Field(min_length=1)
    test_rows: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _named_before(cls, facts: Any) -> Any:
        """In bundles of format 2 the problem stood for the confidence that follows from it."""
        if isinstance(facts, dict) and "problem" in facts:
            facts = dict(facts)
            facts["confidence"] = _OF_PROBLEMS.get(facts.pop("problem"))
        return facts

    @model_validator(mode="after")
    def _sure_by(self) -> Self:
        if any((s.curve is None) == (self.confidence == "expected-error") for s in self.stages):
            raise ValueError("stages that go by the expected error, and no others, have a curve")
        return self


_OF_PROBLEMS = {
    "single_label": "margin",
    "multi_label": "nearest-decision",
    "regression": "expected-error",
}


class Cascade(RowRunner):
    """Several sessions as one; safe to call from several threads."""

    def __init__(self, earlier: Sequence[RowRunner], last: RowRunner, facts: Stages) -> None:
        self._earlier = tuple(earlier)
        self._last = last
        self.facts = facts
        """As on disk."""
        self._recent = RecentShare()

    def run(self, rows: EncodedRows) -> Outputs:
        """Outputs of every row, from whichever stage answered it."""
        outputs, answered_by = self._run(rows)
        self._recent.add(len(rows), int((answered_by == 0).sum()))
        return outputs

    def answered_by(self, rows: EncodedRows) -> ndarray:
        """The number of the stage that answers each row, from 0; no part of what `drift` sees."""
        return self._run(rows)[1]

    def drift(self) -> Drift | None:
        """What the last rows say; None before any, or where no share was measured."""
        rows, observed = self._recent.rows_and_share()
        expected, test_rows = self.facts.stages[0].answered, self.facts.test_rows
        if not rows or expected is None or not test_rows:
            return None
        return drift(expected, test_rows, observed, rows)

    def warm_up(self, longest: int) -> None:
        for runner in (*self._earlier, self._last):
            runner.warm_up(longest)

    def close(self) -> None:
        for runner in (*self._earlier, self._last):
            runner.close()

    def _run(self, rows: EncodedRows) -> tuple[Outputs, Int64[ndarray, " rows"]]:
        """Each stage gets the rows that no earlier one was sure of."""
        outputs = self._earlier[0].run(rows)
        answered_by = np.zeros(len(rows), dtype=np.int64)
        waiting = np.arange(len(rows))
        later = (*self._earlier[1:], self._last)
        for number, (stage, runner) in enumerate(zip(self.facts.stages, later, strict=True), 1):
            waiting = waiting[~self._sure(stage, outputs.select(waiting))]
            if not len(waiting):
                break
            answered_by[waiting] = number
            places, _ = outputs.places(waiting)
            outputs.values[places] = runner.run(rows.select(waiting)).values
        return outputs, answered_by

    def _sure(self, stage: Stage, outputs: Outputs) -> Bool[ndarray, " rows"]:
        if not len(outputs):
            return np.zeros(0, dtype=bool)
        return stage_confidence(self.facts.confidence, outputs, stage.curve) >= stage.threshold


def stage_confidence(
    name: ConfidenceName, outputs: Outputs, curve: ErrorCurve | None
) -> Float32[ndarray, " rows"]:
    """How sure a stage is of each row: minus the error that its curve expects, if it has one."""
    if curve is None:
        return confidence(name, outputs)
    return -curve.predict(outputs.values[:, 0]).astype(np.float32)


def stage_folder(folder: Path, number: int) -> Path:
    """Where the files of an earlier stage lie, counted from 0."""
    return folder / _STAGES_FOLDER / str(number)


def write_stages(folder: Path, stages: Stages) -> None:
    (folder / STAGES_FILE).write_text(stages.model_dump_json(indent=1), encoding="utf-8")


def read_stages(folder: Path) -> Stages | None:
    """The earlier stages in `folder`, None where there are none; strange ones are a
    BundleError."""
    path = folder / STAGES_FILE
    if not path.exists():
        return None
    try:
        return Stages.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise BundleError(f"{path} does not hold the stages of a cascade") from error


@dataclass(frozen=True)
class Part:
    """One stage's engine, and where its files lie."""

    engine: Engine
    folder: Path


def parts_of(engine: Engine, folder: Path) -> tuple[tuple[Part, ...], Stages | None]:
    """What lies in `folder`, as it is asked: earlier stages if there are any, then the engine."""
    facts = read_stages(folder)
    earlier = () if facts is None else facts.stages
    parts = [Part(stage.engine, stage_folder(folder, i)) for i, stage in enumerate(earlier)]
    return (*parts, Part(engine, folder / ENGINE_FOLDER)), facts


def open_parts(parts: Sequence[Part], facts: Stages | None, cores: int) -> RowRunner:
    """All parts as one; none stays open where one cannot be opened."""
    opened: list[RowRunner] = []
    with ExitStack() as failed:
        for part in parts:
            opened.append(part.engine.open(part.folder, cores))
            failed.callback(opened[-1].close)
        failed.pop_all()
    return opened[0] if facts is None else Cascade(opened[:-1], opened[-1], facts)


def open_stages(engine: Engine, folder: Path, cores: int) -> RowRunner:
    """What lies in `folder`: an engine's files, and earlier stages of it if there are any."""
    return open_parts(*parts_of(engine, folder), cores)
