"""Exactly the recipe a user gave, with no search."""

from collections.abc import Sequence
from pathlib import Path

from miaotui.budget import Budget
from miaotui.errors import EngineUnavailable, RecipeError
from miaotui.recipe import read_recipe
from miaotui.search.clock import Clock, News, Watch
from miaotui.search.context import Context
from miaotui.search.evaluate import Look, evaluate
from miaotui.search.planner import original_recipe
from miaotui.search.run import Outcome
from miaotui.search.trials import TrialStore


def given_recipe(  # noqa: PLR0913  (as `search`)
    path: Path,
    context: Context,
    engines: Sequence[str],
    budget: Budget,
    clock: Clock,
    watch: Watch,
) -> Outcome:
    """Measures the recipe and the original beside it; the recipe is the answer if it keeps the
    limit on the test rows."""
    recipe = read_recipe(path)
    if recipe.engine.name not in engines:
        raise EngineUnavailable(
            f"the recipe asks for {recipe.engine.name}; engines here: {', '.join(engines)}"
        )
    store = TrialStore(context.work / "trials", context.fingerprint)
    look = Look(memory=budget.max_memory_bytes is not None)
    watch(News("recipe", "the original", "", clock.left_s))
    original = evaluate(original_recipe(engines), "free", context, store, look)
    watch(News("recipe", recipe.title, "", clock.left_s))
    seconds = max(clock.search_left_s, 20.0)
    trial = evaluate(recipe, "recovered", context, store, look, seconds)
    if trial.error:
        raise RecipeError(f"recipe {path}: {trial.error}")
    return Outcome((original, trial), original, (original, trial))
