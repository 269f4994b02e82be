"""What a search would try and when, told without a trial."""

from collections.abc import Sequence

from miaotui.budget import Budget
from miaotui.measure.plan import PlannedStage
from miaotui.recipe import Recipe
from miaotui.search import planner
from miaotui.search.choice import FALLBACK_SHARE, REFINED_SHARE
from miaotui.search.clock import Clock
from miaotui.search.compression import (
    FREE_OF_TRAINING_SHARE,
    SHORTEST_TABLE_S,
    recoveries,
    table_seconds,
    wants_cascade,
)
from miaotui.search.context import Context


def planned_stages(
    context: Context, engines: Sequence[str], budget: Budget, whole: str | None
) -> tuple[PlannedStage, ...]:
    """In order; `whole` is why nothing of the model may be removed."""
    search_s = Clock(budget.time_budget_s).search_s
    moves = planner.first_moves(context, engines)
    refined = "the best of them in other layouts, streams and threads"
    quantized = ["other calibrators and settings of the leading int8, the leading engine in float"]
    if context.model.can_shrink and budget.max_drop > 0:
        quantized.append("where int8 loses too much, its most sensitive layers in float")
    titles = (*dict.fromkeys(move.title for move in moves), refined)
    return (
        PlannedStage("choose", REFINED_SHARE * search_s, titles),
        PlannedStage("quantize", FALLBACK_SHARE * search_s, tuple(quantized)),
        *_shrinking(context, moves[-1], budget, search_s, whole),
    )


def _shrinking(
    context: Context, runtime: Recipe, budget: Budget, search_s: float, whole: str | None
) -> tuple[PlannedStage, ...]:
    compress_s = FREE_OF_TRAINING_SHARE * search_s
    if whole is None and table_seconds(budget) < SHORTEST_TABLE_S:
        whole = "no time: give a longer --time-budget"
    if whole is not None:
        names = {"compress": compress_s, "recover": search_s, "cascade": search_s}
        return tuple(PlannedStage(name, until, (), whole) for name, until in names.items())
    table = f"a latency table, in at most {table_seconds(budget):.0f} s"
    free = tuple(_shaping(recipe) for recipe in planner.training_free(context, runtime))
    start, milder = (_shaping(recipe) for recipe in recoveries(context, runtime, budget))
    trained = (start, f"after a success that one pruned further, after a failure {milder}")
    return (
        PlannedStage("compress", compress_s, (table, *free)),
        PlannedStage("recover", search_s, trained),
        _cascade(context, runtime, budget, search_s),
    )


def _cascade(context: Context, runtime: Recipe, budget: Budget, search_s: float) -> PlannedStage:
    if not wants_cascade(context, budget):
        reason = "only throughput of a task with a confidence, and of several layers, gains by one"
        return PlannedStage("cascade", search_s, (), reason)
    first = _shaping(planner.tiny(runtime, context.seed))
    return PlannedStage("cascade", search_s, (f"{first}, in front of the best of the others",))


def _shaping(recipe: Recipe) -> str:
    return " + ".join(step.title for step in recipe.shaping)
