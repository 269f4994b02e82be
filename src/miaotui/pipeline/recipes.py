"""Exactly the recipe a user gave, with no search."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from miaotui.budget import Budget, Objective
from miaotui.errors import EngineUnavailable, RecipeError
from miaotui.recipe import Recipe, read_recipe
from miaotui.search.candidates import best_float
from miaotui.search.clock import Clock, News, Watch
from miaotui.search.context import Context
from miaotui.search.evaluate import Effort, Measure, evaluate
from miaotui.search.latency import stored_table
from miaotui.search.outcome import Outcome
from miaotui.search.planner import float_recipes, original_recipe
from miaotui.search.trials import Origin, Trial, TrialStore

_TABLE_S, _SHORTEST_S = 60.0, 20.0


def given_recipe(path: Path, engines: Sequence[str]) -> Recipe:
    """The recipe in a file; an engine that is not there is refused by name."""
    recipe = read_recipe(path)
    for stage in recipe.each_stage:
        if stage.engine.name not in engines:
            raise EngineUnavailable(
                f"the recipe asks for {stage.engine.name}; engines here: {', '.join(engines)}"
            )
        reason = stage.engine.refusal()
        if reason is not None:
            raise EngineUnavailable(f"the recipe cannot run here: {reason}")
    return recipe


def measure_recipe(  # noqa: PLR0913  (as `search`)
    recipe: Recipe,
    context: Context,
    engines: Sequence[str],
    budget: Budget,
    clock: Clock,
    watch: Watch,
    measure: Measure = evaluate,
) -> Outcome:
    """The recipe, beside the original as it comes and in float in the recipe's engine; the recipe
    is the answer if it keeps the limit on the test rows. A cascade's stages are tried alone first,
    in turn, and what one leaves of the time is for those after it."""
    store = TrialStore(context.work / "trials", context.fingerprint)
    effort = Effort(memory=budget.max_memory_bytes is not None)
    floats = []
    for plain in (original_recipe(engines), *float_recipes(recipe)):
        watch(News("recipe", plain.title, "", clock.left_s))
        floats.append(measure(plain, "free", context, store, effort))
    latency = error = None
    if any(step.uses_latency for stage in recipe.each_stage for step in stage.steps):
        watch(News("recipe", "timing blocks", "", clock.left_s))
        runtime = recipe.last.model_copy(update={"steps": recipe.quantizing})
        one_by_one = budget.ranks_by is Objective.LATENCY
        seconds = min(_TABLE_S, 0.1 * budget.time_budget_s)
        latency, error = stored_table(context, runtime, one_by_one, seconds)
    context = context.with_latency(latency)
    tried: list[Trial] = []
    left_s, renewed = clock.search_left_s, False
    for i, stage in enumerate(recipe.each_stage):
        watch(News("recipe", stage.title, "", clock.left_s))
        recoveries = sum(_recoveries(later) for later in recipe.each_stage[i:])
        spent_s = sum(trial.seconds for trial in tried)  # in an earlier run, it may be
        each_s = max(left_s - spent_s, _SHORTEST_S) / max(recoveries, 1)
        known, told = store.get(stage), partial(_tell, watch, clock)
        tried.append(_sound(measure(stage, _origin(stage), context, store, effort, each_s, told)))
        renewed = renewed or tried[-1] != known
    trial = tried[-1]
    if recipe.stages:
        watch(News("recipe", recipe.title, "", clock.left_s))
        if renewed:
            store.forget(recipe)
        trial = _sound(measure(recipe, "cascade", context, store, effort))
        tried.append(trial)
    baseline = best_float(floats, budget) or floats[0]
    trials = {trial.recipe.key: trial for trial in (*floats, *tried)}
    return Outcome(tuple(trials.values()), baseline, (floats[0], trial), latency, error)


def _sound(trial: Trial) -> Trial:
    if trial.error:
        raise RecipeError(f"recipe: {trial.recipe.title}: {trial.error}")
    return trial


def _tell(watch: Watch, clock: Clock, line: str) -> None:
    watch(News("recipe", line, "", clock.left_s))


def _origin(recipe: Recipe) -> Origin:
    if _recoveries(recipe):
        return "recovered"
    return "compressed" if recipe.shaping else "free"


def _recoveries(recipe: Recipe) -> int:
    return sum(step.trains for step in recipe.steps)
