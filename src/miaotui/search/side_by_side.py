"""Times a few trials side by side: figures taken minutes apart differ by what else ran then."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack

from miaotui.measure.speed import Contender, SpeedPlan, SpeedResult, measure_interleaved
from miaotui.predictor import Predictor
from miaotui.recipe import Recipe
from miaotui.search.build import built, open_recipe
from miaotui.search.context import Context
from miaotui.search.trials import Trial

_PLAN = SpeedPlan(
    rounds=5, min_rounds=2, round_seconds=0.3, max_round_seconds=0.9, latency_calls=600,
    warmup_calls=48,
)  # fmt: skip


def are_timed_together(trials: Sequence[Trial]) -> bool:
    """Whether their figures are of one interleaved run already."""
    return all(trial.timed_beside == _together(trials) for trial in trials)


def timed_together(context: Context, trials: Sequence[Trial], seconds: float) -> list[Trial]:
    """The trials with figures of one interleaved run of about so long."""
    texts = context.selection.texts
    with ExitStack() as opened:
        contenders = [
            _contender(str(i), opened.enter_context(_opened(context, trial.recipe)))
            for i, trial in enumerate(trials)
        ]
        results = measure_interleaved(contenders, texts, _PLAN, deadline_s=seconds)
    which = _together(trials)
    return [_timed(trial, results[str(i)], which) for i, trial in enumerate(trials)]


def _together(trials: Sequence[Trial]) -> str:
    keys = "".join(sorted(trial.recipe.key for trial in trials))
    return hashlib.sha256(keys.encode()).hexdigest()[:16]


def _opened(context: Context, recipe: Recipe) -> Predictor:
    runner = open_recipe(recipe, context, built(recipe, context).folder)
    return Predictor(context.model.task, runner)


def _contender(name: str, predictor: Predictor) -> Contender:
    return Contender(name, predictor, lambda text: predictor([text]), droppable=False)


def _timed(trial: Trial, result: SpeedResult, which: str) -> Trial:
    known = {
        "throughput_rows_per_s": result.throughput_rows_per_s,
        "p50_ms": result.p50_ms,
        "p99_ms": result.p99_ms,
    }
    figures = {key: value for key, value in known.items() if value is not None}
    return trial.model_copy(update={**figures, "timed_beside": which})
