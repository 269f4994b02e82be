"""What a speed measurement of one contender found, and how two of them compare."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from miaotui.measure.records import Measurement
from miaotui.measure.statistics import Ratio, percentile, ratio_interval

FEWEST_CALLS_FOR_P99 = 1000


class SpeedResult(BaseModel):
    """Raw values of one contender, round by round; everything else is derived.

    Round `i` is the same texts for every contender of one measurement, except that a slow one may
    have run a prefix of them. `dropped` says why a contender has no further rounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    rows: Measurement
    """Rows of each round."""
    seconds: Measurement
    """Seconds that those rows took."""
    calls: Measurement
    """Batch-1 calls of each round."""
    latency_ms: Measurement
    """Every batch-1 call, in order."""
    first_call_ms: float | None
    warmup_s: float | None
    """Everything between the first call and the first round."""
    dropped: str | None = None

    @property
    def rounds(self) -> int:
        return len(self.rows.values)

    @property
    def rows_per_s(self) -> Measurement:
        """Throughput of each round."""
        speeds = [r / s for r, s in zip(self.rows.values, self.seconds.values, strict=True)]
        conditions = self.rows.conditions
        return Measurement(name="throughput", unit="rows/s", values=speeds, conditions=conditions)

    @property
    def p50_ms_by_round(self) -> Measurement:
        return self._latency_by_round("p50_latency", 50)

    @property
    def p99_ms_by_round(self) -> Measurement:
        return self._latency_by_round("p99_latency", 99)

    @property
    def throughput_rows_per_s(self) -> float | None:
        """Median over rounds; None before the first round."""
        return self.rows_per_s.median if self.rounds else None

    @property
    def p50_ms(self) -> float | None:
        """Median of all calls; None without calls."""
        return self.latency_ms.median if self.latency_ms.values else None

    @property
    def p99_ms(self) -> float | None:
        """99th percentile of all calls, however few: see `has_enough_calls_for_p99`."""
        return self.latency_ms.percentile(99) if self.latency_ms.values else None

    @property
    def has_enough_calls_for_p99(self) -> bool:
        """Whether the p99 rests on at least 1,000 calls and may be reported as one."""
        return len(self.latency_ms.values) >= FEWEST_CALLS_FOR_P99

    def _latency_by_round(self, name: str, q: float) -> Measurement:
        values, start = [], 0
        for calls in map(int, self.calls.values):
            if calls:
                values.append(percentile(self.latency_ms.values[start : start + calls], q))
            start += calls
        conditions = self.latency_ms.conditions
        return Measurement(name=name, unit="ms", values=values, conditions=conditions)


def ratios(ours: SpeedResult, theirs: SpeedResult) -> dict[str, Ratio]:
    """How many times better ours is, of one interleaved measurement; above 1 is better.

    Keys are `throughput`, `p50` and `p99`, those that both have measured; where one was dropped
    early, only the rounds that both ran count.
    """
    pairs = {
        "throughput": (ours.rows_per_s, theirs.rows_per_s, True),
        "p50": (ours.p50_ms_by_round, theirs.p50_ms_by_round, False),
        "p99": (ours.p99_ms_by_round, theirs.p99_ms_by_round, False),
    }
    return {
        key: _common_ratio(mine.values, other.values, higher_is_better)
        for key, (mine, other, higher_is_better) in pairs.items()
        if mine.values and other.values
    }


def _common_ratio(ours: Sequence[float], theirs: Sequence[float], higher_is_better: bool) -> Ratio:
    rounds = min(len(ours), len(theirs))
    return ratio_interval(ours[:rounds], theirs[:rounds], higher_is_better=higher_is_better)
