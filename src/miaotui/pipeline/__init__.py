"""The main job: from a model and rows to the fastest measured bundle that keeps the limit."""

from dataclasses import asdict
from functools import partial

from miaotui.bundle import check_out
from miaotui.hardware import probe
from miaotui.measure.result import OptimizationResult
from miaotui.pipeline.deliver import deliver
from miaotui.pipeline.options import OptimizeOptions, RowsOptions
from miaotui.pipeline.prepare import nothing_left_of_a_refusal, prepare
from miaotui.pipeline.recipes import given_recipe, measure_recipe
from miaotui.process import process_as_found
from miaotui.search.acceptance import answer, run_acceptance
from miaotui.search.clock import Clock, News, Watch, silent
from miaotui.search.frozen import frozen_outcome
from miaotui.search.planner import tried_unasked, usable_engines
from miaotui.search.run import SMALLEST_FOR_SURGERY, search

__all__ = ["OptimizeOptions", "RowsOptions", "optimize"]


@process_as_found()
def optimize(options: OptimizeOptions, watch: Watch = silent) -> OptimizationResult:
    """Chooses, compresses, quantizes, runs and evaluates until the budget ends; writes the bundle
    to `options.out` and returns what it found. Interrupted, the same call goes on. The process is
    left as it was found."""
    check_out(options.out)
    with nothing_left_of_a_refusal(options):
        return _optimize(options, watch)


def _optimize(options: OptimizeOptions, watch: Watch) -> OptimizationResult:
    clock = Clock(options.budget.time_budget_s)
    engines = usable_engines(probe(), options.engines)
    recipe = None if options.recipe is None else given_recipe(options.recipe, engines)
    prepared = prepare(options)
    context, budget = prepared.context, options.budget
    if recipe is not None:
        find = partial(measure_recipe, recipe, context, engines, budget, clock, watch)
    else:
        surgery = not options.keep_shapes and len(prepared.splits.test) >= SMALLEST_FOR_SURGERY
        engines = engines if options.engines else tried_unasked(engines)
        find = partial(search, context, budget, engines, clock, watch, surgery)
    asked = asdict(budget) | {
        "engines": engines,
        "keep_shapes": options.keep_shapes,
        "recipe": None if recipe is None else recipe.key,
        "time_budget_s": None,
    }
    outcome = frozen_outcome(context, asked, find)
    prepared = prepared.with_latency(outcome.latency)
    test = prepared.test()
    watch(
        News(
            "acceptance test",
            f"{len(outcome.candidates)} candidates on the test rows",
            "",
            clock.left_s,
        )
    )
    tested = run_acceptance(prepared.context, outcome.candidates, test, budget)
    return deliver(options, prepared, outcome, tested, answer(tested), test, clock, watch)
