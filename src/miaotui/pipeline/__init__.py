"""The main job: from a model and rows to the fastest measured bundle that keeps the limit."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from miaotui.bundle import check_out
from miaotui.hardware import probe
from miaotui.measure.result import OptimizationResult
from miaotui.pipeline.deliver import deliver
from miaotui.pipeline.foreseen import foreseen
from miaotui.pipeline.inputs import OnRead, unheard
from miaotui.pipeline.options import OptimizeOptions, RowsOptions
from miaotui.pipeline.prepare import Prepared, nothing_left_of_a_refusal, prepare
from miaotui.pipeline.recipes import given_recipe, measure_recipe
from miaotui.process import process_as_found
from miaotui.search.acceptance import answer, run_acceptance
from miaotui.search.cascades import cascades
from miaotui.search.choice import choose, quantize
from miaotui.search.clock import Clock, News, TimedWatch, Watch, silent
from miaotui.search.compression import compress
from miaotui.search.frozen import frozen_outcome
from miaotui.search.outcome import Outcome, settled
from miaotui.search.planner import tried_unasked, usable_engines
from miaotui.search.state import SearchState
from miaotui.search.trials import TrialStore

__all__ = ["OptimizeOptions", "RowsOptions", "optimize"]


@process_as_found()
def optimize(
    options: OptimizeOptions, watch: Watch = silent, on_read: OnRead = unheard
) -> OptimizationResult:
    """Chooses, quantizes, compresses, puts in front and evaluates until the budget ends; writes the
    bundle to `options.out` and returns what it found. Interrupted, the same call goes on. The
    process is left as it was found."""
    check_out(options.out)
    with nothing_left_of_a_refusal(options):
        return _optimize(options, watch, on_read)


def _optimize(options: OptimizeOptions, listener: Watch, on_read: OnRead) -> OptimizationResult:
    began = time.monotonic() if options.began is None else options.began
    clock = Clock(options.budget.time_budget_s, began)
    watch = TimedWatch(clock, listener)
    engines = usable_engines(probe(), options.engines)
    recipe = None if options.recipe is None else given_recipe(options.recipe, engines)
    if options.by_agreement:
        watch(News("loading", "the original answers the rows", "", clock.left_s))
    job = prepare(options, on_read)
    for line in foreseen(job.splits.test, job.context.judge, options.budget):
        watch(News("loading", "", "", clock.left_s, line))
    if recipe is not None:
        find = partial(measure_recipe, recipe, job.context, engines, options.budget, clock, watch)
    else:
        engines = engines if options.engines else tried_unasked(engines)
        find = partial(_search, options, job, engines, clock, watch)
    asked = asdict(options.budget) | {
        "engines": engines,
        "keep_shapes": options.keep_shapes,
        "recipe": None if recipe is None else recipe.key,
        "time_budget_s": None,
    }
    outcome = frozen_outcome(job.context, asked, find)
    return _evaluate(options, job, outcome, clock, watch)


def _search(
    options: OptimizeOptions, job: Prepared, engines: Sequence[str], clock: Clock, watch: Watch
) -> Outcome:
    """Each step tries recipes until its share of the time is used and leaves in `state` what it
    measured; what an interrupted run measured is not measured again."""
    store = TrialStore(job.context.work / "trials", job.context.fingerprint)
    state = SearchState(job.context, options.budget, store, clock, watch)
    original = choose(state, engines)
    runtime = quantize(state, original)
    if options.why_whole(job.context.model, len(job.splits.test)) is None:
        small = compress(state, runtime)
        if small is not None:
            cascades(state, small)
    return settled(state, original)


def _evaluate(
    options: OptimizeOptions, job: Prepared, outcome: Outcome, clock: Clock, watch: TimedWatch
) -> OptimizationResult:
    """The candidates on the test rows, then the answer beside its rivals, and the bundle."""
    job = job.with_latency(outcome.latency)
    test = job.test()
    count = f"{len(outcome.candidates)} candidates on the test rows"
    watch(News("acceptance test", count, "", clock.left_s))
    tested = run_acceptance(job.context, outcome.candidates, test, options.budget)
    return deliver(options, job, outcome, tested, answer(tested), test, clock, watch)
