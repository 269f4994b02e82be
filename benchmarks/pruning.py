"""Structured pruning against dropping layers, both distilled, at twice the engine's speed.

    python benchmarks/pruning.py [--seeds 0] [--seconds 300]

Everything but the shape is equal: engine, layout, precision, rows, teacher, settings, training
time. The pruned model aims at a share of the layers' measured time; the other keeps the first
layers, as many as come nearest to the same time by the same table. Speeds are of the session alone
(no tokenization), interleaved over ten rounds; quality is on the test rows, which nothing else here
has seen. Result: results/pruning.json.
"""

import argparse
import sys
import time
from dataclasses import replace
from typing import Any

from main_job import SENTENCES, WORK, best_rate, fine_tuned
from packaged import conditions, write_result

from miaotui.cascade import ENGINE_FOLDER
from miaotui.engines.base import RowRunner
from miaotui.measure.judge import Split
from miaotui.measure.statistics import ratio_interval
from miaotui.pipeline.options import OptimizeOptions, RowsOptions
from miaotui.pipeline.prepare import Prepared, prepare
from miaotui.quiet import silence_telemetry
from miaotui.recipe import Recipe
from miaotui.search.build import build_recipe
from miaotui.search.context import Context
from miaotui.search.latency import latency_table
from miaotui.search.planner import first_moves, usable_engines
from miaotui.techniques import DropLayers, Int8Static, PruneStructure, Technique
from miaotui.training.settings import Distillation

ROUNDS = 10


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", default="0")
    options.add_argument("--seconds", type=float, default=300.0, help="of each training")
    options.add_argument("--keep-time", type=float, default=0.45)
    given = options.parse_args()
    silence_telemetry()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    rate = best_rate(seeds[0], ["2e-5", "5e-5", "1e-4"])
    runs = [one_seed(seed, rate, given.keep_time, given.seconds) for seed in seeds]
    path = write_result("pruning", {"conditions": conditions(), "runs": runs})
    print(path.read_text(encoding="utf-8"))


def one_seed(seed: int, rate: str, keep_time: float, seconds: float) -> dict[str, Any]:
    fine_tuned(SENTENCES, seed, rate)
    prepared = prepared_for(seed, rate)
    context = prepared.context
    runtime = int8_runtime(context)
    say(f"seed {seed}: timing blocks of {runtime.title}")
    table, error = latency_table(context, runtime)
    context = context.with_latency(table)
    layers = nearest_layers(context, runtime, table, keep_time)
    shapes: dict[str, Technique] = {
        "pruned": PruneStructure(keep_time=keep_time),
        "layers dropped": DropLayers(keep=tuple(range(layers))),
    }
    recipes = {"unpruned": runtime} | {
        name: Recipe(
            steps=(step, Distillation(seed=seed, epochs=20, patience=100), *runtime.steps),
            engine=runtime.engine,
        )
        for name, step in shapes.items()
    }
    test = prepared.test()
    sessions = {n: opened(n, recipe, context, seconds) for n, recipe in recipes.items()}
    speeds = interleaved(sessions, test)
    quality = {name: judged(session, context, test) for name, session in sessions.items()}
    return {
        "seed": seed,
        "seconds_of_training": seconds,
        "latency_table_error": error,
        "recipes": {name: recipe.model_dump(mode="json") for name, recipe in recipes.items()},
        "quality": quality,
        "speed_over_unpruned": {name: ratio(speeds[name], speeds["unpruned"]) for name in shapes},
        "rows_per_s": {name: speeds[name] for name in recipes},
    }


def prepared_for(seed: int, rate: str) -> Prepared:
    rows = RowsOptions(SENTENCES.rows, unlabelled=SENTENCES.unlabelled, seed=seed)
    out = WORK / f"pruning-{seed}"
    return prepare(OptimizeOptions(str(SENTENCES.model(seed, rate)), rows, out))


def int8_runtime(context: Context) -> Recipe:
    """OpenVINO's int8 in the usual packed layout, a stream a core."""
    moves = first_moves(context, usable_engines(context.machine, ["openvino"]))
    (move,) = [m for m in moves if any(isinstance(s, Int8Static) for s in m.steps)]
    engine = move.engine.model_copy(update={"streams": context.cores})
    return move.model_copy(update={"engine": engine})


def nearest_layers(context: Context, runtime: Recipe, table: Any, keep_time: float) -> int:
    """How many first layers take the time nearest to the pruned model's by the table."""
    shape = context.model.encoder.shape
    blocks = table.predict(shape) - table.fixed_ms
    wanted = table.fixed_ms + keep_time * blocks
    times = {
        n: table.predict(replace(shape, layers=shape.layers[:n]))
        for n in range(1, len(shape.layers))
    }
    return min(times, key=lambda n: abs(times[n] - wanted))


def opened(name: str, recipe: Recipe, context: Context, seconds: float) -> RowRunner:
    folder = context.work / "benchmark" / recipe.key
    build_recipe(recipe, context, folder, seconds, say)
    say(f"{name}: {recipe.title}")
    return recipe.engine.open(folder / ENGINE_FOLDER, context.cores)


def interleaved(sessions: dict[str, RowRunner], test: Split) -> dict[str, list[float]]:
    """Rows/s of each session by round."""
    speeds: dict[str, list[float]] = {name: [] for name in sessions}
    for number in range(ROUNDS + 1):
        for name in sorted(sessions, key=lambda n: hash((n, number))):
            began, repeats = time.perf_counter(), 0
            while time.perf_counter() - began < 2.0:
                sessions[name].run(test.rows)
                repeats += 1
            if number:
                speeds[name].append(repeats * len(test.rows) / (time.perf_counter() - began))
    return speeds


def ratio(ours: list[float], theirs: list[float]) -> list[float]:
    interval = ratio_interval(ours, theirs, higher_is_better=True)
    return [interval.low, interval.median, interval.high]


def judged(session: RowRunner, context: Context, test: Split) -> dict[str, Any]:
    report = context.judge.judge(session, test)
    facts = ("original", "optimized", "drop", "interval_95", "rows", "agreement")
    return {name: getattr(report, name) for name in facts}


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
