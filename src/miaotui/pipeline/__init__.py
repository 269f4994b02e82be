"""The main job: from a model and rows to the fastest measured bundle that keeps the limit."""

from functools import partial

from miaotui.bundle import check_out
from miaotui.measure.result import OptimizationResult
from miaotui.pipeline.deliver import deliver
from miaotui.pipeline.options import OptimizeOptions, RowsOptions
from miaotui.pipeline.prepare import prepare
from miaotui.pipeline.recipes import given_recipe
from miaotui.search.clock import Clock, Watch, silent
from miaotui.search.frozen import frozen_outcome
from miaotui.search.gate import answer, run_gate
from miaotui.search.planner import usable_engines
from miaotui.search.run import SMALLEST_FOR_SURGERY, search

__all__ = ["OptimizeOptions", "RowsOptions", "optimize"]


def optimize(options: OptimizeOptions, watch: Watch = silent) -> OptimizationResult:
    """Chooses, compresses, quantizes, runs and evaluates until the budget ends; writes the bundle
    to `options.out` and returns what it found. Interrupted, the same call goes on."""
    clock = Clock(options.budget.time_budget_s)
    check_out(options.out)
    prepared = prepare(options)
    context = prepared.context
    engines = usable_engines(context.machine, options.engines)
    if options.recipe is not None:
        outcome = given_recipe(options.recipe, context, engines, options.budget, clock, watch)
    else:
        surgery = not options.keep_shapes and len(prepared.splits.test) >= SMALLEST_FOR_SURGERY
        find = partial(search, context, options.budget, engines, clock, watch, surgery)
        outcome = frozen_outcome(context, options.budget, find)
    test = prepared.test()
    tested = run_gate(context, outcome.candidates, test, options.budget)
    return deliver(options, prepared, outcome, tested, answer(tested), test, clock, watch)
