"""The main job against its rivals: fine-tune and optimize the packaged model, several seeds.

    python benchmarks/main_job.py [--seeds 0,1,2] [--objectives throughput,latency]
                                  [--time-budget 20m] [--learning-rates 2e-5,5e-5,1e-4]
                                  [--only-summary]

A seed changes the split and the training. Each run's document is kept whole, but for the latency
of every single call, in results/main_job-<objective>-<seed>.json; a run that is there already is
not repeated. The summary, results/main_job.json, says what all runs come to; `--only-summary`
writes it of the runs that are there. The learning rates are tried once, on the first seed: each
model's validation metric stands in results/learning_rate.json, and the first of the rates that is
best is the one used for all.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from packaged import (
    RESULTS,
    conditions,
    document,
    encoder_folder,
    write_result,
    write_rows,
)

WORK = Path("bench-work")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--objectives", default="throughput,latency")
    options.add_argument("--time-budget", default="20m")
    options.add_argument("--max-drop", default="1%")
    options.add_argument("--learning-rates", default="2e-5,5e-5,1e-4")
    options.add_argument("--only-summary", action="store_true")
    given = options.parse_args()
    if given.only_summary:
        paths = sorted(RESULTS.glob("main_job-*-*.json"))
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        print(write_result("main_job", summary(runs)).read_text(encoding="utf-8"))
        return
    WORK.mkdir(exist_ok=True)
    rows, unlabelled = WORK / "rows.csv", WORK / "unlabelled.txt"
    write_rows(rows, unlabelled)
    seeds = [int(seed) for seed in given.seeds.split(",")]
    rate = best_rate(rows, seeds[0], given.learning_rates.split(","))
    runs = []
    for objective in given.objectives.split(","):
        for seed in seeds:
            limits = (given.max_drop, given.time_budget)
            runs.append(one_run(rows, unlabelled, objective, seed, rate, limits))
    path = write_result("main_job", summary(runs))
    print(path.read_text(encoding="utf-8"))


def model_folder(seed: int, rate: str) -> Path:
    return WORK / f"model-{seed}-{rate}"


def fine_tuned(rows: Path, seed: int, rate: str) -> dict[str, Any]:
    """The fine-tuned model's facts; made once."""
    folder = model_folder(seed, rate)
    facts = folder.with_suffix(".json")
    if not facts.exists():
        arguments = ("--data", rows, "--out", folder, "--seed", seed, "--learning-rate", rate)
        facts.write_text(json.dumps(document("finetune", encoder_folder(), *arguments)))
    return json.loads(facts.read_text())  # type: ignore[no-any-return]


def best_rate(rows: Path, seed: int, rates: list[str]) -> str:
    path = RESULTS / "learning_rate.json"
    if not path.exists():
        tried = {rate: fine_tuned(rows, seed, rate) for rate in rates}
        best = max(rates, key=lambda rate: tried[rate]["validation"])
        write_result("learning_rate", {"seed": seed, "best": best, "tried": tried})
    return str(json.loads(path.read_text(encoding="utf-8"))["best"])


def one_run(  # noqa: PLR0913
    rows: Path, unlabelled: Path, objective: str, seed: int, rate: str, limits: tuple[str, str]
) -> dict[str, Any]:
    name = f"main_job-{objective}-{seed}"
    path = RESULTS / f"{name}.json"
    if not path.exists():
        fine_tuned(rows, seed, rate)
        found = document(
            "optimize", model_folder(seed, rate), "--data", rows, "--unlabelled", unlabelled,
            "--max-drop", limits[0], "--objective", objective, "--time-budget", limits[1],
            "--seed", seed, "--out", WORK / f"fast-{objective}-{seed}",
        )  # fmt: skip
        del found["details"]["latency_ms"]
        write_result(name, {"seed": seed, "conditions": conditions(), "document": found})
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By objective: drops, and the median over seeds of the ratio to each run's best rival."""
    found: dict[str, Any] = {"conditions": runs[0]["conditions"]}
    for objective in dict.fromkeys(run["document"]["speed"]["objective"] for run in runs):
        chosen = [r for r in runs if r["document"]["speed"]["objective"] == objective]
        lines = [line(run) for run in chosen]
        drops = [entry["drop"] for entry in lines]
        found[objective] = {
            "runs": lines,
            "mean_drop": statistics.mean(drops),
            "largest_drop": max(drops),
        } | {
            f"median_{metric}_ratio": statistics.median(e[f"{metric}_ratio"][1] for e in lines)
            for metric in ("throughput", "p50", "p99")
        }
    return found


def line(run: dict[str, Any]) -> dict[str, Any]:
    """One run's headline; a ratio is [low, median, high] against the best rival of that metric."""
    quality, speed = run["document"]["quality"], run["document"]["speed"]
    kept = {n: r for n, r in speed["rivals"].items() if r["keeps_limit"] and r["throughput_ratio"]}
    best = {
        "throughput": max(kept, key=lambda n: kept[n]["throughput_rows_per_s"]),
        "p50": min(kept, key=lambda n: kept[n]["latency_ms"]["p50"]),
        "p99": min(kept, key=lambda n: kept[n]["latency_ms"]["p99"]),
    }
    own = {"seed": run["seed"], "seconds": run["document"]["seconds"]}
    own |= {key: quality[key] for key in ("original", "optimized", "drop", "drop_interval_95")}
    own |= {"throughput_rows_per_s": speed["throughput_rows_per_s"], **speed["latency_ms"]}
    ratios = {f"{metric}_ratio": kept[name][f"{metric}_ratio"] for metric, name in best.items()}
    return own | {"best_rivals": best} | ratios


if __name__ == "__main__":
    main()
