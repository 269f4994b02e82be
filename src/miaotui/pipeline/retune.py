"""Chooses again how a bundle runs, for this machine: engine, layout, streams, threads. What answers
its golden rows otherwise is out, the rest is timed, and the fastest few are timed side by side. The
choice is the host's own and lies in the user's cache."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from miaotui.budget import Objective
from miaotui.bundle import Bundle, read_bundle
from miaotui.cascade import open_parts
from miaotui.engines.base import RowRunner, Workload
from miaotui.engines.workload import workload_of
from miaotui.errors import BundleError, EngineUnavailable, MiaotuiError
from miaotui.fallback import placed
from miaotui.golden import Golden, Nearness
from miaotui.hardware import Machine, probe, use_cores
from miaotui.host import Made, Placed, choice_folder, drafts, keep_choice, opened
from miaotui.measure.retuned import Retuned
from miaotui.measure.speed import Contender, SpeedPlan, SpeedResult, measure_interleaved, ratios
from miaotui.measure.statistics import Ratio
from miaotui.pipeline.runtime_options import Option, all_options, refined
from miaotui.pipeline.verify import rows_like
from miaotui.process import process_as_found
from miaotui.tasks.base import EncodedRows, Text
from miaotui.tasks.saved import open_task

Progress = Callable[[str, float], None]
MOST_DIVERGENCE = 0.02
"""How far from the golden answers (`Task.divergence`) what is chosen may be; what runs the bundle
already may be as far as it is."""
PLAN = SpeedPlan(rounds=10, round_seconds=0.3, max_round_seconds=1.0, latency_calls=1000)
"""How the leading ways are timed side by side."""
_FINAL_S = 60.0
_SCREENED_RUNS, _SCREENED_CALLS, _SCREENED_S = 3, 60, 1.0
_REFINED, _FINALISTS = 2, 3


@dataclass
class _Tried:
    """What is known so far, by title: options, their speed in the unit they are judged by, how near
    they are to the golden rows, why others are out. `present` is how the bundle runs now;
    `present_refused` says why it cannot, None where it can."""

    present: Option
    present_refused: str | None = None
    options: dict[str, Option] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    near: dict[str, Nearness] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    """One tuning: the bundle, what it runs on, the rows to time it on, what it is judged by."""

    made: Made
    machine: Machine
    work: Workload
    rows: EncodedRows
    golden: Golden
    one_by_one: bool
    plan: SpeedPlan
    progress: Progress

    @property
    def judged_by(self) -> str:
        return "p99" if self.one_by_one else "throughput"


@process_as_found()
def retune(
    folder: Path,
    cores: int | None = None,
    progress: Progress = lambda what, share: None,
    machine: Machine | None = None,
    plan: SpeedPlan = PLAN,
) -> Retuned:
    """Keeps what is faster beyond chance than what runs the bundle now, on `cores`: those it
    usually runs on where nobody says. Interrupted, what was chosen before stands."""
    machine = machine or probe()
    bundle = read_bundle(folder)
    cores = use_cores(bundle.usual_cores(machine) if cores is None else cores)
    job = _job(bundle, machine, cores, progress, plan)
    with drafts() as draft:
        return _chosen(job, _tried(job, draft))


def _job(bundle: Bundle, machine: Machine, cores: int, progress: Progress, plan: SpeedPlan) -> _Job:
    task = open_task(bundle.folder)
    made = bundle.made(task)
    if made.golden is None:
        raise BundleError(
            f"{bundle.folder} holds no golden rows to check answers by (--no-golden): it cannot be "
            "tuned; run miaotui optimize here"
        )
    lengths = np.repeat(
        [int(length) for length in bundle.manifest["lengths"]],
        list(bundle.manifest["lengths"].values()),
    )
    return _Job(
        made=made,
        machine=machine,
        work=workload_of(lengths, machine, cores, task.max_tokens),
        rows=rows_like(bundle, task, made.stages is not None),
        golden=made.golden,
        one_by_one=_objective(bundle) is Objective.LATENCY,
        plan=plan,
        progress=progress,
    )


def _objective(bundle: Bundle) -> Objective:
    """What it was optimized for."""
    result = json.loads((bundle.folder / "result.json").read_text(encoding="utf-8"))
    return Objective(result["speed"]["objective"])


def _tried(job: _Job, draft: Path) -> _Tried:
    """The present way first, then all others, then the settings of the leading ones."""
    job.progress("trying what it runs on now", 0.0)
    tried = _Tried(Option(placed(job.made, job.machine, job.work.cores).parts, ""))
    _try_(tried, job, tried.present, np.inf)
    tried.present_refused = tried.refused.pop(tried.present.title, None)
    job.progress("lowering it for other engines", 0.0)
    others = list(all_options(job.made, job.work, draft, tried.refused))
    for done, option in enumerate(others):
        job.progress(f"trying {option.title}", done / len(others))
        _try_(tried, job, option, MOST_DIVERGENCE)
    leading = _ranked(tried, job)[:_REFINED]
    more = [
        option
        for title in leading
        for option in refined(job.work, job.one_by_one, tried.options[title])
    ]
    for done, option in enumerate(more):
        job.progress(f"trying {option.title}", done / len(more))
        _try_(tried, job, option, MOST_DIVERGENCE)
    return tried


def _try_(tried: _Tried, job: _Job, option: Option, most: float) -> None:
    """Opens, checks and times one option alone; a refusal is noted."""
    known = [each.parts for each in tried.options.values()]
    if option.parts in known or option.title in tried.options or option.title in tried.refused:
        return
    try:
        for part in option.parts:
            reason = part.engine.unsuited(part.folder, job.machine)
            if reason is not None:
                raise EngineUnavailable(reason)
        with opened(option.parts, job.made, job.work.cores) as runner:
            near = job.golden.nearness(job.made.task, runner)
            if near.divergence > most:
                raise EngineUnavailable(
                    f"answers {1 - near.agreement:.1%} of golden rows otherwise"
                )
            speed = _screened(runner, job)
    except MiaotuiError as error:
        tried.refused[option.title] = str(error)
        return
    tried.options[option.title] = option
    tried.near[option.title] = near
    tried.speeds[option.title] = speed


def _chosen(job: _Job, tried: _Tried) -> Retuned:
    """The fastest of the leading ones side by side with the present way, which stays unless one
    is faster beyond chance."""
    present = tried.present.title
    others = [t for t in _ranked(tried, job) if tried.options[t] is not tried.present]
    leading = others[:_FINALISTS]
    racing = leading if tried.present_refused is not None else [present, *leading]
    if not racing:
        reasons = "; ".join([tried.present_refused or "", *tried.refused.values()][:2])
        raise EngineUnavailable(f"nothing here runs {job.made.folder} as it answered: {reasons}")
    with ExitStack() as stack:
        contenders = [
            _contender(title, stack.enter_context(_warm(tried.options[title], job)), job)
            for title in racing
        ]
        results = measure_interleaved(
            contenders,
            _numbers(job.rows),
            job.plan,
            lambda share: job.progress(f"timing {len(racing)} side by side", share),
            _FINAL_S,
        )
    best, ratio = _fastest(results, racing, job)
    cores, near = job.work.cores, tried.near[best]
    keep_choice(
        job.made, job.machine, Placed(tried.options[best].parts, is_tuned=True, cores=cores)
    )
    return Retuned(
        was=present,
        was_refused=tried.present_refused,
        compared_with=racing[0],
        chosen=best,
        judged_by=job.judged_by,
        times_faster=ratio,
        agreement=near.agreement,
        golden_inputs=near.inputs,
        cores=cores,
        speeds=tried.speeds | _figures(results, job),
        refused=tried.refused,
        kept_in=str(choice_folder(job.made, job.machine)),
    )


def _fastest(
    results: Mapping[str, SpeedResult], racing: Sequence[str], job: _Job
) -> tuple[str, Ratio | None]:
    """Who is clearly faster than the first, and how much; the first where nobody is."""
    best, best_ratio = racing[0], None
    for title in racing[1:]:
        ratio = ratios(results[title], results[racing[0]])[job.judged_by]
        if ratio.low > 1 and (best_ratio is None or ratio.median > best_ratio.median):
            best, best_ratio = title, ratio
    return best, best_ratio


def _ranked(tried: _Tried, job: _Job) -> list[str]:
    """The fastest first."""
    return sorted(tried.speeds, key=lambda t: tried.speeds[t] * (1 if job.one_by_one else -1))


def _screened(runner: RowRunner, job: _Job) -> float:
    """Rows/s of the golden rows, or where single rows count the median latency in ms: alone, and
    enough to tell what may lead."""
    rows, times = job.golden.rows, list[float]()
    runs = [rows] * _SCREENED_RUNS
    if job.one_by_one:
        runs = [rows.select([i % len(rows)]) for i in range(_SCREENED_CALLS)]
    while len(times) < len(runs) and sum(times) < _SCREENED_S:
        times.append(_seconds(runner, runs[len(times)]))
    return 1e3 * float(np.median(times)) if job.one_by_one else rows.num_inputs / min(times)


def _seconds(runner: RowRunner, rows: EncodedRows) -> float:
    began = time.perf_counter()
    runner.run(rows)
    return time.perf_counter() - began


def _figures(results: Mapping[str, SpeedResult], job: _Job) -> dict[str, float]:
    """As `_screened`, of those that were timed side by side."""
    found = {
        title: result.p50_ms if job.one_by_one else result.throughput_rows_per_s
        for title, result in results.items()
    }
    return {title: value for title, value in found.items() if value is not None}


def _warm(option: Option, job: _Job) -> RowRunner:
    longest = int(job.rows.lengths.max(initial=1))
    return open_parts(option.parts, job.made.stages, job.work.cores).warmed_up(longest)


def _numbers(rows: EncodedRows) -> list[Text]:
    """A race is over texts, and a bundle has none: each row goes by its number."""
    return [str(number) for number in range(len(rows))]


def _contender(title: str, runner: RowRunner, job: _Job) -> Contender:
    """Single rows are timed only where they decide."""

    def run(numbers: Sequence[Text]) -> object:
        return runner.run(job.rows.select([int(str(number)) for number in numbers]))

    one = (lambda number: run([number])) if job.one_by_one else None
    return Contender(title, run, one, droppable=False)
