"""What one optimization found: the single JSON document of `miaotui optimize --json`.

Fields that were not measured are null. The part `details` serves the report; all of it may be
missing. `model_dump_json` and `model_validate_json` round trip.
"""

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from miaotui.tasks.rows_read import RowsRead

SpeedMetric = Literal["throughput", "p50", "p99"]
PointKind = Literal["free", "compressed", "recovered", "cascade", "rival", "original"]

RatioTriple = tuple[float, float, float]
"""Low, median and high of how many times better ours is; above 1 ours is the better."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassLoss(_Frozen):
    """What one class loses: of its recall, or its F1 where a row may have several."""

    drop: float
    upper_bound: float


class QualityOutcome(_Frozen):
    """Both models on the test rows; `drop` = original - optimized, in the metric's own units.

    `upper_bound` is the one-sided bound of the drop at `confidence`, and `within_budget` whether
    that is within the limit (and the bound of every class in `class_losses`, where these are
    limited, within theirs); `within_budget_95` the same at 95%. Bundles of before confidences have
    null, and `within_budget` judged the drop itself.
    """

    metric: str
    original: float
    optimized: float
    drop: float
    drop_interval_95: tuple[float, float]
    rows: int
    within_budget: bool
    within_budget_95: bool
    confidence: float | None = None
    upper_bound: float | None = None
    class_losses: dict[str, ClassLoss] = {}


class LatencyMs(_Frozen):
    """Percentiles of batch-1 calls, in milliseconds."""

    p50: float | None = None
    p99: float | None = None


class Baseline(_Frozen):
    """The uncompressed original in our best runtime."""

    throughput_rows_per_s: float | None = None
    latency_ms: LatencyMs = LatencyMs()
    throughput_ratio: RatioTriple | None = None
    p99_ratio: RatioTriple | None = None


class Rival(Baseline):
    """A stock library's way to serve the model; `keeps_limit` is null where its drop is unknown.

    `dropped` says why it was not measured, or not to the end.
    """

    keeps_limit: bool | None = None
    p50_ratio: RatioTriple | None = None
    dropped: str | None = None


class SpeedOutcome(_Frozen):
    """End to end, text in and answer out: the optimized model, the baseline and the rivals."""

    objective: Literal["throughput", "latency", "size"]
    throughput_rows_per_s: float | None = None
    latency_ms: LatencyMs = LatencyMs()
    baseline: Baseline = Baseline()
    rivals: dict[str, Rival] = {}


class SizeBytes(_Frozen):
    """Bytes needed to serve."""

    original: int | None = None
    optimized: int | None = None


class TriedConfiguration(_Frozen):
    """One configuration on the selection rows; the chosen one is marked."""

    name: str
    recipe: dict[str, Any] = {}
    quality_selection: float | None = None
    drop_selection: float | None = None
    throughput_rows_per_s: float | None = None
    p99_ms: float | None = None
    size_bytes: int | None = None
    chosen: bool = False
    kind: PointKind


class SpeedupStep(_Frozen):
    """The model after one more step, as "runtime: onnxruntime"; steps are cumulative."""

    step: str
    throughput_rows_per_s: float | None = None
    drop_selection: float | None = None


class LayerKept(_Frozen):
    """Heads and feed-forward neurons of one layer, before and after; a removed layer keeps 0."""

    heads_before: int
    heads_kept: int
    ffn_before: int
    ffn_kept: int


class LayerSensitivity(_Frozen):
    """The drop on the selection rows where only this layer is compressed."""

    layer: int | str
    drop: float


class LatencySamples(_Frozen):
    """Every batch-1 call, in milliseconds."""

    optimized: list[float] = []
    baseline: list[float] = []


class AcceptanceTest(_Frozen):
    """A frozen candidate on the test rows, in the order tested."""

    name: str
    drop: float
    passed: bool
    upper_bound: float | None = None
    confidence: float | None = None
    """Of the bound."""


def _once_named(name: str, old: str) -> Any:
    """A list that bundles of format 2 have under another name."""
    return Field([], validation_alias=AliasChoices(name, old))


class Details(_Frozen):
    """What the report shows beyond the headline."""

    max_drop: float | None = None
    max_class_drop: float | None = None
    command: str | None = None
    environment: dict[str, Any] = {}
    read: list[RowsRead] = []
    splits: dict[str, int] = {}
    stage_seconds: dict[str, float] = {}
    """Where the time of this run went, in order; loading is all up to the first trial."""
    configurations: list[TriedConfiguration] = _once_named("configurations", "front")
    speedup_steps: list[SpeedupStep] = _once_named("speedup_steps", "ladder")
    layers: list[LayerKept] = []
    sensitivity: list[LayerSensitivity] = []
    latency_ms: LatencySamples = LatencySamples()
    engine_throughput_rows_per_s: float | None = None
    rounds: int | None = None
    """Rounds of the proof: under 10 a ratio's low and high are a range, else a 95% interval."""
    first_call_ms: float | None = None
    rival_drop: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    acceptance: list[AcceptanceTest] = _once_named("acceptance", "gate")
    latency_table_error: float | None = None


class OptimizationResult(_Frozen):
    """One optimization; `notes` are warnings and what was not tried and why."""

    bundle: str
    task: str
    recipe: dict[str, Any]
    trials: int
    seconds: float
    quality: QualityOutcome
    speed: SpeedOutcome
    size_bytes: SizeBytes
    notes: list[str] = []
    details: Details = Details()


def best_rival(result: OptimizationResult, metric: SpeedMetric) -> str | None:
    """The name of the fastest rival that keeps the limit itself; None where there is none.

    Highest throughput, lowest p50 or lowest p99; one that was not measured is not the best.
    """
    measured = {
        name: value
        for name, rival in result.speed.rivals.items()
        if rival.keeps_limit and (value := _better_if_higher(rival, metric)) is not None
    }
    return max(measured, key=lambda name: measured[name]) if measured else None


def _better_if_higher(rival: Rival, metric: SpeedMetric) -> float | None:
    if metric == "throughput":
        return rival.throughput_rows_per_s
    latency = rival.latency_ms.p50 if metric == "p50" else rival.latency_ms.p99
    return None if latency is None else -latency
