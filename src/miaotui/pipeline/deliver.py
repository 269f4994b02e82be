"""Measures the answer beside baseline and rivals, and writes the bundle."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from miaotui.bundle import write_bundle
from miaotui.cascade import Cascade
from miaotui.golden import Golden, write_golden
from miaotui.measure.judge import Split
from miaotui.measure.result import OptimizationResult, SizeBytes
from miaotui.models.load import WEIGHTS_FILE
from miaotui.pipeline.engine_speed import EngineSpeed, engine_speed
from miaotui.pipeline.options import OptimizeOptions
from miaotui.pipeline.prepare import Prepared
from miaotui.pipeline.prove import prove
from miaotui.pipeline.stages import measure_stages, record_stages, sentence
from miaotui.pipeline.summary import summarize
from miaotui.report.card import card
from miaotui.report.page import write_report
from miaotui.search.acceptance import Tested
from miaotui.search.build import built, folder_bytes, open_recipe
from miaotui.search.clock import Clock, TimedWatch
from miaotui.search.outcome import Outcome
from miaotui.tasks.saved import save_task
from miaotui.version import __version__

RESULT_FILE = "result.json"
REPORT_FILE = "report.html"
_GOLDEN_ROWS = 200
_ENGINE_ROUNDS, _ENGINE_ROUND_S, _ENGINE_CALLS = 3, 0.5, 300


def deliver(  # noqa: PLR0913  (the last step takes what all the others made)
    options: OptimizeOptions,
    prepared: Prepared,
    outcome: Outcome,
    tested: Sequence[Tested],
    chosen: Tested,
    test: Split,
    clock: Clock,
    watch: TimedWatch,
) -> OptimizationResult:
    """Proves, writes the bundle in one move, and clears the work folder."""
    context = prepared.context
    made = built(chosen.trial.recipe, context)
    folder = made.folder
    base_folder = built(outcome.baseline.recipe, context).folder
    with (
        open_recipe(chosen.trial.recipe, context, folder) as ours,
        open_recipe(outcome.baseline.recipe, context, base_folder) as baseline,
    ):
        for session in (ours, baseline):
            session.warm_up(context.longest_row)
        proof = prove(
            context, prepared.source, ours, baseline, test, options.budget.ranks_by, clock, watch
        )
        stages = None
        if isinstance(ours, Cascade):
            stages = measure_stages(ours, test, chosen.report.outputs, context.judge)
        engine = engine_speed(ours, test.rows, _ENGINE_ROUNDS, _ENGINE_ROUND_S, _ENGINE_CALLS)
    result = summarize(
        options,
        prepared,
        outcome,
        tested,
        chosen,
        proof,
        made.shape,
        _sizes(prepared, folder),
        watch.seconds(),
        engine.measured["engine_rows_per_s"],
        None if stages is None else sentence(stages, context.judge.metric),
    )

    def fill(draft: Path) -> Mapping[str, Any]:
        facts = _fill(draft, folder, options, prepared, chosen, test, result, engine)
        if isinstance(ours, Cascade) and stages is not None:
            record_stages(draft, ours, stages)
        return facts

    write_bundle(options.out, fill)
    shutil.rmtree(context.work, ignore_errors=True)
    return result


def _sizes(prepared: Prepared, engine: Path) -> SizeBytes:
    weights = prepared.source.folder / WEIGHTS_FILE
    original = weights.stat().st_size if weights.is_file() else folder_bytes(prepared.source.folder)
    return SizeBytes(original=original, optimized=folder_bytes(engine))


def _fill(  # noqa: PLR0913  (everything that goes into a bundle)
    draft: Path,
    engine: Path,
    options: OptimizeOptions,
    prepared: Prepared,
    chosen: Tested,
    test: Split,
    result: OptimizationResult,
    engine_measured: EngineSpeed,
) -> Mapping[str, Any]:
    recipe, context = chosen.trial.recipe, prepared.context
    shutil.copytree(engine, draft, dirs_exist_ok=True)
    save_task(context.model.task, draft)
    (draft / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    (draft / RESULT_FILE).write_text(result.model_dump_json(indent=1), encoding="utf-8")
    (draft / "card.md").write_text(card(result), encoding="utf-8")
    write_report(result, draft / REPORT_FILE)
    if options.golden:
        first = test.rows.first_inputs(_GOLDEN_ROWS)
        outputs = chosen.report.outputs.select(range(len(first)))
        write_golden(draft, Golden(first, outputs))
    machine = context.machine
    lengths, counts = np.unique(test.rows.lengths, return_counts=True)
    return {
        "miaotui": __version__,
        "task": context.model.task.name,
        "model": {"name": prepared.source.name, "revision": prepared.source.revision},
        "recipe": recipe.model_dump(mode="json"),
        "engine": recipe.engine.model_dump(mode="json"),
        "environment": asdict(machine)
        | {"instruction_set": machine.instruction_set, "cores": context.cores},
        "longest_row": context.longest_row,
        "lengths": {str(length): int(count) for length, count in zip(lengths, counts, strict=True)},
        "measured": {
            "throughput_rows_per_s": result.speed.throughput_rows_per_s,
            "p50_ms": result.speed.latency_ms.p50,
            "p99_ms": result.speed.latency_ms.p99,
            **engine_measured.measured,
        },
        "metric": context.judge.metric,
    }
