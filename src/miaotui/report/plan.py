"""What would be tried, for the terminal."""

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from miaotui.measure.plan import Plan, PlannedStage
from miaotui.report import words


def plan_parts(plan: Plan) -> list[RenderableType]:
    """Model and machine, engines, the stages with their times, and what proof to expect."""
    return [_table(_facts(plan)), _stages(plan.stages), *(Text(line) for line in _ending(plan))]


def _table(facts: list[tuple[str, str]]) -> Table:
    table = Table(show_header=False, box=None)
    for name, value in facts:
        table.add_row(name, Text(value))
    return table


def _facts(plan: Plan) -> list[tuple[str, str]]:
    rows = ", ".join(_of(plan.splits[name], name, total) for name, total in plan.rows.items())
    tried = [name for name, reason in plan.engines.items() if reason is None]
    others = [f"{name}: {reason}" for name, reason in plan.engines.items() if reason is not None]
    speed = f"{words.rate(plan.time.rows_per_s)} rows/s as it comes"
    return [
        ("model", f"{plan.model} ({plan.family}), {speed}"),
        ("machine", plan.machine),
        ("rows", f"{rows}; judged by {plan.metric}"),
        ("engines", ", ".join(tried)),
        *(("", f"not {other}") for other in others),
    ]


def _of(used: int, name: str, total: int) -> str:
    return f"{name} {used:,}" + ("" if used == total else f" of {total:,}")


def _stages(stages: tuple[PlannedStage, ...]) -> Table:
    table = Table("stage", "until", "tries", box=None)
    for stage in stages:
        tried = stage.tries if stage.skipped is None else (f"nothing: {stage.skipped}",)
        until = words.duration(stage.until_s) if stage.skipped is None else words.MISSING
        table.add_row(stage.name, until, Text("\n".join(tried)))
    return table


def _ending(plan: Plan) -> list[str]:
    time = plan.time
    rivals = [name for name, reason in plan.rivals.items() if reason is None]
    measuring, search = words.duration(time.measuring_s), words.duration(time.search_s)
    proof = f"the proof is a full one, of up to {measuring}"
    if not time.full_proof:
        proof = (
            f"what is left for the proof, {measuring}, is too short for a full one (rounds of two "
            "seconds, p99): give a longer --time-budget"
        )
    return [
        f"About {words.duration(time.trial_s)} a trial, without building it, at the original's "
        f"speed; {search} of {words.duration(time.budget_s)} for the search.",
        f"Then about {words.duration(time.acceptance_s)} for the acceptance test and "
        f"{words.duration(time.rivals_s)} to open {len(rivals)} rivals ({', '.join(rivals)}), if "
        f"none is faster than the original; {proof}.",
        *(f"Not measured: {name}: {why}" for name, why in plan.rivals.items() if why is not None),
        *plan.notes,
        "Nothing was written.",
    ]
