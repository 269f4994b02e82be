"""Opens the rivals, each at its best batch size, as predictors like ours."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from miaotui.engines.base import Runner, Session
from miaotui.errors import MiaotuiError, first_line
from miaotui.hardware import Machine
from miaotui.predictor import Predictor
from miaotui.rivals.base import Rival, Stock
from miaotui.tasks.base import EncodedRows, Task

_BATCHES = (8, 32, 128)


@dataclass(frozen=True)
class OpenRival:
    """A rival ready to answer, and the batch size that was fastest."""

    name: str
    predictor: Predictor
    batch: int


def open_rivals(
    rivals: Sequence[Rival],
    stock: Stock,
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
        if reason is None:
            try:
                opened.append(open_rival(rival, stock, task, rows))
                continue
            except (MiaotuiError, RuntimeError, ValueError) as error:
                reason = first_line(error)
        absent[rival.name] = reason
    return opened, absent


def open_rival(rival: Rival, stock: Stock, task: Task, rows: EncodedRows) -> OpenRival:
    """At the batch size that is fastest on `rows`; what its library raises is passed on."""
    return at_best_batch(rival, rival.runner(stock), task, rows)


def at_best_batch(rival: Rival, runner: Runner, task: Task, rows: EncodedRows) -> OpenRival:
    """What `rival.runner` gave, at the batch size that is fastest on `rows`."""
    single = rival.layouts([1])[0]
    sessions = {
        layout.batch: Session(runner, layout, single=single) for layout in rival.layouts(_BATCHES)
    }
    sample = rows.select(range(min(2 * max(_BATCHES), len(rows))))
    seconds = {batch: _seconds(session, sample) for batch, session in sessions.items()}
    best = min(seconds, key=lambda batch: seconds[batch])
    return OpenRival(rival.name, Predictor(task, sessions[best]), best)


def _seconds(session: Session, rows: EncodedRows) -> float:
    session.run(rows.select(range(min(16, len(rows)))))
    times = []
    for _ in range(2):
        began = time.perf_counter()
        session.run(rows)
        times.append(time.perf_counter() - began)
    return min(times)
