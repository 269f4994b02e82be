"""Two models of one task side by side, here and now: quality on the same rows, speed interleaved
round by round, end to end."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miaotui.bundle import MANIFEST_FILE, open_bundle, read_bundle
from miaotui.data.columns import ANY_COLUMNS, Columns
from miaotui.data.rows import Rows
from miaotui.engines.torch import TorchEngine
from miaotui.errors import BudgetError, LabelsMissing, ModelError
from miaotui.hardware import use_cores
from miaotui.measure.comparison import Comparison, QualityOfTwo, Side, SpeedOfTwo
from miaotui.measure.judge import Split, judge_for
from miaotui.measure.speed import Contender, SpeedPlan, measure_interleaved, ratios
from miaotui.predictor import Predictor, chunks_of
from miaotui.process import process_as_found
from miaotui.tasks.matching import label_order
from miaotui.tasks.outputs import Outputs, join_ragged
from miaotui.tasks.task import Task

Progress = Callable[[str, float], None]
"""What is done now, and the share of it that is done."""
_PLAN = SpeedPlan(rounds=10, round_seconds=2.0, max_round_seconds=4.0, warmup_calls=64)
_SHORT = SpeedPlan(
    rounds=10, min_rounds=3, round_seconds=0.4, max_round_seconds=1.0, latency_calls=300
)
_SHORTEST_FULL_S = 90.0
_CHUNK = 256
_FEWEST_ROWS = 2


@dataclass(frozen=True)
class CompareOptions:
    """What is compared on what. `metric` of None: the one that a bundle was judged by, else the
    task's own for these rows. `seconds` bounds the timing."""

    a: str
    b: str
    data: Path
    columns: Columns = ANY_COLUMNS
    metric: str | None = None
    cores: int | None = None
    seconds: float = 120.0


@dataclass(frozen=True)
class _Opened:
    side: Side
    predictor: Predictor
    metric: str | None


@process_as_found()
def compare(options: CompareOptions, progress: Progress = lambda what, share: None) -> Comparison:
    """Opens both on the same cores. What is no bundle runs in PyTorch, fp32, as transformers runs
    it. Models of another task or with other labels are a ModelError."""
    cores = use_cores(options.cores)
    with ExitStack() as stack:
        progress("opening", 0.0)
        a, b = (_opened(name, cores, stack) for name in (options.a, options.b))
        task = a.predictor.task
        order = label_order(task, b.predictor.task)
        rows, notes = _rows(task, options)
        first = _outputs(a.predictor, rows, lambda share: progress("A answers", share))
        second = _outputs(b.predictor, rows, lambda share: progress("B answers", share))
        second = _in_order(second, order, first, options)
        metric = options.metric or _metric(a, b, task, rows)
        quality, agreement = _judged(task, metric, rows, first, second)
        speed = _timed(a.predictor, b.predictor, rows, options.seconds, progress)
    return Comparison(
        a=a.side,
        b=b.side,
        task=task.kind,
        rows=len(rows),
        cores=cores,
        agreement=agreement,
        quality=quality,
        speed=speed,
        notes=notes,
    )


def _opened(name: str, cores: int, stack: ExitStack) -> _Opened:
    if (Path(name) / MANIFEST_FILE).is_file():
        bundle = read_bundle(name)
        opened = stack.enter_context(open_bundle(bundle, cores))
        side = Side(name, True, opened.runs_on, opened.warnings)
        return _Opened(side, opened, bundle.metric)
    try:
        from miaotui.models.load import find_model, load_model
    except ImportError as error:
        raise ModelError(
            f"{name} is no bundle, and to run a model takes torch and transformers, which are not "
            "installed; pip install 'miaotui[optimize]'"
        ) from error
    model = load_model(find_model(name))
    session = stack.enter_context(TorchEngine().open_model(model, cores, bf16=False))
    side = Side(name, False, "torch fp32, as transformers runs it")
    return _Opened(side, Predictor(model.task, session), None)


def _rows(task: Task, options: CompareOptions) -> tuple[Rows, tuple[str, ...]]:
    """Labelled ones where the file has labels, and what is to be said of them."""
    try:
        rows = task.read_rows(options.data, options.columns)
    except LabelsMissing:
        rows = task.read_rows(options.data, options.columns, labelled=False)
        said = f"{options.data} has no labels: agreement and speed alone are measured"
        return rows, (*rows.notes, said)
    return rows, rows.notes


def _outputs(predictor: Predictor, rows: Rows, progress: Callable[[float], None]) -> Outputs:
    """What it gives of each text, windows of one text together."""
    done, parts = 0, []
    for texts in chunks_of(rows.texts, _CHUNK):
        encoded = predictor.task.encode(texts)
        parts.append(predictor.outputs(encoded).merged(encoded.input_starts))
        done += len(texts)
        progress(done / len(rows))
    return join_ragged(parts)


def _in_order(
    theirs: Outputs, order: Sequence[int], ours: Outputs, options: CompareOptions
) -> Outputs:
    """Their outputs with their labels where ours stand."""
    odd = int((theirs.lengths != ours.lengths).sum())
    if odd:
        raise ModelError(
            f"the tokenizers of {options.a} and {options.b} see other words in {odd} of "
            f"{len(ours)} texts, so that their tags cannot be compared; compare models that split "
            "words alike"
        )
    return replace(theirs, values=np.ascontiguousarray(theirs.values[:, list(order)]))


def _metric(a: _Opened, b: _Opened, task: Task, rows: Rows) -> str:
    known = {opened.metric for opened in (a, b) if opened.metric is not None}
    return known.pop() if len(known) == 1 else task.metric_for(rows)[0].name


def _judged(
    task: Task, metric: str, rows: Rows, a: Outputs, b: Outputs
) -> tuple[QualityOfTwo | None, float]:
    """Quality where there are labels, and the share answered alike."""
    judge = judge_for(task, metric)
    if rows.labels is None:
        return None, float(task.same_answers(a, b).mean())
    if len(rows) < _FEWEST_ROWS:
        raise BudgetError(f"{rows.source} has one row; give more to compare by")
    encoded = task.encode(rows.texts)
    flat = encoded.readout_starts
    split = Split(rows.texts, encoded, task.targets(rows, encoded), Outputs(a.values, flat))
    found = judge.compare(Outputs(b.values, flat), split)
    quality = QualityOfTwo(
        found.metric, found.original, found.optimized, found.drop, found.interval_95
    )
    return quality, found.agreement


def _timed(
    a: Predictor, b: Predictor, rows: Rows, seconds: float, progress: Progress
) -> SpeedOfTwo:
    results = measure_interleaved(
        [_contender("A", a), _contender("B", b)],
        rows.texts,
        _PLAN if seconds >= _SHORTEST_FULL_S else _SHORT,
        lambda share: progress("timing both, in turns", share),
        seconds,
    )
    better = ratios(results["B"], results["A"])
    if not all(result.has_enough_calls_for_p99 for result in results.values()):
        better.pop("p99", None)
    return SpeedOfTwo(results["A"], results["B"], better)


def _contender(name: str, predictor: Predictor) -> Contender:
    return Contender(name, predictor, lambda text: predictor([text]), droppable=False)
