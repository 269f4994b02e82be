"""Times a few trials side by side: figures taken minutes apart differ by what else ran then."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack

from miaotui.measure.speed import Contender, SpeedPlan, SpeedResult, measure_interleaved
from miaotui.predictor import Predictor
from miaotui.recipe import Recipe
from miaotui.search.build import built, open_recipe
from miaotui.search.state import SearchState
from miaotui.search.trials import Trial

_PLAN = SpeedPlan(
    rounds=5, min_rounds=2, round_seconds=0.3, max_round_seconds=0.9, latency_calls=600,
    warmup_calls=48,
)  # fmt: skip
_SHARE, _SHORTEST_S = 0.06, 6.0
"""Of the budget, for one timing; where that is too short, figures stay as they were."""


def time_side_by_side(state: SearchState, trials: Sequence[Trial]) -> list[Trial]:
    """The trials with figures of one interleaved run; the state and the store hold these now."""
    seconds = _SHARE * state.clock.budget_s
    keys = "".join(sorted(trial.recipe.key for trial in trials))
    which = hashlib.sha256(keys.encode()).hexdigest()[:16]
    if len(trials) < 2 or seconds < _SHORTEST_S or all(t.timed_beside == which for t in trials):
        return list(trials)
    state.tell("side by side", f"{len(trials)} leading ones side by side")
    texts = state.context.selection.texts
    with ExitStack() as opened:
        contenders = [
            _contender(str(i), opened.enter_context(_opened(state, trial)))
            for i, trial in enumerate(trials)
        ]
        results = measure_interleaved(contenders, texts, _PLAN, deadline_s=seconds)
    timed = [_timed(trial, results[str(i)], which) for i, trial in enumerate(trials)]
    for trial in timed:
        state.store.put(trial)
    fresh = {trial.recipe.key: trial for trial in timed}
    state.trials = [fresh.get(t.recipe.key, t) for t in state.trials]
    return timed


def timed_again_if_slower(state: SearchState, trial: Trial, larger: Recipe) -> Trial:
    """The trial, or where it was slower than `larger`, the model it was made of in the same runtime
    or a cascade's own last stage, both timed again side by side: something else ran while one of
    them was looked at."""
    whole = next((t for t in state.trials if t.recipe.key == larger.key), None)
    if whole is None or not trial.ok or trial.times_behind(whole, state.budget.ranks_by) <= 1:
        return trial
    return time_side_by_side(state, [whole, trial])[1]


def _opened(state: SearchState, trial: Trial) -> Predictor:
    folder = built(trial.recipe, state.context).folder
    runner = open_recipe(trial.recipe, state.context, folder)
    return Predictor(state.context.model.task, runner)


def _contender(name: str, predictor: Predictor) -> Contender:
    return Contender(name, predictor, lambda text: predictor([text]), droppable=False)


def _timed(trial: Trial, result: SpeedResult, which: str) -> Trial:
    known = {
        "throughput_rows_per_s": result.throughput_rows_per_s,
        "p50_ms": result.p50_ms,
        "p99_ms": result.p99_ms,
    }
    found = {key: value for key, value in known.items() if value is not None}
    return trial.model_copy(update={**found, "timed_beside": which})
