"""What `optimize` would try with the same options, told in seconds; nothing is written."""

import time
from dataclasses import replace

from miaotui.bundle import check_out
from miaotui.engines import ENGINES, REFERENCE
from miaotui.measure.plan import Plan, PlannedStage, PlannedTime
from miaotui.pipeline.affordable import affordable_counts, rows_per_s
from miaotui.pipeline.foreseen import foreseen
from miaotui.pipeline.inputs import Inputs, OnRead, calibration, read_inputs, unheard
from miaotui.pipeline.options import OptimizeOptions
from miaotui.pipeline.prepare import bare_context, shuffled
from miaotui.pipeline.prove import proof_time
from miaotui.pipeline.recipes import given_recipe
from miaotui.process import process_as_found
from miaotui.rivals import RIVALS
from miaotui.search.clock import Clock
from miaotui.search.context import Context
from miaotui.search.evaluate import Effort
from miaotui.search.forecast import planned_stages
from miaotui.search.planner import original_recipe, tried_unasked, usable_engines

_ANSWERED = 256
"""Rows that are answered where answers stand in for labels."""
_SPLITS = ("train", "validation", "selection", "test")


@process_as_found()
def dry_run(options: OptimizeOptions, on_read: OnRead = unheard) -> Plan:
    """Refuses what `optimize` would refuse before it searches. Times rest on how fast the original
    answers a few rows now."""
    began = time.monotonic() if options.began is None else options.began
    check_out(options.out)
    inputs = read_inputs(options, on_read, _ANSWERED)
    usable = usable_engines(inputs.machine, options.engines)
    engines = usable if options.engines else tried_unasked(usable)
    with REFERENCE().open_model(inputs.model, inputs.cores) as session:
        speed = rows_per_s(inputs.splits.selection, session, inputs.model.task)
    rows = {name: len(getattr(inputs.splits, name)) for name in _SPLITS}
    splits = rows | affordable_counts(inputs.splits, speed, options.budget.time_budget_s)
    test = inputs.splits.test.select(range(splits["test"]))
    return Plan(
        model=options.model,
        family=inputs.model.family,
        metric=inputs.judge.metric,
        read=inputs.read,
        rows=rows,
        splits=splits,
        machine=f"{inputs.machine.cpu_model}, {inputs.machine.instruction_set}, "
        f"{inputs.cores} of {inputs.machine.host_cores} cores",
        engines=_engines(inputs, engines, options),
        stages=_stages(inputs, engines, splits, options),
        rivals={rival.name: rival.unavailable(inputs.machine) for rival in RIVALS},
        time=_time(options, splits, speed, time.monotonic() - began),
        notes=(
            *inputs.notes,
            *foreseen(test, inputs.judge, options.budget),
        ),
    )


def _engines(
    inputs: Inputs, tried: tuple[str, ...], options: OptimizeOptions
) -> dict[str, str | None]:
    def reason(name: str) -> str | None:
        missing = ENGINES[name].unavailable(inputs.machine)
        if missing is not None or name in tried:
            return missing
        return "not asked for" if options.engines else "takes long to build: only by --engines"

    return {name: reason(name) for name in ENGINES}


def _stages(
    inputs: Inputs, engines: tuple[str, ...], splits: dict[str, int], options: OptimizeOptions
) -> tuple[PlannedStage, ...]:
    if options.recipe is not None:
        recipe = given_recipe(options.recipe, engines)
        search_s = Clock(options.budget.time_budget_s).search_s
        titles = (original_recipe(engines).title, recipe.title)
        return (PlannedStage("recipe", search_s, titles),)
    context = _context(inputs, splits, options)
    whole = options.why_whole(inputs.model, splits["test"])
    return planned_stages(context, engines, options.budget, whole)


def _context(inputs: Inputs, splits: dict[str, int], options: OptimizeOptions) -> Context:
    """With training rows alone: what engines suggest rests on their lengths."""
    rows = shuffled(inputs.splits.train, options.rows.seed).select(range(splits["train"]))
    bare = bare_context(inputs, None, options, options.work)
    return replace(bare, train=calibration(rows, inputs.model.task))


def _time(
    options: OptimizeOptions, splits: dict[str, int], speed: float, loading_s: float
) -> PlannedTime:
    budget = options.budget
    proof = proof_time(budget.time_budget_s, splits["test"], speed)
    return PlannedTime(
        rows_per_s=speed,
        budget_s=budget.time_budget_s,
        loading_s=loading_s,
        original_s=splits["selection"] / speed,
        search_s=Clock(budget.time_budget_s).search_s,
        trial_s=Effort.within(budget).seconds(splits["selection"], speed),
        acceptance_s=proof.acceptance_s,
        rivals_s=proof.rivals_s,
        measuring_s=proof.measuring_s,
        full_proof=proof.full,
    )
