"""Times contenders side by side, round by round: any callables from texts."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from miaotui.errors import DataError, RecipeError
from miaotui.measure.records import Condition, Measurement
from miaotui.measure.speed_plan import Contender, SpeedPlan
from miaotui.measure.speed_result import SpeedResult, ratios
from miaotui.measure.statistics import percentile
from miaotui.tasks.base import Text

__all__ = [
    "Contender",
    "SpeedPlan",
    "SpeedResult",
    "measure_interleaved",
    "ratios",
    "round_order",
]

_MOST_ROUND_ROWS = 1 << 20
_SPARE = 1.15
"""A round is planned this much longer than asked, so that a faster moment does not cut it short."""


def measure_interleaved(
    contenders: Sequence[Contender],
    texts: Sequence[Text],
    plan: SpeedPlan,
    on_progress: Callable[[float], None] | None = None,
    deadline_s: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, SpeedResult]:
    """Results by contender's name, in the order given.

    `deadline_s` is how many seconds this call may take: rounds are cut to fit, then the slowest
    droppable contender leaves, and its result says so; one round of one contender is always run.
    `on_progress` receives the share done, rising to 1. Errors of a contender are passed on.
    """
    _check(contenders, texts)
    ends_at = math.inf if deadline_s is None else clock() + deadline_s
    order = np.random.default_rng(plan.seed).permutation(len(texts))
    race = _Race(
        lanes=[_Lane(contender) for contender in contenders],
        plan=plan,
        texts=list(texts),
        shuffled=[texts[i] for i in order],
        clock=clock,
        ends_at=ends_at,
        on_progress=on_progress or (lambda share: None),
    )
    race.warm_up_()
    race.run_()
    return {lane.contender.name: _result(lane, len(texts)) for lane in race.lanes}


def round_order(contenders: int, round_index: int) -> list[int]:
    """Who runs when in a round: each is in every place, and after every other, equally often.

    A balanced Latin square (Williams 1949, Australian Journal of Scientific Research A2, 149-168),
    since what ran before leaves threads spinning and caches filled; an odd number of contenders is
    balanced over twice as many rounds.
    """
    zigzag = [i // 2 if i % 2 == 0 else contenders - 1 - i // 2 for i in range(contenders)]
    order = [(place + round_index) % contenders for place in zigzag]
    mirrored = contenders % 2 == 1 and (round_index // contenders) % 2 == 1
    return order[::-1] if mirrored else order


@dataclass
class _Lane:
    """One contender's raw values, and what is expected of its next round."""

    contender: Contender
    first_call_ms: float | None = None
    warmup_s: float | None = None
    expected_rows_per_s: float = math.nan
    expected_latency_s: float = 0.0
    rows: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    dropped: str | None = None


@dataclass
class _Race:
    """The run state of one measurement."""

    lanes: list[_Lane]
    plan: SpeedPlan
    texts: list[Text]
    shuffled: list[Text]
    clock: Callable[[], float]
    ends_at: float
    on_progress: Callable[[float], None]
    round_rows: int = 0
    rounds_done: int = 0
    calls_done: int = 0
    rows_done: int = 0
    share_done: float = 0.0

    def active(self) -> list[_Lane]:
        return [lane for lane in self.lanes if lane.dropped is None]

    def warm_up_(self) -> None:
        """First calls, shapes and speeds of all; sets how many rows a round has."""
        for lane in self.lanes:
            if self._is_late() and lane.contender.droppable and lane is not self.lanes[0]:
                lane.dropped = "the time was over before its first call"
            else:
                self._warm_up_lane_(lane)
        fastest = max(self.active(), key=lambda lane: lane.expected_rows_per_s)
        start = self.clock()
        self._fit_round_(fastest)
        fastest.warmup_s = (fastest.warmup_s or 0.0) + self.clock() - start

    def _warm_up_lane_(self, lane: _Lane) -> None:
        run, run_one = lane.contender.run, lane.contender.run_one
        lane.first_call_ms = 1000 * self._timed(lambda: run([self.texts[0]]))
        start = self.clock()
        if run_one is not None and self.plan.latency_calls:
            latencies = self._timed_calls(run_one, 0, self.plan.warmup_calls)
            lane.expected_latency_s = percentile(latencies, 50)
        rows = self.plan.warmup_rows
        self._timed_run(lane, rows)
        seconds = self._timed_run(lane, rows)
        while seconds < self.plan.round_seconds / 8 and rows < _MOST_ROUND_ROWS:
            rows *= 4
            seconds = self._timed_run(lane, rows)
        lane.expected_rows_per_s = rows / max(seconds, 1e-9)
        lane.warmup_s = self.clock() - start

    def _fit_round_(self, fastest: _Lane) -> None:
        """Grows the round until the fastest contender is busy for as long as asked."""
        wanted = self.plan.round_seconds
        self.round_rows = _capped(fastest.expected_rows_per_s * wanted * _SPARE)
        seconds = self._timed_run(fastest, self.round_rows)
        while seconds < wanted and self.round_rows < _MOST_ROUND_ROWS:
            self.round_rows = _capped(self.round_rows * _growth(wanted, seconds))
            seconds = self._timed_run(fastest, self.round_rows)
        fastest.expected_rows_per_s = self.round_rows / max(seconds, 1e-9)

    def run_(self) -> None:
        gc.collect()
        while (rounds_left := self._affordable_rounds_()) > 0:
            calls = math.ceil((self.plan.latency_calls - self.calls_done) / rounds_left)
            self._run_round_(calls, self.rounds_done + rounds_left)
            self.rounds_done += 1
            self.calls_done += calls
            self.rows_done += self.round_rows
            self._grow_short_round_()
        self._report_(1.0)

    def _affordable_rounds_(self) -> int:
        """Rounds that still fit; drops the slowest until enough of them do."""
        while True:
            left = self._rounds_that_fit()
            droppable = [lane for lane in self.active() if lane.contender.droppable]
            stuck = len(self.active()) == 1 or not droppable
            if stuck and not self.rounds_done:
                return max(left, 1)
            over = self.rounds_done > 0 and self._is_late()
            if stuck or over or self.rounds_done + left >= self.plan.min_rounds:
                return left
            slowest = min(droppable, key=lambda lane: lane.expected_rows_per_s)
            slowest.dropped = (
                f"the slowest where the time left did not allow {self.plan.min_rounds} rounds of "
                f"all; dropped after {self.rounds_done}"
            )

    def _rounds_that_fit(self) -> int:
        wanted = self.plan.rounds - self.rounds_done
        if self.ends_at == math.inf:
            return wanted
        calls_left = self.plan.latency_calls - self.calls_done
        latency_s = calls_left * sum(lane.expected_latency_s for lane in self.active())
        round_s = sum(
            self._rows_of(lane) / lane.expected_rows_per_s + self.plan.settle_seconds
            for lane in self.active()
        )
        fitting = int((self.ends_at - self.clock() - latency_s) / round_s)
        return max(min(wanted, fitting), 0)

    def _run_round_(self, calls: int, rounds_planned: int) -> None:
        lanes = self.active()
        for turn, place in enumerate(round_order(len(lanes), self.rounds_done)):
            lane = lanes[place]
            if not self._skips_(lane, first=turn == 0 and self.rounds_done == 0):
                self._run_turn_(lane, calls)
            self._report_((self.rounds_done + (turn + 1) / len(lanes)) / rounds_planned)

    def _skips_(self, lane: _Lane, first: bool) -> bool:
        """Whether the time is over for it; without a single round, that means dropped."""
        if first or not self._is_late() or not lane.contender.droppable:
            return False
        if not lane.rows:
            lane.dropped = "the time was over before its first round"
        return True

    def _run_turn_(self, lane: _Lane, calls: int) -> None:
        rows = self._rows_of(lane)
        time.sleep(self.plan.settle_seconds)
        with _no_garbage_collection():
            seconds = self._timed_run(lane, rows)
            latencies = self._latencies(lane, calls)
        lane.rows.append(rows)
        lane.seconds.append(seconds)
        lane.expected_rows_per_s = rows / max(seconds, 1e-9)
        lane.calls.append(len(latencies))
        lane.latency_ms.extend(1000 * latency for latency in latencies)

    def _latencies(self, lane: _Lane, calls: int) -> list[float]:
        run_one = lane.contender.run_one
        return [] if run_one is None else self._timed_calls(run_one, self.calls_done, calls)

    def _rows_of(self, lane: _Lane) -> int:
        """The round's rows, or as many of them as a slow contender manages in its time."""
        manageable = int(lane.expected_rows_per_s * self.plan.max_round_seconds)
        return max(1, min(self.round_rows, manageable))

    def _grow_short_round_(self) -> None:
        """Makes the next round longer where this one was too short for the fastest contender."""
        seconds = [lane.seconds[-1] for lane in self.active() if lane.rows[-1] == self.round_rows]
        if seconds and min(seconds) < self.plan.round_seconds:
            growth = _growth(self.plan.round_seconds, min(seconds))
            self.round_rows = _capped(self.round_rows * growth)

    def _timed_run(self, lane: _Lane, rows: int) -> float:
        """Seconds for the next `rows` texts in shuffled order, from the start again at the end."""
        count = len(self.shuffled)
        sample = [self.shuffled[(self.rows_done + i) % count] for i in range(rows)]
        return self._timed(lambda: lane.contender.run(sample))

    def _timed_calls(
        self, run_one: Callable[[Text], object], first: int, calls: int
    ) -> list[float]:
        """Seconds of batch-1 calls in row order; at least one, then none past the deadline."""
        clock, latencies = self.clock, []
        for index in range(first, first + calls):
            text = self.texts[index % len(self.texts)]
            start = clock()
            run_one(text)
            end = clock()
            latencies.append(end - start)
            if end > self.ends_at:
                break
        return latencies

    def _timed(self, run: Callable[[], object]) -> float:
        start = self.clock()
        run()
        return self.clock() - start

    def _is_late(self) -> bool:
        return self.clock() > self.ends_at

    def _report_(self, share: float) -> None:
        self.share_done = max(self.share_done, share)
        self.on_progress(self.share_done)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _growth(wanted_s: float, measured_s: float) -> float:
    return max(_SPARE * wanted_s / max(measured_s, 1e-9), _SPARE)


def _capped(rows: float) -> int:
    return math.ceil(min(rows, _MOST_ROUND_ROWS))


def _result(lane: _Lane, texts: int) -> SpeedResult:
    conditions: dict[str, Condition] = {**lane.contender.conditions, "distinct_texts": texts}

    def measured(name: str, unit: str, values: Sequence[float], **more: Condition) -> Measurement:
        return Measurement(
            name=name, unit=unit, values=list(values), conditions={**conditions, **more}
        )

    return SpeedResult(
        name=lane.contender.name,
        rows=measured("round_rows", "rows", lane.rows),
        seconds=measured("round_seconds", "s", lane.seconds),
        calls=measured("round_calls", "calls", lane.calls, batch=1),
        latency_ms=measured("latency", "ms", lane.latency_ms, batch=1),
        first_call_ms=lane.first_call_ms,
        warmup_s=lane.warmup_s,
        dropped=lane.dropped,
    )


def _check(contenders: Sequence[Contender], texts: Sequence[Text]) -> None:
    names = [contender.name for contender in contenders]
    if not names or len(set(names)) < len(names):
        raise RecipeError(f"contenders {names}: expected at least one, each with its own name")
    if not texts:
        raise DataError("no texts to measure speed on; give at least one row")
