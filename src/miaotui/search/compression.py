"""Stages 2 to 4: a latency table, compression without training, then with recovery."""

import json
from dataclasses import replace
from functools import partial

from miaotui.budget import Budget, Objective
from miaotui.recipe import Recipe
from miaotui.search import planner
from miaotui.search.cascades import in_front_of_untrained
from miaotui.search.context import Context, write_json
from miaotui.search.latency import stored_table
from miaotui.search.state import SearchState
from miaotui.search.trials import Trial
from miaotui.tasks.base import EncodedRows

_LONGEST_TABLE_S = 60.0
SHORTEST_TABLE_S = 5.0
_SHORTEST_RECOVERY_S, _SHORTEST_SHARE = 20.0, 0.04
FREE_OF_TRAINING_SHARE = 0.6
_TEACHER_SHARE = 0.25
_BF16_GAIN = 1.5
_TINY_SHARE, _SHARES, _SHARES_AFTER_TINY = 0.17, (0.5, 0.6, 0.9), (0.5, 0.8)
"""Of the time left when each training begins; what is spared at the end is for the cascades."""


def compress(state: SearchState, runtime: Recipe) -> Trial | None:
    """Tries smaller models in the runtime; returns the tiny one, if a cascade may start with it."""
    if not runtime.engine.builds_fast:
        state.notes.append(f"nothing was pruned: {runtime.engine.name} takes long to time a block")
        return None
    seconds = min(table_seconds(state.budget), state.clock.search_left_s)
    if seconds < SHORTEST_TABLE_S:
        state.notes.append("no time was left to prune: give a longer --time-budget")
        return None
    state.tell("latency table", "timing blocks")
    one_by_one = state.budget.ranks_by is Objective.LATENCY
    state.latency, state.table_error = stored_table(state.context, runtime, one_by_one, seconds)
    state.context = state.context.with_latency(state.latency)
    for recipe in planner.training_free(state.context, runtime):
        if state.has_time(FREE_OF_TRAINING_SHARE):
            tried = state.try_("compression", recipe, "compressed")
            trial = state.timed_again_if_slower(tried, runtime)
            if state.is_expensive(trial):  # what is left of the time does more for a recovery
                break
    state.context = replace(state.context, unlabelled=_affordable(state))
    return _recover(state, runtime)


def _recover(state: SearchState, runtime: Recipe) -> Trial | None:
    """The tiny model of a cascade first, which only throughput gains by, and what it saves beside
    the model as it is: nothing else that is trained brings as much so soon. Then to two fifths of
    the time by pruning, or for latency by half the layers; then less and less of it while that goes
    well, or once milder where it did not. The tiny model is returned."""
    seed, small = state.context.seed, None
    distil = partial(_distil, state, runtime)
    if wants_cascade(state.context, state.budget):
        small = distil(planner.tiny(runtime, seed), _TINY_SHARE)
        if small is not None:
            in_front_of_untrained(state, small)
    shares = _SHARES if small is None else _SHARES_AFTER_TINY
    start, milder = recoveries(state.context, runtime, state.budget)
    trial = distil(start, shares[0])
    if trial is None:
        return small
    if not state.may_keep(trial):
        distil(milder, shares[-1])
        return small
    for share in shares[1:]:
        further = distil(planner.pruned(trial.recipe, 0.7, seed), share)
        if further is None or not state.may_keep(further):
            break
        trial = further
    return small


def recoveries(context: Context, runtime: Recipe, budget: Budget) -> tuple[Recipe, Recipe]:
    """What is distilled first, and the milder one for where that loses too much."""
    start, milder = (planner.pruned(runtime, keep_time, context.seed) for keep_time in (0.4, 0.6))
    if budget.ranks_by is Objective.LATENCY and len(context.model.encoder.layers) > 1:
        return planner.halved(context, runtime, context.seed), start
    return start, milder


def table_seconds(budget: Budget) -> float:
    """The most that timing blocks may take."""
    return min(_LONGEST_TABLE_S, 0.1 * budget.time_budget_s)


def wants_cascade(context: Context, budget: Budget) -> bool:
    layers = len(context.model.encoder.layers)
    can = context.model.task.confidence is not None and layers > planner.TINY_LAYERS
    return can and budget.ranks_by is Objective.THROUGHPUT


def _distil(state: SearchState, runtime: Recipe, recipe: Recipe, share: float) -> Trial | None:
    """Trains for a share of the search's time left; None where that is too short."""
    seconds = share * state.clock.search_left_s
    if seconds < min(_SHORTEST_RECOVERY_S, _SHORTEST_SHARE * state.clock.budget_s):
        return None
    tried = state.try_("recovery", recipe, "recovered", seconds)
    return state.timed_again_if_slower(tried, runtime)


def _affordable(state: SearchState) -> EncodedRows | None:
    """As many unlabelled rows as the original can answer in a share of the time left (in bf16 half
    as fast again, measured); the number is written down, so that an interrupted training goes on
    with the same rows."""
    rows = state.context.unlabelled
    if rows is None:
        return None
    path = state.context.work / f"unlabelled-{state.context.fingerprint}.json"
    if path.exists():
        count = int(json.loads(path.read_text(encoding="utf-8")))
        return rows.select(range(min(count, len(rows))))
    speed = max((t.throughput_rows_per_s for t in state.trials[:1]), default=0.0)
    speed *= _BF16_GAIN if state.context.machine.computes_bf16 else 1.0
    affordable = int(_TEACHER_SHARE * state.clock.search_left_s * speed)
    count = min(len(rows), max(0, affordable - len(state.context.train.rows)))
    if count < len(rows):
        state.notes.append(f"time allowed for {count} of {len(rows)} unlabelled rows")
    write_json(path, count)
    return rows.select(range(count))
