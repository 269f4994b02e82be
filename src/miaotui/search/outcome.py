"""What a search comes to: trials, baseline, and the candidates for the acceptance test."""

from dataclasses import dataclass

from miaotui.models.latency_table import LatencyTable
from miaotui.search.candidates import best_float, frozen_candidates, tuned_original
from miaotui.search.clock import PROOF_S
from miaotui.search.sensitivity import Sensitivity
from miaotui.search.state import SearchState
from miaotui.search.trials import Trial


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


def settled(state: SearchState, original: Trial) -> Outcome:
    """The end of a search: the finalists, timed side by side where they were not yet."""
    baseline = best_float(state.trials, state.budget) or original
    tuned = tuned_original(state.trials, state.budget) or original
    safe = original if state.budget.max_drop == 0 else tuned
    candidates = frozen_candidates(state.trials, safe, state.budget)
    if any(t.timed_beside is None for t in candidates[1:]) and state.clock.left_s > PROOF_S:
        state.time_side_by_side(candidates[1:])
        candidates = frozen_candidates(state.trials, safe, state.budget)
    return Outcome(
        trials=tuple(state.trials),
        baseline=baseline,
        candidates=tuple(candidates),
        latency=state.latency,
        table_error=state.table_error,
        sensitivity=tuple(state.sensitivity),
        notes=tuple(dict.fromkeys(state.notes)),
    )
