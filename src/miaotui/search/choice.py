"""Stage 1: what can be had without touching the weights: engine, precision, layout, threads."""

from collections.abc import Sequence
from functools import partial

from miaotui.budget import Objective
from miaotui.recipe import Recipe
from miaotui.search import planner
from miaotui.search.candidates import allowed
from miaotui.search.sensitivity import can_fall_back, layer_sensitivity, with_fallback
from miaotui.search.state import SearchState
from miaotui.search.trials import Trial
from miaotui.techniques.base import SkippedIn

_STAGE = "free moves"
_REFINED, _FLOAT_MOVES, _SIDE_BY_SIDE, _NEAR = 2, 2, 4, 1.6
FIRST_SHARE, REFINED_SHARE, FALLBACK_SHARE = 0.35, 0.4, 0.45
"""Of the search's time: where first moves, what refines them, and falling back to float end."""


def choose(state: SearchState, engines: Sequence[str]) -> Trial:
    """The original as it comes, which is returned, then every engine and precision, then layouts
    and threads for the best of them and for the best float one (the baseline)."""
    original, *moves = planner.first_moves(state.context, engines)
    first = state.try_(_STAGE, original, "free")
    for recipe in moves:
        if state.has_time(FIRST_SHARE) and state.is_worth_trying(recipe):
            state.try_(_STAGE, recipe, "free")
    for trial in _different(state.leading("free"), state.budget.ranks_by)[:_REFINED]:
        _refine(state, trial)
    for trial in [t for t in state.leading("free") if t.recipe.is_float][:1]:
        _refine(state, trial, most=_FLOAT_MOVES)
    state.time_side_by_side(state.leading("free")[:_SIDE_BY_SIDE])
    return first


def quantize(state: SearchState, original: Trial) -> Recipe:
    """Other calibrators in the leading runtime, the same in float, and where int8 loses too much
    its most sensitive layers in float. Returns the runtime that leads then."""
    leading = state.leading("free")[:1]
    for recipe in planner.quantized_otherwise(leading[0].recipe) if leading else ():
        if state.has_time(REFINED_SHARE):
            state.try_(_STAGE, recipe, "free")
    for recipe in planner.float_recipes(leading[0].recipe) if leading else ():
        seen = {t.recipe.key for t in state.trials}
        if recipe.key not in seen and state.has_time(FALLBACK_SHARE):
            state.try_(_STAGE, recipe, "free")
    if state.context.model.can_shrink and state.budget.max_drop > 0:
        _fall_back(state)
    leading = state.leading("free")[:1]
    return (leading[0] if leading else original).recipe


def _different(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """The best of each engine and precision, of those not far behind the very best: a single trial
    at each does not tell which of two is faster once it has the right layout and threads."""
    best_of_kind: dict[object, Trial] = {}
    for trial in trials:
        if trial.times_behind(trials[0], objective) < _NEAR:
            kinds = tuple(step.quantizes for step in trial.recipe.steps)
            best_of_kind.setdefault((trial.recipe.engine.name, kinds), trial)
    return list(best_of_kind.values())


def _refine(state: SearchState, trial: Trial, most: int | None = None) -> None:
    seen = {t.recipe.key for t in state.trials}
    for recipe in planner.refined_moves(state.context, trial, state.budget.ranks_by)[:most]:
        if recipe.key not in seen and state.has_time(REFINED_SHARE):
            state.try_(_STAGE, recipe, "free")


def _fall_back(state: SearchState) -> None:
    """Measures the layers of the fastest int8; where it loses too much, puts them back in float,
    the most sensitive first, until it does not."""
    quantized = [t for t in state.trials if t.ok and t.origin == "free" and can_fall_back(t.recipe)]
    if not quantized or not state.has_time(FALLBACK_SHARE):
        return
    fastest = min(quantized, key=lambda t: t.cost(state.budget.ranks_by))
    if allowed(fastest, state.budget) and state.is_expensive(fastest):
        state.notes.append("layers were not measured one by one: int8 keeps the limit as a whole")
        return
    state.tell(_STAGE, "sensitivity of each layer to int8")
    in_time = partial(state.has_time, FALLBACK_SHARE)
    state.sensitivity = layer_sensitivity(state.context, fastest.recipe, in_time)
    mixes = fastest.recipe.engine.mixes_kinds and state.context.machine.computes_bf16
    skipped_in: SkippedIn = "bf16" if mixes else "fp32"
    trial = fastest
    for layers in range(1, len(state.sensitivity) // 2 + 1):
        if allowed(trial, state.budget) or not state.has_time(FALLBACK_SHARE):
            return
        recipe = with_fallback(fastest.recipe, state.sensitivity, layers, skipped_in)
        trial = state.try_(_STAGE, recipe, "free")
