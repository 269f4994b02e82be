"""What a search looks at once trials have become dear."""

from pathlib import Path

import pytest

import tiny_context
from miaotui.budget import Budget
from miaotui.engines.layouts import Padded
from miaotui.engines.native import NativeEngine
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.recipe import Recipe
from miaotui.search.clock import Clock, silent
from miaotui.search.state import SearchState
from miaotui.search.trials import Trial, TrialStore

NATIVE = Recipe(engine=NativeEngine())
TRIED, OTHER = (Recipe(engine=OnnxRuntimeEngine(layout=Padded(batch=n))) for n in (8, 16))


@pytest.fixture
def state(tmp_path: Path) -> SearchState:
    context = tiny_context.context(tmp_path)
    store = TrialStore(tmp_path, context.fingerprint)
    found = SearchState(
        context, Budget(max_drop=0.01, confidence=0.5), store, Clock(1000.0), silent
    )
    found.trials = [trial(NATIVE, rows_per_s=80), trial(TRIED, rows_per_s=20)]
    return found


def trial(recipe: Recipe, rows_per_s: float, seconds: float = 60.0) -> Trial:
    return Trial(
        recipe=recipe,
        origin="free",
        drop=0.0,
        drop_error=0.001,
        test_error=0.001,
        throughput_rows_per_s=rows_per_s,
        seconds=seconds,
    )


def test_an_engine_far_behind_is_looked_at_no_more_where_that_is_dear(state: SearchState) -> None:
    assert state.is_expensive(state.trials[1])
    assert not state.is_worth_trying(OTHER)
    assert state.is_worth_trying(Recipe(engine=NativeEngine(threads=1)))


@pytest.mark.parametrize("change", [{"seconds": 2.0}, {"throughput_rows_per_s": 50.0}])
def test_one_that_is_cheap_or_near_is(state: SearchState, change: dict[str, float]) -> None:
    state.trials[1] = state.trials[1].model_copy(update=change)

    assert state.is_worth_trying(OTHER)


def test_an_engine_that_was_not_tried_is(state: SearchState) -> None:
    del state.trials[1]

    assert state.is_worth_trying(OTHER)
