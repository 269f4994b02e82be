"""The main job against its rivals: fine-tune and optimize the packaged model, several seeds.

    python benchmarks/main_job.py [--texts sentences|reviews] [--seeds 0,1,2]
                                  [--objectives throughput,latency] [--time-budget 20m]
                                  [--learning-rates 2e-5,5e-5,1e-4] [--only-summary]
                                  [--recipe FILE]

Sentences are those of the packaged rows; reviews, the whole ones of 256 to 512 tokens, and then the
results' names begin with main_job_reviews. A seed changes the split and the training. Each run's
document is kept whole, but for the latency of every single call, in
results/main_job-<objective>-<seed>.json; a run that is there already is not repeated. The summary,
results/main_job.json, says what all runs come to; `--only-summary` writes it of the runs that are
there. The learning rates are tried once, on the first seed's sentences: each model's validation
metric stands in results/learning_rate.json, and the first of the rates that is best is the one used
for all. With `--recipe` nothing is searched and labelled rows alone are trained on; the result and
the bundle have the file's name instead of an objective's, and no summary is written of them.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaged import (
    RESULTS,
    conditions,
    document,
    encoder_folder,
    write_result,
    write_reviews,
    write_rows,
)

WORK = Path("bench-work")


@dataclass(frozen=True)
class Job:
    """`name` is that of its results; `folder` holds its rows, models and bundles."""

    name: str
    folder: Path
    epochs: float
    write_texts: Callable[[Path, Path], None]

    @property
    def rows(self) -> Path:
        return self.folder / "rows.csv"

    @property
    def unlabelled(self) -> Path:
        return self.folder / "unlabelled.txt"

    def model(self, seed: int, rate: str) -> Path:
        return self.folder / f"model-{seed}-{rate}"


SENTENCES = Job("main_job", WORK, 3.0, write_rows)
JOBS = {
    "sentences": SENTENCES,
    "reviews": Job("main_job_reviews", WORK / "reviews", 2.0, write_reviews),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--texts", choices=JOBS, default="sentences")
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--objectives", default="throughput,latency")
    options.add_argument("--time-budget", default="20m")
    options.add_argument("--max-drop", default="1%")
    options.add_argument("--learning-rates", default="2e-5,5e-5,1e-4")
    options.add_argument("--only-summary", action="store_true")
    options.add_argument("--recipe", type=Path)
    given = options.parse_args()
    job = JOBS[given.texts]
    if given.only_summary:
        paths = sorted(RESULTS.glob(f"{job.name}-*-*.json"))
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        runs = [run for run in runs if "--recipe" not in run["document"]["details"]["command"]]
        print(write_result(job.name, summary(runs)).read_text(encoding="utf-8"))
        return
    seeds = [int(seed) for seed in given.seeds.split(",")]
    rate = best_rate(seeds[0], given.learning_rates.split(","))
    limits = ["--max-drop", given.max_drop, "--time-budget", given.time_budget]
    if given.recipe:
        for seed in seeds:
            one_run(job, given.recipe.stem, seed, rate, [*limits, "--recipe", given.recipe])
        return
    runs = []
    for objective in given.objectives.split(","):
        for seed in seeds:
            asked = [*limits, "--objective", objective, "--unlabelled", job.unlabelled]
            runs.append(one_run(job, objective, seed, rate, asked))
    path = write_result(job.name, summary(runs))
    print(path.read_text(encoding="utf-8"))


def fine_tuned(job: Job, seed: int, rate: str) -> dict[str, Any]:
    """The fine-tuned model's facts; made once."""
    folder = job.model(seed, rate)
    facts = folder.with_suffix(".json")
    if not facts.exists():
        job.folder.mkdir(parents=True, exist_ok=True)
        job.write_texts(job.rows, job.unlabelled)
        tuned = document(
            "finetune", encoder_folder(), "--data", job.rows, "--out", folder, "--seed", seed,
            "--learning-rate", rate, "--epochs", job.epochs,
        )  # fmt: skip
        facts.write_text(json.dumps(tuned))
    return json.loads(facts.read_text())  # type: ignore[no-any-return]


def best_rate(seed: int, rates: list[str]) -> str:
    """Of the sentences; reviews are trained at the same."""
    path = RESULTS / "learning_rate.json"
    if not path.exists():
        tried = {rate: fine_tuned(SENTENCES, seed, rate) for rate in rates}
        best = max(rates, key=lambda rate: tried[rate]["validation"])
        write_result("learning_rate", {"seed": seed, "best": best, "tried": tried})
    return str(json.loads(path.read_text(encoding="utf-8"))["best"])


def one_run(job: Job, kind: str, seed: int, rate: str, asked: Sequence[object]) -> dict[str, Any]:
    name = f"{job.name}-{kind}-{seed}"
    path = RESULTS / f"{name}.json"
    if not path.exists():
        fine_tuned(job, seed, rate)
        result = document(
            "optimize", job.model(seed, rate), "--data", job.rows, *asked,
            "--seed", seed, "--out", job.folder / f"fast-{kind}-{seed}",
        )  # fmt: skip
        del result["details"]["latency_ms"]
        write_result(name, {"seed": seed, "conditions": conditions(), "document": result})
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By objective: drops, and the median over seeds of the ratio to each run's best rival."""
    summed: dict[str, Any] = {"conditions": runs[0]["conditions"]}
    for objective in dict.fromkeys(run["document"]["speed"]["objective"] for run in runs):
        chosen = [r for r in runs if r["document"]["speed"]["objective"] == objective]
        lines = [line(run) for run in chosen]
        drops = [entry["drop"] for entry in lines]
        summed[objective] = {
            "runs": lines,
            "mean_drop": statistics.mean(drops),
            "largest_drop": max(drops),
        } | {
            f"median_{metric}_ratio": statistics.median(e[f"{metric}_ratio"][1] for e in lines)
            for metric in ("throughput", "p50", "p99")
        }
    return summed


def line(run: dict[str, Any]) -> dict[str, Any]:
    """One run's headline; a ratio is [low, median, high] against the best rival of that metric."""
    quality, speed = run["document"]["quality"], run["document"]["speed"]
    kept = {n: r for n, r in speed["rivals"].items() if r["keeps_limit"] and r["throughput_ratio"]}
    if not kept:
        sys.exit("no rival was measured in the time of a run; give a longer --time-budget")
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
