"""The search: free moves, then compression, then recovery, until the time is up."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from miaotui.budget import Budget, Objective
from miaotui.models.latency_table import LatencyTable
from miaotui.recipe import Recipe
from miaotui.search import planner
from miaotui.search.clock import Clock, News, Watch
from miaotui.search.context import Context
from miaotui.search.evaluate import evaluate
from miaotui.search.front import allowed, best_so_far, frozen_candidates, tuned_original
from miaotui.search.latency import latency_table, table_error
from miaotui.search.trials import Origin, Trial, TrialStore
from miaotui.tasks.base import EncodedRows

SMALLEST_FOR_SURGERY = 300
_LONGEST_TABLE_S = 60.0
_SHORTEST_RECOVERY_S = 20.0
_RECOVERIES = 3
_TEACHER_SHARE = 0.25


@dataclass(frozen=True)
class Outcome:
    """What the search knows when it ends: trials, baseline, the candidates to be tested."""

    trials: tuple[Trial, ...]
    baseline: Trial
    candidates: tuple[Trial, ...]
    table_error: float | None
    notes: tuple[str, ...]


@dataclass
class _Search:
    """Run state of one search."""

    context: Context
    budget: Budget
    store: TrialStore
    clock: Clock
    watch: Watch
    trials: list[Trial]
    notes: list[str]
    table_error: float | None = None

    def try_(
        self, stage: str, recipe: Recipe, origin: Origin, seconds: float | None = None
    ) -> Trial:
        self.tell(stage, recipe.title)

        def progress(line: str) -> None:
            self.tell(stage, line)

        trial = evaluate(recipe, origin, self.context, self.store, seconds, progress)
        if trial.error:
            self.notes.append(f"{recipe.title}: {trial.error}")
        self.trials.append(trial)
        return trial

    def tell(self, stage: str, trying: str) -> None:
        best = best_so_far(self.trials, self.budget)
        shown = "-" if best is None else f"{best.recipe.title}: {_figure(best, self.budget)}"
        self.watch(News(stage, trying, shown, self.clock.left_s))

    def leading(self) -> list[Trial]:
        kept = [t for t in self.trials if t.ok and t.origin == "free" and allowed(t, self.budget)]
        return sorted(kept, key=lambda t: t.cost(self.budget.objective))


def _figure(trial: Trial, budget: Budget) -> str:
    if budget.objective is Objective.LATENCY:
        return f"p99 {trial.p99_ms:.2f} ms"
    if budget.objective is Objective.SIZE:
        return f"{trial.size_bytes / 1e6:.1f} MB"
    return f"{trial.throughput_rows_per_s:,.0f} rows/s"


def search(
    context: Context,
    budget: Budget,
    engines: Sequence[str],
    clock: Clock,
    watch: Watch,
    surgery: bool = True,
) -> Outcome:
    """Tries recipes until the search's share of the time is used; resumes from stored trials."""
    store = TrialStore(context.work / "trials", context.fingerprint)
    state = _Search(context, budget, store, clock, watch, [], [])
    original = _free_moves(state, engines)
    leading = state.leading()
    runtime = (leading[0] if leading else original).recipe
    if surgery and context.model.has_adapter and budget.max_drop > 0:
        _compress(state, runtime)
    baseline = tuned_original(state.trials, budget) or original
    safe = original if budget.max_drop == 0 and not allowed(baseline, budget) else baseline
    return Outcome(
        trials=tuple(state.trials),
        baseline=baseline,
        candidates=tuple(frozen_candidates(state.trials, safe, budget)),
        table_error=state.table_error,
        notes=tuple(dict.fromkeys(state.notes)),
    )


def _free_moves(state: _Search, engines: Sequence[str]) -> Trial:
    context, stage = state.context, "free moves"
    moves = planner.first_moves(context, engines)
    original = state.try_(stage, moves[0], "free")
    for recipe in moves[1:]:
        if state.clock.search_left_s <= 0:
            break
        state.try_(stage, recipe, "free")
    floats = [t for t in state.leading() if not t.recipe.steps][:1]
    seen = {t.recipe.key for t in state.trials}
    leading = [*state.leading()[:2], *floats]
    for recipe in planner.refined_moves(context, leading, state.budget.objective):
        if recipe.key in seen or state.clock.elapsed_s > 0.3 * state.clock.budget_s:
            continue
        seen.add(recipe.key)
        state.try_(stage, recipe, "free")
    return original


def _compress(state: _Search, runtime: Recipe) -> None:
    seconds = min(_LONGEST_TABLE_S, 0.1 * state.clock.budget_s, state.clock.search_left_s)
    if seconds < 5:
        state.notes.append("no time was left to prune: give a longer --time-budget")
        return
    table = _table(state, runtime, seconds)
    train = replace(state.context.train, latency=table)
    state.context = replace(state.context, train=train)
    for keep_time in planner.KEEP_TIMES[:2]:
        state.try_("compression", planner.pruned(runtime, keep_time), "compressed")
    state.context = replace(state.context, unlabelled=_affordable(state))
    _recover(state, runtime)


def _affordable(state: _Search) -> EncodedRows | None:
    """As many unlabelled rows as the original can answer in a share of the time left; the number
    is written down, so that an interrupted training goes on with the same rows."""
    rows = state.context.unlabelled
    if rows is None:
        return None
    path = state.context.work / f"unlabelled-{state.context.fingerprint}.json"
    if path.exists():
        return rows.select(range(int(json.loads(path.read_text(encoding="utf-8")))))
    speed = max((t.throughput_rows_per_s for t in state.trials[:1]), default=0.0)
    affordable = int(_TEACHER_SHARE * state.clock.search_left_s * speed)
    count = min(len(rows), max(0, affordable - len(state.context.train.rows)))
    if count < len(rows):
        state.notes.append(f"time allowed for {count} of {len(rows)} unlabelled rows")
    path.write_text(json.dumps(count), encoding="utf-8")
    return rows.select(range(count))


def _table(state: _Search, runtime: Recipe, seconds: float) -> LatencyTable:
    path = state.context.work / f"latency-{state.context.fingerprint}-{runtime.key}.json"
    state.tell("latency table", "timing blocks")
    if path.exists():
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        state.table_error = stored["error"]
        return LatencyTable.from_json(stored["table"])
    table = latency_table(state.context, runtime, seconds)
    state.table_error = table_error(state.context, runtime, table)
    draft = path.with_suffix(".tmp")
    draft.write_text(
        json.dumps({"table": table.to_json(), "error": state.table_error}), encoding="utf-8"
    )
    draft.replace(path)
    return table


def _recover(state: _Search, runtime: Recipe) -> None:
    """Prunes harder after a success, milder after a failure, with the time that is left."""
    order = sorted(planner.KEEP_TIMES, reverse=True)
    at, tried = order.index(0.5), set[int]()
    for left in range(_RECOVERIES, 0, -1):
        seconds = state.clock.search_left_s / left
        if at in tried or not 0 <= at < len(order) or seconds < _SHORTEST_RECOVERY_S:
            return
        tried.add(at)
        recipe = planner.recovered(runtime, order[at], state.context.seed)
        trial = state.try_("recovery", recipe, "recovered", seconds)
        at += 1 if allowed(trial, state.budget) else -1
