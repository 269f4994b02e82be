"""Measures one recipe on the selection rows: quality, a quick look at speed, size."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from miaotui.engines.base import Session
from miaotui.errors import EngineFailed, EngineUnavailable, MiaotuiError
from miaotui.measure.quality import compare, same_answers
from miaotui.models.model import Model
from miaotui.predictor import Predictor
from miaotui.recipe import Recipe
from miaotui.search.context import Context
from miaotui.search.realize import Progress, realize
from miaotui.search.trials import Origin, Trial, TrialStore
from miaotui.tasks.base import Text

_ROUND_S = 0.6
_ROUNDS = 3
_CALLS = 60


def evaluate(
    recipe: Recipe,
    origin: Origin,
    context: Context,
    store: TrialStore,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Trial:
    """The stored trial of this recipe, or a new one. An engine that cannot is a trial with an
    error, never the end of the search."""
    known = store.get(recipe)
    if known is not None:
        return known
    began = time.monotonic()
    try:
        model = realize(recipe, context, seconds, progress)
        measured = _measure(recipe, origin, model, context)
    except (EngineUnavailable, EngineFailed) as error:
        measured = Trial(recipe=recipe, origin=origin, error=str(error))
    return store.put(measured.model_copy(update={"seconds": time.monotonic() - began}))


def _measure(recipe: Recipe, origin: Origin, model: Model, context: Context) -> Trial:
    folder = context.work / "engines" / recipe.key
    shutil.rmtree(folder, ignore_errors=True)
    try:
        session = build_and_open(recipe, model, context, folder)
        chosen = context.selection
        logits = session.run(chosen.rows)
        report = compare(context.metric, context.problem, chosen.original, logits, chosen.targets)
        predictor = Predictor(context.model.task, session)
        p50, p99 = _latency_ms(predictor, chosen.texts)
        throughput = _throughput(predictor, chosen.texts)
        session.close()
        return Trial(
            recipe=recipe,
            origin=origin,
            quality=report.optimized,
            drop=report.drop,
            same_answers=same_answers(context.problem, chosen.original, logits),
            throughput_rows_per_s=throughput,
            p50_ms=p50,
            p99_ms=p99,
            size_bytes=folder_bytes(folder),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build_and_open(recipe: Recipe, model: Model, context: Context, folder: Path) -> Session:
    """Lowers the model and opens it; an engine library's own failure becomes an EngineFailed."""
    try:
        recipe.engine.build(model, context.train, folder)
        return recipe.engine.open(folder, context.cores)
    except MiaotuiError:
        raise
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EngineFailed(f"{recipe.engine.name}: {reason}") from error


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _throughput(predictor: Predictor, texts: Sequence[Text]) -> float:
    """Rows/s, text in to answer out: median of a few short rounds."""
    began = time.perf_counter()
    predictor(texts)
    repeats = max(1, round(_ROUND_S / (time.perf_counter() - began)))
    speeds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(repeats):
            predictor(texts)
        speeds.append(repeats * len(texts) / (time.perf_counter() - began))
    return float(np.median(speeds))


def _latency_ms(predictor: Predictor, texts: Sequence[Text]) -> tuple[float, float]:
    """p50 and p99 of batch-1 calls after one warm call of each length class."""
    chosen = [texts[i % len(texts)] for i in range(_CALLS)]
    for text in chosen[: _CALLS // 2]:
        predictor([text])
    times = []
    for text in chosen:
        began = time.perf_counter()
        predictor([text])
        times.append((time.perf_counter() - began) * 1e3)
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))
