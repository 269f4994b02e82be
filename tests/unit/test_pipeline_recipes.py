"""A given recipe: its stages one after the other, each with the time that is left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_context
from miaotui.budget import Budget
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.errors import RecipeError
from miaotui.pipeline.recipes import measure_recipe
from miaotui.recipe import CascadeStage, Recipe
from miaotui.search.clock import Clock, silent
from miaotui.search.trials import Trial, TrialStore
from miaotui.techniques import DropLayers, Int8Dynamic
from miaotui.training.settings import Distillation

ENGINE = OnnxRuntimeEngine()
FIRST = (DropLayers(keep=(0,)), Distillation(epochs=1), Int8Dynamic())
LAST = (DropLayers(keep=(0, 1)), Distillation(epochs=2), Int8Dynamic())
CASCADE = Recipe(
    stages=(CascadeStage(answers=0.5, steps=FIRST, engine=ENGINE),), steps=LAST, engine=ENGINE
)
TAKES_S = {FIRST: 40.0, LAST: 300.0}
TIME_S = 680.0  # the search's, of a budget of 1,000

Measured = Callable[..., Any]


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    """Measures a recipe; returns what each stage that was trained was offered."""

    def measure(recipe: Recipe, again: tuple[Any, ...] = (), fails: str = "") -> dict[Any, float]:
        offered: dict[Any, float] = {}

        def evaluate(recipe: Recipe, origin: str, _: Any, store: TrialStore, *more: Any) -> Trial:
            seconds = more[1] if len(more) > 1 else None
            known = store.get(recipe)
            if any(isinstance(step, Distillation) for step in recipe.steps) and not recipe.stages:
                offered[recipe.steps] = seconds
            if known is not None and recipe.steps not in again:
                return known
            takes = TAKES_S.get(recipe.steps, 0.0) + len(again)
            trial = Trial(
                recipe=recipe,
                origin=origin,
                drop=0.0,
                drop_error=0.0,
                test_error=0.0,
                seconds=takes,
            )
            if fails and fails in recipe.title:
                trial = trial.model_copy(update={"error": "cannot"})
            return store.put(trial)

        context, budget = tiny_context.context(tmp_path), Budget(max_drop=0.01)
        clock = Clock(1000.0)
        found = measure_recipe(recipe, context, [ENGINE.name], budget, clock, silent, evaluate)
        assert found.candidates[-1].recipe == recipe
        return offered

    return measure


def test_what_a_training_leaves_is_for_the_next(measured: Measured) -> None:
    offered = measured(CASCADE)

    assert offered[FIRST] == pytest.approx(TIME_S / 2, rel=0.01)
    assert offered[LAST] == pytest.approx(TIME_S - TAKES_S[FIRST], rel=0.01)


def test_a_run_that_goes_on_offers_as_much_as_the_one_before(measured: Measured) -> None:
    """Else a training that was cut short by the time would be done again."""
    before = measured(CASCADE)

    assert measured(CASCADE) == pytest.approx(before, rel=0.01)


def test_a_cascade_is_tried_again_with_a_stage_that_was(measured: Measured, tmp_path: Path) -> None:
    store = TrialStore(tmp_path / "trials", "tiny")
    measured(CASCADE)
    first = store.get(CASCADE)

    measured(CASCADE)
    assert store.get(CASCADE) == first
    measured(CASCADE, again=(FIRST,))

    assert store.get(CASCADE) != first


def test_a_stage_that_cannot_be_made_is_named(measured: Measured) -> None:
    with pytest.raises(RecipeError, match="layers 1 "):
        measured(CASCADE, fails="layers 1 ")


def test_a_recipe_without_stages_is_tried_once(measured: Measured) -> None:
    offered = measured(CASCADE.last)

    assert offered == {LAST: pytest.approx(TIME_S, rel=0.01)}
