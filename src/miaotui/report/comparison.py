"""Ours, the baseline and the rivals as rows of one table."""

from dataclasses import dataclass

from miaotui.measure.result import OptimizationResult, RatioTriple, Rival, SpeedMetric, best_rival

BASELINE = "baseline"
_METRICS: tuple[SpeedMetric, ...] = ("throughput", "p50", "p99")


@dataclass(frozen=True)
class ComparedRow:
    """One row; ratios say how many times better ours is, `best_at` the metrics it wins."""

    name: str
    role: str
    throughput_rows_per_s: float | None
    p50_ms: float | None
    p99_ms: float | None
    throughput_ratio: RatioTriple | None = None
    p50_ratio: RatioTriple | None = None
    p99_ratio: RatioTriple | None = None
    drop: float | None = None
    keeps_limit: bool | None = None
    dropped: str | None = None
    best_at: tuple[SpeedMetric, ...] = ()


def compared_rows(result: OptimizationResult) -> list[ComparedRow]:
    """Ours first, then the baseline, then the rivals from the fastest to the unmeasured."""
    rivals = [_rival(result, name, rival) for name, rival in result.speed.rivals.items()]
    by_speed = sorted(rivals, key=lambda row: -(row.throughput_rows_per_s or 0.0))
    return [_ours(result), _baseline(result), *by_speed]


def _ours(result: OptimizationResult) -> ComparedRow:
    speed = result.speed
    return ComparedRow(
        name="miaotui",
        role="ours",
        throughput_rows_per_s=speed.throughput_rows_per_s,
        p50_ms=speed.latency_ms.p50,
        p99_ms=speed.latency_ms.p99,
        drop=result.quality.drop,
        keeps_limit=result.quality.within_budget,
    )


def _baseline(result: OptimizationResult) -> ComparedRow:
    baseline = result.speed.baseline
    return ComparedRow(
        name=BASELINE,
        role="baseline",
        throughput_rows_per_s=baseline.throughput_rows_per_s,
        p50_ms=baseline.latency_ms.p50,
        p99_ms=baseline.latency_ms.p99,
        throughput_ratio=baseline.throughput_ratio,
        p99_ratio=baseline.p99_ratio,
        drop=result.details.rival_drop.get(BASELINE),
    )


def _rival(result: OptimizationResult, name: str, rival: Rival) -> ComparedRow:
    return ComparedRow(
        name=name,
        role="rival",
        throughput_rows_per_s=rival.throughput_rows_per_s,
        p50_ms=rival.latency_ms.p50,
        p99_ms=rival.latency_ms.p99,
        throughput_ratio=rival.throughput_ratio,
        p50_ratio=rival.p50_ratio,
        p99_ratio=rival.p99_ratio,
        drop=result.details.rival_drop.get(name),
        keeps_limit=rival.keeps_limit,
        dropped=rival.dropped,
        best_at=tuple(metric for metric in _METRICS if best_rival(result, metric) == name),
    )
