"""Measures one recipe on the selection rows: quality, a quick timing, size."""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Protocol, Self

import numpy as np

from miaotui.budget import Budget, Objective
from miaotui.errors import MiaotuiError, OutputError
from miaotui.measure.statistics import CONFIDENCE, PairedLoss
from miaotui.predictor import Predictor
from miaotui.recipe import Recipe
from miaotui.search.build import build_recipe, folder_bytes, open_recipe
from miaotui.search.context import Context
from miaotui.search.memory import serving_memory_bytes
from miaotui.search.realize import Progress, outgrown
from miaotui.search.trials import Origin, Trial, TrialStore
from miaotui.tasks.base import Text

_ONE_SIDED = NormalDist().inv_cdf(CONFIDENCE)
_ROUNDS = 3
_FEWEST_ROWS = 128
_CALLS = 300
_LONGEST_ROUND_S, _ROUND_SHARE = 0.6, 0.001


class Measure(Protocol):
    """`evaluate`, or what stands in for it."""

    def __call__(  # noqa: PLR0913  (as `evaluate`)
        self,
        recipe: Recipe,
        origin: Origin,
        context: Context,
        store: TrialStore,
        effort: "Effort",
        seconds: float | None = None,
        progress: Progress | None = None,
    ) -> Trial: ...


@dataclass(frozen=True)
class Effort:
    """How closely a trial is looked at: seconds of each of its throughput rounds, of all its
    batch-1 calls, and whether its memory is measured."""

    round_s: float = 0.6
    calls_s: float = 3.0
    memory: bool = False

    @classmethod
    def within(cls, budget: Budget) -> Self:
        """What a search with this budget affords."""
        round_s = min(_LONGEST_ROUND_S, _ROUND_SHARE * budget.time_budget_s)
        by_latency = budget.ranks_by is Objective.LATENCY
        return cls(
            round_s=round_s / 2 if by_latency else round_s,
            calls_s=8 * round_s if by_latency else round_s,
            memory=budget.max_memory_bytes is not None,
        )

    def seconds(self, rows: int, rows_per_s: float) -> float:
        """What a trial takes at that speed, beside building it, with so many selection rows."""
        rounds_s = max(_ROUNDS * self.round_s, _FEWEST_ROWS / rows_per_s)
        return (rows + _FEWEST_ROWS) / rows_per_s + rounds_s + self.calls_s


def evaluate(  # noqa: PLR0913  (a recipe, and all that bears on trying it)
    recipe: Recipe,
    origin: Origin,
    context: Context,
    store: TrialStore,
    effort: Effort,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Trial:
    """The stored trial of this recipe, or a new one. An engine or a technique that cannot is a
    trial with an error, never the end of the search. A stored one is made again where its memory is
    wanted and not known, or where its training was cut short and is now offered more time."""
    known = store.get(recipe)
    lacks_memory = effort.memory and known is not None and known.ok and known.memory_bytes is None
    if known is not None and not lacks_memory and not outgrown(recipe, context, seconds):
        return known
    began = time.monotonic()
    folder = context.work / "engines" / recipe.key
    shutil.rmtree(folder, ignore_errors=True)
    try:
        build_recipe(recipe, context, folder, seconds, progress)
        memory = serving_memory_bytes(recipe, context, folder) if effort.memory else None
        facts = _measure(recipe, context, folder, effort) | {"memory_bytes": memory}
        trial = Trial.model_validate({"recipe": recipe, "origin": origin, **facts})
    except OutputError:
        raise
    except MiaotuiError as error:
        trial = Trial(recipe=recipe, origin=origin, error=str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return store.put(trial.model_copy(update={"seconds": time.monotonic() - began}))


def _measure(recipe: Recipe, context: Context, folder: Path, effort: Effort) -> dict[str, object]:
    chosen = context.selection
    with open_recipe(recipe, context, folder) as runner:
        runner.run(chosen.rows.select(range(min(_FEWEST_ROWS, len(chosen.rows)))))
        began = time.perf_counter()
        outputs = runner.run(chosen.rows)
        rows_per_s = len(chosen) / (time.perf_counter() - began)
        report = context.judge.compare(outputs, chosen)
        predictor = Predictor(context.model.task, runner)
        p50, p99 = _latency_ms(predictor, chosen.texts, effort.calls_s)
        wanted = max(_FEWEST_ROWS, int(rows_per_s * effort.round_s))
        takes_all = wanted / rows_per_s > _ROUNDS * effort.round_s  # one round, as long as several
        throughput = _throughput(predictor, chosen.texts, wanted, 1 if takes_all else _ROUNDS)
    fewer_rows = math.sqrt(len(chosen) / context.test_rows)
    return {
        "quality": report.optimized,
        "drop": report.drop,
        **loss_errors(report.loss, fewer_rows),
        "changed": 1 - report.agreement,
        "follows_changes": context.judge.follows_changes,
        "class_drops": [
            {"name": name, "drop": loss.estimate, **loss_errors(loss, fewer_rows)}
            for name, loss in report.class_losses.items()
        ],
        "divergence": report.divergence,
        "throughput_rows_per_s": throughput,
        "p50_ms": p50,
        "p99_ms": p99,
        "size_bytes": folder_bytes(folder),
    }


def loss_errors(loss: PairedLoss, fewer_rows: float) -> dict[str, float]:
    """Standard errors of a loss, as its one-sided bound has them: here, and on the test rows."""
    error = (loss.upper_bound() - loss.estimate) / _ONE_SIDED
    return {"drop_error": error, "test_error": error * fewer_rows}


def _throughput(predictor: Predictor, texts: Sequence[Text], wanted: int, rounds: int) -> float:
    """Rows/s, text in to answer out: median of rounds of about as many rows as wanted."""
    repeats = max(1, round(wanted / len(texts)))
    sample = texts[: min(wanted, len(texts))]
    speeds = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(repeats):
            predictor(sample)
        speeds.append(repeats * len(sample) / (time.perf_counter() - began))
    return float(np.median(speeds))


def _latency_ms(predictor: Predictor, texts: Sequence[Text], seconds: float) -> tuple[float, float]:
    """p50 and p99 of batch-1 calls, each text warmed up by one call before; the slow are called
    less often."""
    began = time.perf_counter()
    chosen = [texts[i % len(texts)] for i in range(_CALLS)]
    for made, text in enumerate(chosen, 1):
        predictor([text])
        if time.perf_counter() - began > seconds / 2:
            chosen = chosen[:made]
            break
    times = []
    for text in chosen:
        began = time.perf_counter()
        predictor([text])
        times.append((time.perf_counter() - began) * 1e3)
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))
