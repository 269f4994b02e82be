"""Trials: a recipe and what was measured of it, one atomically written JSON each."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from miaotui.budget import Objective
from miaotui.paths import write_whole
from miaotui.recipe import Recipe

Origin = Literal["free", "compressed", "recovered", "cascade"]


class ClassDrop(BaseModel):
    """What a class loses on the selection rows, with errors as of a trial."""

    model_config = ConfigDict(frozen=True)

    name: str
    drop: float
    drop_error: float
    test_error: float


class Trial(BaseModel):
    """What one recipe gave on the selection rows. `error` says why it could not be measured."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    recipe: Recipe
    origin: Origin
    quality: float = 0.0
    drop: float = 1.0
    drop_error: float = 1.0
    """Standard error of the drop, as its one-sided 95% bound has it."""
    test_error: float = 1.0
    """What that error will be on the test rows."""
    changed: float = 1.0
    """Share of the selection rows answered otherwise than by the original."""
    follows_changes: bool = False
    """Whether the drop is of a metric whose losses are a steady share of the answers changed."""
    class_drops: tuple[ClassDrop, ...] = ()
    """Of each class, where these are limited."""
    divergence: float = 1.0
    """How far its answers are from the original's on the selection rows, by the task's measure."""
    throughput_rows_per_s: float = 0.0
    p50_ms: float = float("inf")
    p99_ms: float = float("inf")
    size_bytes: int = 0
    memory_bytes: int | None = None
    """Peak of a process that serves it; None where no limit asked for it."""
    seconds: float = 0.0
    timed_beside: str | None = None
    """Which trials it was timed beside; None where its figures were taken alone."""
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def same_answers(self) -> bool:
        return self.changed == 0

    @property
    def is_original(self) -> bool:
        """Whether it is the untouched model in fp32: what differs is rounding."""
        return not self.recipe.steps and not self.recipe.stages

    def cost(self, objective: Objective) -> tuple[float, ...]:
        """Smaller is better for the objective."""
        if objective is Objective.THROUGHPUT:
            return (-self.throughput_rows_per_s,)
        if objective is Objective.LATENCY:
            return (self.p99_ms, self.p50_ms)
        return (float(self.size_bytes), -self.throughput_rows_per_s)

    def times_behind(self, other: "Trial", objective: Objective) -> float:
        """How many times worse it is than another; under 1 where it is better."""
        ours, theirs = self.cost(objective)[0], other.cost(objective)[0]
        worse, better = (theirs, ours) if objective is Objective.THROUGHPUT else (ours, theirs)
        return worse / better if better else float("inf")


@dataclass(frozen=True)
class TrialStore:
    """A folder of trials, keyed by recipe, model, data and environment."""

    folder: Path
    fingerprint: str

    def path(self, recipe: Recipe) -> Path:
        return self.folder / f"{self.fingerprint}-{recipe.key}.json"

    def get(self, recipe: Recipe) -> Trial | None:
        path = self.path(recipe)
        return _read(path) if path.exists() else None

    def put(self, trial: Trial) -> Trial:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.path(trial.recipe), trial.model_dump_json(indent=1))
        return trial

    def forget(self, recipe: Recipe) -> None:
        self.path(recipe).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[Trial]:
        for path in sorted(self.folder.glob(f"{self.fingerprint}-*.json")):
            trial = _read(path)
            if trial is not None:
                yield trial


def _read(path: Path) -> Trial | None:
    try:
        return Trial.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError):
        return None
