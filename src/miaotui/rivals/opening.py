"""Opens the rivals, each at its best batch size, as predictors like ours."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from miaotui.engines.base import Runner, Session
from miaotui.errors import MiaotuiError, first_line
from miaotui.hardware import Machine, resident_bytes
from miaotui.predictor import Predictor
from miaotui.rivals.base import Rival, StockModel
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.task import Task

_BATCHES = (8, 32, 128)
_CLEARLY_SLOWER = 1.05
_MEMORY_SHARE = 0.5
"""Of what this process may use; when it holds that, no further rival is opened."""


@dataclass(frozen=True)
class OpenRival:
    """A rival ready to answer, and the batch size that was fastest."""

    name: str
    predictor: Predictor
    batch: int


def open_rivals(
    rivals: Sequence[Rival],
    stock: StockModel,
    task: Task,
    machine: Machine,
    rows: EncodedRows,
    seconds: float,
) -> tuple[list[OpenRival], dict[str, str]]:
    """The rivals that run here, and why each other one does not; after `seconds` no more are
    opened."""
    began = time.monotonic()
    opened, absent = [], {}
    for rival in rivals:
        reason = rival.unavailable(machine)
        if reason is None and time.monotonic() - began > seconds:
            reason = "no time was left to open it; give a longer --time-budget"
        if reason is None and resident_bytes() > _MEMORY_SHARE * machine.memory_usable_bytes:
            reason = "no memory was left to open it beside the others"
        if reason is None:
            try:
                opened.append(open_rival(rival, stock, task, rows))
                continue
            except (MiaotuiError, RuntimeError, ValueError) as error:
                reason = first_line(error)
        absent[rival.name] = reason
    return opened, absent


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
    _, batch, session = min(tried, key=lambda each: each[0])
    return OpenRival(rival.name, Predictor(task, session), batch)


def _seconds(session: Session, rows: EncodedRows) -> float:
    session.run(rows.select(range(min(16, len(rows)))))
    times = []
    for _ in range(2):
        began = time.perf_counter()
        session.run(rows)
        times.append(time.perf_counter() - began)
    return min(times)
