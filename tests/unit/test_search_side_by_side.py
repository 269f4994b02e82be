"""Leaders timed side by side: their figures are replaced, in the state and in the store."""

from pathlib import Path

import pytest

import tiny_context
from miaotui.budget import Budget
from miaotui.engines.layouts import Packed, Padded
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.recipe import Recipe
from miaotui.search.clock import Clock, silent
from miaotui.search.state import SearchState
from miaotui.search.trials import Trial, TrialStore
from miaotui.techniques import DropLayers

LAYOUTS = (Padded(batch=4), Packed(batch=2, block_tokens=32))
NONSENSE = 1e9


@pytest.fixture
def state(tmp_path: Path) -> SearchState:
    """Two trials with figures that nothing can have measured."""
    store = TrialStore(tmp_path / "trials", "tiny")
    trials = [
        store.put(
            Trial(
                recipe=Recipe(engine=OnnxRuntimeEngine(layout=layout)),
                origin="free",
                drop=0.0,
                throughput_rows_per_s=NONSENSE,
                p99_ms=NONSENSE,
            )
        )
        for layout in LAYOUTS
    ]
    context = tiny_context.context(tmp_path)
    return SearchState(context, Budget(), store, Clock(120.0), silent, trials)


def test_figures_of_one_run_take_the_place_of_the_first_ones(state: SearchState) -> None:
    timed = state.time_side_by_side(state.trials)

    assert state.trials == timed
    assert {trial.recipe.key for trial in state.store} == {t.recipe.key for t in timed}
    for trial in timed:
        assert 0 < trial.throughput_rows_per_s < NONSENSE
        assert 0 < trial.p50_ms <= trial.p99_ms < NONSENSE
        assert state.store.get(trial.recipe) == trial
    assert len({trial.timed_beside for trial in timed}) == 1
    assert state.time_side_by_side(timed) == timed, "the same trials are not timed twice"


def test_one_alone_or_too_little_time_is_not_timed(state: SearchState) -> None:
    assert state.time_side_by_side(state.trials[:1]) == state.trials[:1]
    state.clock = Clock(60.0)
    assert [t.timed_beside for t in state.time_side_by_side(state.trials)] == [None, None]


@pytest.mark.parametrize(("speed", "again"), [(50.0, True), (200.0, False)])
def test_a_smaller_model_slower_than_the_whole_is_timed_again(
    state: SearchState, speed: float, again: bool
) -> None:
    whole = state.trials[0].model_copy(update={"throughput_rows_per_s": 100.0})
    smaller = Trial(
        recipe=whole.recipe.model_copy(update={"steps": (DropLayers(keep=(0,)),)}),
        origin="compressed",
        drop=0.0,
        throughput_rows_per_s=speed,
    )
    state.trials = [whole, smaller]

    found = state.timed_again_if_slower(smaller, whole.recipe)

    assert state.trials[1] == found
    assert (found.timed_beside is not None) is again
    if again:
        assert found.throughput_rows_per_s > state.trials[0].throughput_rows_per_s
    else:
        assert found == smaller
