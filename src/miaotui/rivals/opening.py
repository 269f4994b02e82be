"""Opens the rivals, each at its best batch size, as predictors like ours."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from miaotui.engines.base import Runner, Session
from miaotui.errors import MiaotuiError, first_line
from miaotui.hardware import Machine, resident_bytes
from miaotui.predictor import Predictor
from miaotui.rivals.base import Rival, StockModel
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.task import Task

_BATCHES = (8, 32, 128)
_WARM_ROWS = 16
_BUILDING_S = 2.0
"""About what exporting or quantizing takes of a 22M-parameter model on two cores."""
_CLEARLY_SLOWER = 1.05
_MEMORY_SHARE = 0.5
"""Of what this process may use; when it holds that, no further rival is opened."""


@dataclass(frozen=True)
class OpenRival:
    """A rival ready to answer, the batch size that was fastest, and the seconds that a row takes it
    then and alone."""

    name: str
    predictor: Predictor
    batch: int
    row_s: float
    alone_s: float


@dataclass(frozen=True)
class OpenRivals:
    """Those that answer, what was said of each by name, and why each other one does not."""

    ready: list[OpenRival]
    drops: dict[str, float]
    absent: dict[str, str]


def open_rivals(  # noqa: PLR0913  (what is opened, of what, and under which limits)
    rivals: Sequence[Rival],
    stock: StockModel,
    task: Task,
    machine: Machine,
    rows: EncodedRows,
    drop_of: Callable[[OpenRival], float],
    seconds_left: Callable[[Sequence[OpenRival]], float],
) -> OpenRivals:
    """Opens one after the other and asks `drop_of` each. None is begun after the first that might
    take more than `seconds_left` once those that are open have been measured."""
    opened = OpenRivals([], {}, {})
    last_s = 0.0
    for rival in rivals:
        reason = rival.unavailable(machine)
        if reason is None and opened.ready and seconds_left(opened.ready) < last_s:
            reason = "no time was left to open it; give a longer --time-budget"
        if reason is None and resident_bytes() > _MEMORY_SHARE * machine.memory_usable_bytes:
            reason = "no memory was left to open it beside the others"
        if reason is None:
            began = time.monotonic()
            reason = _open_(opened, rival, stock, task, rows, drop_of)
            last_s = time.monotonic() - began
        if reason is not None:
            opened.absent[rival.name] = reason
    return opened


def _open_(  # noqa: PLR0913  (as `open_rivals`)
    rivals: OpenRivals,
    rival: Rival,
    stock: StockModel,
    task: Task,
    rows: EncodedRows,
    drop_of: Callable[[OpenRival], float],
) -> str | None:
    """Adds the rival; why it does not answer, where it does not."""
    with ExitStack() as failed:
        try:
            ready = open_rival(rival, stock, task, rows)
            failed.callback(ready.predictor.close)
            rivals.drops[rival.name] = drop_of(ready)
        except (MiaotuiError, RuntimeError, ValueError) as error:
            return first_line(error)
        failed.pop_all()
    rivals.ready.append(ready)
    return None


def opening_seconds(rows_per_s: float) -> float:
    """What it takes to open one of that speed, with all batch sizes tried."""
    return _BUILDING_S + len(_BATCHES) * (_WARM_ROWS + 2 * 2 * max(_BATCHES)) / rows_per_s


def open_rival(rival: Rival, stock: StockModel, task: Task, rows: EncodedRows) -> OpenRival:
    """At the batch size that is fastest on `rows`; what its library raises is passed on."""
    return at_best_batch(rival, rival.runner(stock), task, rows)


def at_best_batch(rival: Rival, runner: Runner, task: Task, rows: EncodedRows) -> OpenRival:
    """What `rival.runner` gave, at the batch size that is fastest on `rows`. Once one is clearly
    slower than a smaller one, no larger one is tried: on rows of 400 tokens 128 of them are half as
    fast as 8 in ONNX Runtime, and take 11 GB."""
    single = rival.layouts([1])[0]
    sample = rows.select(range(min(2 * max(_BATCHES), len(rows))))
    tried: list[tuple[float, int, Session]] = []
    for layout in rival.layouts(_BATCHES):
        session = Session(runner, layout, single=single)
        tried.append((_seconds(session, sample), layout.batch, session))
        if tried[-1][0] > _CLEARLY_SLOWER * min(seconds for seconds, *_ in tried):
            break
    seconds, batch, session = min(tried, key=lambda each: each[0])
    alone_s = _seconds(session, sample.select(range(1)))
    return OpenRival(rival.name, Predictor(task, session), batch, seconds / len(sample), alone_s)


def _seconds(session: Session, rows: EncodedRows) -> float:
    session.run(rows.select(range(min(_WARM_ROWS, len(rows)))))
    times = []
    for _ in range(2):
        began = time.perf_counter()
        session.run(rows)
        times.append(time.perf_counter() - began)
    return min(times)
