"""The search: free moves, compression with and without recovery, cascades, until time is up."""

from collections.abc import Sequence
from dataclasses import dataclass

from miaotui.budget import Budget
from miaotui.models.latency_table import LatencyTable
from miaotui.search.candidates import best_float, frozen_candidates, tuned_original
from miaotui.search.cascades import cascades
from miaotui.search.clock import PROOF_S, Clock, Watch
from miaotui.search.compression import compress
from miaotui.search.context import Context
from miaotui.search.free_moves import free_moves
from miaotui.search.sensitivity import Sensitivity
from miaotui.search.side_by_side import time_side_by_side
from miaotui.search.state import SearchState
from miaotui.search.trials import Trial, TrialStore

SMALLEST_FOR_SURGERY = 300


@dataclass(frozen=True)
class Outcome:
    """What the search knows when it ends: trials, baseline, the candidates to be tested."""

    trials: tuple[Trial, ...]
    baseline: Trial
    candidates: tuple[Trial, ...]
    latency: LatencyTable | None = None
    """What pruning was solved against: without it the same recipe gives another model."""
    table_error: float | None = None
    sensitivity: tuple[Sensitivity, ...] = ()
    notes: tuple[str, ...] = ()


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
    state = SearchState(context, budget, store, clock, watch)
    original = free_moves(state, engines)
    leading = state.leading("free")
    runtime = (leading[0] if leading else original).recipe
    if surgery and context.model.can_shrink and budget.max_drop > 0:
        small = compress(state, runtime)
        if small is not None:
            cascades(state, small)
    baseline = best_float(state.trials, budget) or original
    tuned = tuned_original(state.trials, budget) or original
    safe = original if budget.max_drop == 0 else tuned
    candidates = frozen_candidates(state.trials, safe, budget)
    if any(t.timed_beside is None for t in candidates[1:]) and clock.left_s > PROOF_S:
        time_side_by_side(state, candidates[1:])
        candidates = frozen_candidates(state.trials, safe, budget)
    return Outcome(
        trials=tuple(state.trials),
        baseline=baseline,
        candidates=tuple(candidates),
        latency=state.latency,
        table_error=state.table_error,
        sensitivity=tuple(state.sensitivity),
        notes=tuple(dict.fromkeys(state.notes)),
    )
