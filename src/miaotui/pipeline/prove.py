"""The proof: ours, the baseline and the rivals, interleaved in one run on the test texts."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from miaotui.budget import Objective
from miaotui.engines.base import RowRunner
from miaotui.measure.judge import Split
from miaotui.measure.speed import Contender, SpeedPlan, SpeedResult, measure_interleaved
from miaotui.models.load import SHAPE_FILE, Source, load_config, load_transformers, padded_model
from miaotui.predictor import Predictor
from miaotui.rivals import RIVALS, StockModel
from miaotui.rivals.opening import OpenRival, OpenRivals, open_rivals, opening_seconds
from miaotui.search.candidates import MOST_FROZEN
from miaotui.search.clock import Clock, News, Watch
from miaotui.search.context import Context

_OURS, _BASELINE = "miaotui", "baseline"
_SHORTEST_FULL_S = 90.0
_JUDGED_S, _LEAST_JUDGED = 10.0, 256
"""A rival answers as many of the test rows as it can in that time, and at least so many."""
_SPARED_SHARE, _LEAST_S = 0.02, 10.0
"""Of the budget, for writing the bundle; and what the measurement takes at least."""
_FULL = SpeedPlan(
    rounds=10, min_rounds=3, round_seconds=2.0, max_round_seconds=4.0, warmup_calls=64
)
_SHORT = SpeedPlan(
    rounds=10, min_rounds=2, round_seconds=0.4, max_round_seconds=1.0, latency_calls=300
)
"""For short budgets: enough to rank, and the document's p99 is null under 1,000 calls."""
_SHORT_FOR_LATENCY = replace(_SHORT, latency_calls=1000)


@dataclass(frozen=True)
class Proof:
    """Raw speeds by contender, and what each rival lost on the test rows."""

    ours: SpeedResult
    baseline: SpeedResult
    rivals: dict[str, SpeedResult]
    drops: dict[str, float]
    unavailable: dict[str, str]
    is_short: bool = False
    """Whether rounds were shorter than two seconds, for want of time."""
    partly_judged: Mapping[str, int] = field(default_factory=dict)
    """How many test rows a rival answered that was too slow for all."""


@dataclass(frozen=True)
class ProofTime:
    """Seconds of the acceptance test, of opening the rivals, and what is left to measure; `full`:
    enough for rounds of two seconds and for every call that a p99 rests on."""

    acceptance_s: float
    rivals_s: float
    measuring_s: float
    full: bool


def prove(  # noqa: PLR0913  (what is compared, on what, under which clock)
    context: Context,
    source: Source,
    ours: RowRunner,
    baseline: RowRunner,
    test: Split,
    objective: Objective,
    clock: Clock,
    watch: Watch,
) -> Proof:
    """Measures until the time is over: fewer rounds first, then the slowest rival dropped."""
    watch(News("proof", "opening the rivals", "", clock.left_s))
    short = _SHORT_FOR_LATENCY if objective is Objective.LATENCY else _SHORT
    spared_s = _SPARED_SHARE * clock.budget_s

    def seconds_left(ready: Sequence[OpenRival]) -> float:
        """Once these, one more like the slowest of them, ours and the baseline are measured."""
        alone_s = [rival.alone_s for rival in ready]
        taken = sum(short.least_seconds(s) for s in (*alone_s, *3 * [max(alone_s)]))
        return clock.left_s - spared_s - taken

    rivals = _rivals(context, source, test, seconds_left)
    task, opened = context.model.task, rivals.ready
    contenders = [
        _contender(_OURS, Predictor(task, ours), droppable=False),
        _contender(_BASELINE, Predictor(task, baseline), droppable=False),
        *(_contender(r.name, r.predictor, batch=r.batch) for r in opened),
    ]

    def progress(share: float) -> None:
        watch(
            News("proof", f"measuring beside {len(opened)} rivals: {share:.0%}", "", clock.left_s)
        )

    seconds = max(clock.left_s - spared_s, _LEAST_S)
    plan = _FULL if seconds >= _SHORTEST_FULL_S else short
    with ExitStack() as rivals_open:
        for rival in opened:
            rivals_open.enter_context(rival.predictor)
        results = measure_interleaved(contenders, test.texts, plan, progress, seconds)
    speeds = {rival.name: results[rival.name] for rival in opened}
    judged = {rival.name: _judged_rows(rival, test) for rival in opened}
    return Proof(
        ours=results[_OURS],
        baseline=results[_BASELINE],
        rivals=speeds,
        drops=rivals.drops,
        unavailable=rivals.absent,
        is_short=plan is not _FULL,
        partly_judged={name: rows for name, rows in judged.items() if rows < len(test)},
    )


def proof_time(budget_s: float, test_rows: int, rows_per_s: float) -> ProofTime:
    """Where nothing is faster than the original, which answers so many rows/s."""
    clock = Clock(budget_s)
    acceptance_s = (1 + MOST_FROZEN) * test_rows / rows_per_s
    judged_s = min(test_rows, max(_JUDGED_S * rows_per_s, _LEAST_JUDGED)) / rows_per_s
    rivals_s = len(RIVALS) * (opening_seconds(rows_per_s) + judged_s)
    spared_s = _SPARED_SHARE * budget_s
    left_s = max(budget_s - clock.search_s - acceptance_s - rivals_s - spared_s, _LEAST_S)
    return ProofTime(acceptance_s, rivals_s, left_s, left_s >= _SHORTEST_FULL_S)


def _rivals(
    context: Context,
    source: Source,
    test: Split,
    seconds_left: Callable[[Sequence[OpenRival]], float],
) -> OpenRivals:
    if (source.folder / SHAPE_FILE).exists():
        reason = "the original is not a transformers folder"
        return OpenRivals([], {}, {rival.name: reason for rival in RIVALS})
    config, kind = load_config(source), type(context.model.task)
    module = padded_model(load_transformers(source, config, kind), kind)
    saturates = context.machine.saturates_int8
    rows, cores = context.train.rows, context.cores
    stock = StockModel(module, rows, _stock_folder(context), cores, saturates)
    return open_rivals(
        RIVALS,
        stock,
        context.model.task,
        context.machine,
        context.selection.rows,
        lambda rival: _drop(rival, context, test),
        seconds_left,
    )


def _stock_folder(context: Context) -> Path:
    return context.work / f"rivals-{context.fingerprint}"


def _contender(
    name: str, predictor: Predictor, batch: int = 0, droppable: bool = True
) -> Contender:
    return Contender(
        name=name,
        run=predictor,
        run_one=lambda text: predictor([text]),
        conditions={"batch": batch} if batch else {},
        droppable=droppable,
    )


def _drop(rival: OpenRival, context: Context, test: Split) -> float:
    """What it loses on the test rows, or on as many of the first of them as the time allows."""
    first = test.first(_judged_rows(rival, test))
    return context.judge.judge(rival.predictor.session, first).drop


def _judged_rows(rival: OpenRival, test: Split) -> int:
    return min(len(test), max(int(_JUDGED_S / rival.row_s), _LEAST_JUDGED))
