"""From what was measured to the one document that says it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from miaotui.budget import STRICT_CONFIDENCE, Budget
from miaotui.measure.result import (
    AcceptanceTest,
    Baseline,
    ClassLoss,
    Details,
    LatencyMs,
    LatencySamples,
    LayerKept,
    LayerSensitivity,
    OptimizationResult,
    QualityOutcome,
    RatioTriple,
    Rival,
    SizeBytes,
    SpeedOutcome,
    SpeedupStep,
    TriedConfiguration,
)
from miaotui.measure.speed import SpeedResult, ratios
from miaotui.measure.statistics import Ratio
from miaotui.models.model import Model
from miaotui.models.shape import EncoderShape, LayerShape
from miaotui.pipeline.options import OptimizeOptions
from miaotui.pipeline.prepare import Prepared
from miaotui.pipeline.prove import Proof
from miaotui.recipe import Recipe, is_training
from miaotui.search.acceptance import Tested, bound, keeps
from miaotui.search.candidates import fits_memory
from miaotui.search.outcome import Outcome
from miaotui.search.planner import float_recipes
from miaotui.search.trials import Trial

_CALLS_SHOWN = 2000


def summarize(  # noqa: PLR0913  (one document of all that was found)
    options: OptimizeOptions,
    prepared: Prepared,
    outcome: Outcome,
    tested: Sequence[Tested],
    chosen: Tested,
    proof: Proof,
    shape: EncoderShape | None,
    size_bytes: SizeBytes,
    stage_seconds: Mapping[str, float],
    engine_rows_per_s: float,
    stages: str | None,
) -> OptimizationResult:
    """The JSON document of `optimize`."""
    budget = options.budget
    return OptimizationResult(
        bundle=str(options.out),
        task=prepared.context.model.task.name,
        recipe=chosen.trial.recipe.model_dump(mode="json"),
        trials=len(outcome.trials),
        seconds=sum(stage_seconds.values()),
        quality=_quality(chosen, budget),
        speed=_speed(proof, budget),
        size_bytes=size_bytes,
        notes=[*prepared.notes, *outcome.notes, *_notes(chosen, proof, budget, stages)],
        details=Details(
            max_drop=budget.max_drop,
            max_class_drop=budget.max_class_drop,
            command=options.command or None,
            environment=asdict(prepared.context.machine) | {"cores_used": prepared.context.cores},
            stage_seconds=dict(stage_seconds),
            read=list(prepared.read),
            splits={
                name: len(getattr(prepared.splits, name))
                for name in ("train", "validation", "selection", "test")
            },
            configurations=[_point(t, chosen.trial) for t in outcome.trials if t.ok],
            speedup_steps=_speedup_steps(outcome, chosen.trial),
            layers=_layers(prepared.context.model, shape, chosen.trial.recipe),
            sensitivity=[LayerSensitivity(layer=s.layer, drop=s.drop) for s in outcome.sensitivity],
            latency_ms=LatencySamples(
                optimized=proof.ours.latency_ms.values[:_CALLS_SHOWN],
                baseline=proof.baseline.latency_ms.values[:_CALLS_SHOWN],
            ),
            engine_throughput_rows_per_s=engine_rows_per_s,
            rounds=proof.ours.rounds,
            first_call_ms=proof.ours.first_call_ms,
            rival_drop=proof.drops,
            unavailable=proof.unavailable,
            acceptance=[
                AcceptanceTest(
                    name=t.trial.recipe.title,
                    drop=t.report.drop,
                    passed=t.passed,
                    upper_bound=t.upper_bound,
                    confidence=t.confidence,
                )
                for t in tested
            ],
            latency_table_error=outcome.table_error,
        ),
    )


def _quality(chosen: Tested, budget: Budget) -> QualityOutcome:
    report = chosen.report
    return QualityOutcome(
        metric=report.metric,
        original=report.original,
        optimized=report.optimized,
        drop=report.drop,
        drop_interval_95=report.interval_95,
        rows=report.rows,
        within_budget=chosen.passed,
        within_budget_95=keeps(report, replace(budget, confidence=STRICT_CONFIDENCE)),
        confidence=chosen.confidence,
        upper_bound=chosen.upper_bound,
        class_losses={
            name: ClassLoss(drop=loss.estimate, upper_bound=bound(loss, budget.confidence))
            for name, loss in report.class_losses.items()
        },
    )


def _notes(chosen: Tested, proof: Proof, budget: Budget, stages: str | None) -> list[str]:
    notes = []
    if stages is not None:
        notes.append(stages)
    if not chosen.passed:
        notes.append(
            "nothing kept the limit on the test rows: this is the tuned original; the report shows "
            "what could be had at what price"
        )
    if budget.target_p99_ms is not None:
        p99 = proof.ours.p99_ms or float("inf")
        met = (
            "met" if p99 <= budget.target_p99_ms else "missed; the report shows how far one can go"
        )
        notes.append(f"target p99 {budget.target_p99_ms:g} ms: {p99:.2f} ms measured, {met}")
    if not fits_memory(chosen.trial, budget):
        notes.append("nothing that keeps the limit fits --max-memory: this is the tuned original")
    if proof.is_short:
        notes.append(
            "the time left a short proof: rounds of under two seconds, no p99 under 1,000 calls; "
            "give a longer --time-budget"
        )
    if proof.partly_judged:
        counted = ", ".join(f"{name} {rows:,}" for name, rows in proof.partly_judged.items())
        notes.append(f"rivals judged on the first test rows alone, for want of time: {counted}")
    return notes


def _speed(proof: Proof, budget: Budget) -> SpeedOutcome:
    return SpeedOutcome(
        objective=budget.ranks_by.value,
        throughput_rows_per_s=proof.ours.throughput_rows_per_s,
        latency_ms=_latency(proof.ours),
        baseline=_baseline(proof),
        rivals={
            name: _rival(proof.ours, theirs, proof.drops[name], budget)
            for name, theirs in proof.rivals.items()
        },
    )


def _baseline(proof: Proof) -> Baseline:
    faster = ratios(proof.ours, proof.baseline)
    return Baseline(
        throughput_rows_per_s=proof.baseline.throughput_rows_per_s,
        latency_ms=_latency(proof.baseline),
        throughput_ratio=_triple(faster.get("throughput")),
        p99_ratio=_triple(faster.get("p99")) if _knows_p99(proof.ours, proof.baseline) else None,
    )


def _knows_p99(*speeds: SpeedResult) -> bool:
    return all(speed.has_enough_calls_for_p99 for speed in speeds)


def _rival(ours: SpeedResult, theirs: SpeedResult, drop: float, budget: Budget) -> Rival:
    faster = ratios(ours, theirs)
    return Rival(
        throughput_rows_per_s=theirs.throughput_rows_per_s,
        latency_ms=_latency(theirs),
        throughput_ratio=_triple(faster.get("throughput")),
        p50_ratio=_triple(faster.get("p50")),
        p99_ratio=_triple(faster.get("p99")) if _knows_p99(ours, theirs) else None,
        keeps_limit=drop <= budget.max_drop,
        dropped=theirs.dropped,
    )


def _latency(speed: SpeedResult) -> LatencyMs:
    return LatencyMs(p50=speed.p50_ms, p99=speed.p99_ms if speed.has_enough_calls_for_p99 else None)


def _triple(ratio: Ratio | None) -> RatioTriple | None:
    return None if ratio is None else (ratio.low, ratio.median, ratio.high)


def _point(trial: Trial, chosen: Trial) -> TriedConfiguration:
    return TriedConfiguration(
        name=trial.recipe.title,
        recipe=trial.recipe.model_dump(mode="json"),
        quality_selection=trial.quality,
        drop_selection=trial.drop,
        throughput_rows_per_s=trial.throughput_rows_per_s,
        p99_ms=trial.p99_ms,
        size_bytes=trial.size_bytes,
        chosen=trial.recipe.key == chosen.recipe.key,
        kind=trial.origin,
    )


def _speedup_steps(outcome: Outcome, chosen: Trial) -> list[SpeedupStep]:
    """From the original as it comes, one thing changed at a time, to the answer."""
    alone = {t.recipe.key: t for t in outcome.trials if t.ok}
    runtime, tuned = float_recipes(chosen.recipe)
    engine = chosen.recipe.engine
    steps: list[tuple[str, Trial | None]] = [
        ("original", next((t for t in outcome.trials if t.ok), None)),
        (f"runtime: {engine.name}", alone.get(runtime.key)),
    ]
    if tuned.key != runtime.key:
        steps.append((f"layout: {engine.title}", alone.get(tuned.key)))
    if chosen.recipe.quantizing:
        quantized = tuned.model_copy(update={"steps": chosen.recipe.quantizing})
        same = quantized.model_copy(update={"engine": engine})
        steps.append(("precision", alone.get(same.key)))
    if chosen.recipe.shaping:
        steps.append(("compression", alone.get(chosen.recipe.last.key)))
    if chosen.recipe.stages:
        steps.append(("cascade", chosen))
    return [
        SpeedupStep(
            step=name,
            throughput_rows_per_s=trial.throughput_rows_per_s,
            drop_selection=trial.drop,
        )
        for name, trial in steps
        if trial is not None
    ]


def _layers(before: Model, after: EncoderShape | None, recipe: Recipe) -> list[LayerKept]:
    if after is None:
        return []
    shapes = before.encoder.shape.layers
    places = list(range(len(shapes)))
    for step in recipe.shaping:
        if not is_training(step):
            places = step.layers_left(places)
    kept = dict(zip(places, after.layers, strict=True))
    nothing = LayerShape(0, 0)
    return [
        LayerKept(
            heads_before=a.heads,
            heads_kept=kept.get(i, nothing).heads,
            ffn_before=a.ffn,
            ffn_kept=kept.get(i, nothing).ffn,
        )
        for i, a in enumerate(shapes)
    ]
