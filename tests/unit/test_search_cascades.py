"""Which cascades are tried, and when more or fewer rows go to the tiny model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import tiny_context
from miaotui.budget import Budget
from miaotui.engines.layouts import Padded
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.recipe import Recipe
from miaotui.search.cascades import cascades, in_front_of_untrained
from miaotui.search.clock import Clock, silent
from miaotui.search.state import SearchState
from miaotui.search.trials import Origin, Trial, TrialStore
from miaotui.techniques import Int8Dynamic

ERROR = 0.008
"""Of every drop here."""


def alone(number: int, origin: Origin, rows_per_s: float, drop: float) -> Trial:
    """Recipes differ by their batch size alone."""
    return Trial(
        recipe=Recipe(
            steps=(Int8Dynamic(),), engine=OnnxRuntimeEngine(layout=Padded(batch=number))
        ),
        origin=origin,
        drop=drop,
        divergence=0.05,
        drop_error=ERROR,
        test_error=ERROR,
        throughput_rows_per_s=rows_per_s,
    )


FREE = alone(1, "free", 1000, 0.0)
PRUNED = alone(2, "compressed", 1800, 0.005)
LARGER = alone(3, "recovered", 2500, 0.0)
SMALLER = alone(4, "recovered", 4000, 0.04)
TINY = alone(5, "recovered", 20_000, 0.08)


@dataclass
class Tried(SearchState):
    """A search whose cascades keep the limit up to a share of the rows."""

    keeps: Callable[[Recipe], bool] = field(default=lambda recipe: True)
    drops: dict[float, float] = field(default_factory=dict)
    rows_per_s: float = 9000.0
    tried: list[tuple[tuple[Recipe, ...], float]] = field(default_factory=list)
    timed: list[list[Trial]] = field(default_factory=list)

    def try_(
        self, stage: str, recipe: Recipe, origin: Origin, seconds: float | None = None
    ) -> Trial:
        self.tried.append((recipe.each_stage, recipe.stages[0].answers))
        drop = self.drops.get(recipe.stages[0].answers, 0.0 if self.keeps(recipe) else 0.05)
        return Trial(
            recipe=recipe,
            origin=origin,
            drop=drop,
            divergence=0.05,
            drop_error=ERROR,
            test_error=ERROR,
            throughput_rows_per_s=self.rows_per_s,
        )

    def time_side_by_side(self, trials: Sequence[Trial]) -> list[Trial]:
        self.timed.append(list(trials))
        return list(trials)


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., Tried]:
    context = tiny_context.context(tmp_path)
    store = TrialStore(tmp_path / "trials", "tiny")

    def begin(trials: list[Trial], keeps: Callable[[Recipe], bool]) -> Tried:
        budget = Budget(max_drop=0.01, time_budget_s=600, confidence=0.5)
        return Tried(context, budget, store, Clock(600), silent, list(trials), keeps=keeps)

    return begin


def shares(state: Tried, *rest: Trial) -> list[float]:
    """Of the cascades of the tiny model and these, in the order they were tried."""
    stages = (TINY.recipe, *(trial.recipe for trial in rest))
    return [share for tried, share in state.tried if tried == stages]


def test_more_rows_after_a_success_and_fewer_after_a_failure(search: Callable[..., Tried]) -> None:
    state = search([FREE, LARGER, TINY], lambda recipe: recipe.stages[0].answers < 0.6)
    cascades(state, TINY)
    assert shares(state, LARGER) == [0.65, 0.5]
    state = search([FREE, LARGER, TINY], lambda recipe: True)
    cascades(state, TINY)
    assert shares(state, LARGER) == [0.65, 0.8]
    state = search([FREE, LARGER, TINY], lambda recipe: False)
    cascades(state, TINY)
    assert shares(state, LARGER) == [0.65, 0.5, 0.35]


def test_below_what_may_keep_the_limit_something_surer_is_tried(
    search: Callable[..., Tried],
) -> None:
    """65% is a point and a bit over on few rows: worth a test, and worth something to fall back
    on."""
    drops = {0.8: 0.05, 0.65: 0.014, 0.5: 0.004}
    state = search([FREE, LARGER, TINY], lambda recipe: True)
    state.drops = drops
    cascades(state, TINY)
    assert shares(state, LARGER) == [0.65, 0.8, 0.5]


def test_a_model_that_loses_too_much_by_itself_stands_between_two_others(
    search: Callable[..., Tried],
) -> None:
    state = search([FREE, PRUNED, LARGER, SMALLER, TINY], lambda recipe: True)
    cascades(state, TINY)
    assert shares(state, SMALLER) == []
    assert shares(state, SMALLER, LARGER) == [0.65, 0.8]
    assert shares(state, FREE) == shares(state, PRUNED) == []


def test_before_anything_else_is_trained_the_model_as_it_is_comes_last(
    search: Callable[..., Tried],
) -> None:
    state = search([FREE, PRUNED, TINY], lambda recipe: recipe.stages[0].answers < 0.6)
    in_front_of_untrained(state, TINY)
    assert shares(state, FREE) == [0.65, 0.5]
    assert shares(state, PRUNED) == []


def test_without_a_trained_model_the_best_untrained_one_is_last(
    search: Callable[..., Tried],
) -> None:
    state = search([FREE, PRUNED, TINY], lambda recipe: True)
    cascades(state, TINY)
    assert shares(state, PRUNED) == [0.65, 0.8]


def test_a_tiny_model_that_failed_begins_nothing(search: Callable[..., Tried]) -> None:
    state = search([FREE, LARGER], lambda recipe: True)
    failed = TINY.model_copy(update={"error": "no"})
    cascades(state, failed)
    in_front_of_untrained(state, failed)
    assert state.tried == []


@pytest.mark.parametrize(("rows_per_s", "again"), [(2000.0, True), (4000.0, False)])
def test_a_cascade_slower_than_its_last_stage_is_timed_beside_it(
    search: Callable[..., Tried], rows_per_s: float, again: bool
) -> None:
    state = search([FREE, LARGER, TINY], lambda recipe: True)
    state.rows_per_s = rows_per_s

    cascades(state, TINY)

    assert bool(state.timed) is again
    assert all(trials[0] == LARGER and trials[1].recipe.stages for trials in state.timed)
