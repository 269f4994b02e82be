"""What a row of a new length waits for on OpenVINO, and what it costs not to let it wait.

    python benchmarks/single_rows.py [--seed 0] [--rounds 5]

The sentences' fine-tuned model in fp32 and int8, in processes of their own, interleaved: a network
for each bucket of lengths (compiled; and from OpenVINO's cache of compiled models), or one of free
shapes (a row of its own length; lengths of a grid that are run beforehand). Of each the seconds
until it is ready, the memory that takes, and one row a call: all rows for the first time, and
later. Result: results/single_rows.json.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import psutil
from main_job import SENTENCES, best_rate, fine_tuned
from packaged import FIXED_LENGTHS, conditions, write_result
from pruning import prepared_for, say

from miaotui.cascade import ENGINE_FOLDER
from miaotui.engines.base import Session
from miaotui.engines.layouts import Bucketed, Padded
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.measure.speed import round_order
from miaotui.quiet import silence_telemetry
from miaotui.search.build import build_recipe
from miaotui.search.planner import first_moves
from miaotui.tasks.base import EncodedRows

BUCKETS, CACHED = "a network a bucket", "a network a bucket, from the cache"
EXACT, GRID, GRID_CACHED = "one network, own length", "one network, grid", "one network, from cache"
VARIANTS = (BUCKETS, CACHED, EXACT, GRID, GRID_CACHED)
ROWS, PASSES = 600, 3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--one", nargs=3, metavar=("VARIANT", "FOLDER", "ENGINE"))
    given = options.parse_args()
    silence_telemetry()
    if given.one:
        variant, folder, engine = given.one
        one = measured(variant, Path(folder), OpenVinoEngine.model_validate_json(engine))
        sys.stdout.write(json.dumps(one))
        return
    rate = best_rate(given.seed, ["2e-5", "5e-5", "1e-4"])
    fine_tuned(SENTENCES, given.seed, rate)
    prepared = prepared_for(given.seed, rate)
    context, rows = prepared.context, prepared.test().rows
    chosen = rows.select(list(range(min(ROWS, len(rows)))))
    results: dict[str, Any] = {"conditions": conditions(), "rows": len(chosen), "models": {}}
    for move in first_moves(context, ("openvino",)):
        if move.title not in ("openvino/packed", "int8-static + openvino/packed"):
            continue
        folder = context.work / "benchmark" / f"single-{move.key}"
        build_recipe(move, context, folder)
        np.savez(folder / "rows.npz", ids=chosen.ids, starts=chosen.starts)
        each: dict[str, list[Any]] = {name: [] for name in VARIANTS}
        for number in range(given.rounds + 1):
            for i in round_order(len(VARIANTS), number):
                say(f"{move.title}: {VARIANTS[i]}, round {number} of {given.rounds}")
                one = in_process(VARIANTS[i], folder, move.engine.model_dump_json())
                if number:  # the first fills the cache
                    each[VARIANTS[i]].append(one)
        results["models"][move.title] = each
        shutil.rmtree(folder)
        for name, values in each.items():
            told = {key: float(np.median([v[key] for v in values])) for key in values[0]}
            print(f"{move.title:30s} {name:36s}", {key: round(v, 2) for key, v in told.items()})
    write_result("single_rows", results)


def in_process(variant: str, folder: Path, engine: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", variant, str(folder), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{variant}: {done.stderr.strip().splitlines()[-1]}")
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def measured(variant: str, folder: Path, engine: OpenVinoEngine) -> dict[str, float]:
    with np.load(folder / "rows.npz") as arrays:
        rows = EncodedRows(arrays["ids"], arrays["starts"])
    if variant in (BUCKETS, CACHED):
        engine = engine.model_copy(update={"layout": Bucketed(batch=16, edges=FIXED_LENGTHS)})
    if variant in (CACHED, GRID_CACHED):
        cache = {"CACHE_DIR": str(folder / "cache")}
        openvino.Core.compile_model = partialmethod(with_cache, openvino.Core.compile_model, cache)
    held = psutil.Process().memory_info().rss
    began = time.perf_counter()
    session = engine.open(folder / ENGINE_FOLDER, 2)
    if variant == EXACT:
        session = Session(session._runner, session._layout, single=Padded(batch=1))
    session.warm_up(int(rows.lengths.max()))
    session.run(rows.select([0]))
    ready = time.perf_counter() - began
    resident = psutil.Process().memory_info().rss - held
    times = []
    for number in range(PASSES):
        for i in np.random.default_rng(number).permutation(len(rows)):
            row = rows.select([int(i)])
            began = time.perf_counter()
            session.run(row)
            times.append((time.perf_counter() - began) * 1e3)
    first, later = times[: len(rows)], times[len(rows) :]
    return {
        "ready_s": ready,
        "resident_mb": resident / 1e6,
        "first_p50_ms": float(np.median(first)),
        "first_p99_ms": float(np.quantile(first, 0.99)),
        "later_p50_ms": float(np.median(later)),
        "later_p99_ms": float(np.quantile(later, 0.99)),
    }


def with_cache(
    core: Any, compile_model: Any, cache: dict[str, str], network: Any, device: str, settings: Any
) -> Any:
    return compile_model(core, network, device, {**settings, **cache})


if __name__ == "__main__":
    main()
