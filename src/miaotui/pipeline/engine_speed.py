"""How fast a session is alone, without tokenization: what a bundle can measure again anywhere."""

import time
from dataclasses import dataclass

import numpy as np

from miaotui.engines.base import RowRunner
from miaotui.tasks.base import EncodedRows


@dataclass(frozen=True)
class EngineSpeed:
    """Rows/s of each round, and every batch-1 call in milliseconds."""

    rows_per_s: list[float]
    latency_ms: list[float]

    @property
    def measured(self) -> dict[str, float]:
        """As it stands in a manifest."""
        return {
            "engine_rows_per_s": float(np.median(self.rows_per_s)),
            "engine_p50_ms": float(np.percentile(self.latency_ms, 50)),
            "engine_p99_ms": float(np.percentile(self.latency_ms, 99)),
        }


def engine_speed(
    session: RowRunner, rows: EncodedRows, rounds: int, round_s: float, calls: int
) -> EngineSpeed:
    """Rounds of about `round_s` over all rows, then single rows, after a warm-up of both."""
    began = time.perf_counter()
    session.run(rows)
    repeats = max(1, round(round_s / (time.perf_counter() - began)))
    speeds = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(repeats):
            session.run(rows)
        speeds.append(repeats * rows.num_inputs / (time.perf_counter() - began))
    singles = [rows.select([i % len(rows)]) for i in range(calls)]
    for single in singles[: max(1, calls // 4)]:
        session.run(single)
    latencies = []
    for single in singles:
        began = time.perf_counter()
        session.run(single)
        latencies.append((time.perf_counter() - began) * 1e3)
    return EngineSpeed(speeds, latencies)
