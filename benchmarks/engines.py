"""Every engine of ours in every precision it has, on one model that is not compressed.

    python benchmarks/engines.py [--seed 0] [--rounds 10]

The sentences' fine-tuned model by each of the search's first moves (an engine, a precision, the
layout that usually suits it), compiled PyTorch included: token ids in to logits out, all test rows
and one row a call, interleaved; seconds until a fresh build has answered; what the first row of a
length costs beside later ones of that length, once the session is warm; points lost.
Result: results/engines.json.
"""

import argparse
import time
from typing import Any

import numpy as np
from main_job import SENTENCES, best_rate, fine_tuned
from packaged import conditions, write_result
from pruning import judged, opened, prepared_for, ratio, say

from miaotui.engines.base import RowRunner
from miaotui.measure.speed import round_order
from miaotui.quiet import silence_telemetry
from miaotui.search.planner import first_moves, usable_engines
from miaotui.tasks.base import EncodedRows

SECONDS = 1.0
NAMED = ("native", "openvino", "onnxruntime", "torch", "torch-compile")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--rounds", type=int, default=10)
    given = options.parse_args()
    silence_telemetry()
    rate = best_rate(given.seed, ["2e-5", "5e-5", "1e-4"])
    fine_tuned(SENTENCES, given.seed, rate)
    prepared = prepared_for(given.seed, rate)
    context, test = prepared.context, prepared.test()
    moves = {
        move.title: move for move in first_moves(context, usable_engines(context.machine, NAMED))
    }
    sessions, first, of_length = {}, {}, {}
    for title, move in moves.items():
        began = time.perf_counter()
        sessions[title] = opened(title, move, context, 0.0)
        sessions[title].warm_up(context.longest_row)
        sessions[title].run(test.rows.select([0]))
        first[title] = time.perf_counter() - began
        of_length[title] = first_of_each_length(sessions[title], test.rows)
    names = list(sessions)
    rows_per_s: dict[str, list[float]] = {name: [] for name in names}
    row_ms: dict[str, list[float]] = {name: [] for name in names}
    singles = [test.rows.select([i]) for i in range(len(test.rows))]
    for number in range(given.rounds + 1):
        for i in round_order(len(names), number):
            each = [timed(sessions[names[i]], rows) for rows in ([test.rows], singles)]
            if number:  # the first compiles shapes and fills caches
                rows_per_s[names[i]].append(len(test.rows) / float(np.mean(each[0])))
                row_ms[names[i]].append(float(np.median(each[1])) * 1e3)
        say(f"round {number} of {given.rounds}")
    best = max(names, key=lambda name: float(np.median(rows_per_s[name])))
    results: dict[str, Any] = {"conditions": conditions(), "fastest": best, "engines": {}}
    for name in names:
        quality = judged(sessions[name], context, test)
        results["engines"][name] = {
            "recipe": moves[name].model_dump(mode="json"),
            "first_answer_s": first[name],
            "first_and_later_ms_by_length": of_length[name],
            "rows_per_s": rows_per_s[name],
            "row_ms": row_ms[name],
            "fastest_is_faster_by": ratio(rows_per_s[best], rows_per_s[name]),
            "quality": quality,
        }
        speed, one = float(np.median(rows_per_s[name])), float(np.median(row_ms[name]))
        late = float(np.median([first - later for first, later in of_length[name].values()]))
        print(
            f"{name:44s} {speed:8.0f} rows/s {one:7.2f} ms, first of its length {late:+.2f} ms, "
            f"drop {quality['drop']:+.4f}"
        )
    write_result("engines", results)


def first_of_each_length(session: RowRunner, rows: EncodedRows) -> dict[int, tuple[float, float]]:
    """Milliseconds of the first row of a length, and the median of four more calls with it."""
    lengths, places = np.unique(rows.lengths, return_index=True)
    results = {}
    for place in np.random.default_rng(0).permutation(len(lengths)):
        row, times = rows.select([int(places[place])]), []
        for _ in range(5):
            began = time.perf_counter()
            session.run(row)
            times.append((time.perf_counter() - began) * 1e3)
        results[int(lengths[place])] = (times[0], float(np.median(times[1:])))
    return results


def timed(session: Any, calls: list[Any]) -> list[float]:
    """Seconds of each call, for a second or more and one call at least."""
    times: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        started = time.perf_counter()
        session.run(calls[len(times) % len(calls)])
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    main()
