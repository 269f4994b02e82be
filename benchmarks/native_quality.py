"""What the native engine's precisions cost in accuracy, on single texts and on pairs.

    python benchmarks/native_quality.py [--seed 0] [--pairs 5000]

Two tasks on packaged rows, the encoder fine-tuned for each: the sentiment of a sentence, and
whether a claim about a film holds by what a sentence of a review says of it. Each precision's
answers on the test rows are compared with PyTorch's in fp32; where int8 answers under 99% of them
alike, the layers that it changes most on other rows go to bf16, one after another, up to half of
them. Result: results/native_quality.json.
"""

import argparse
import csv
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from main_job import SENTENCES, WORK, best_rate, fine_tuned
from packaged import (
    conditions,
    encoder_folder,
    miaotui,
    write_result,
)

from miaotui.engines.native import NativeEngine
from miaotui.measure.judge import Split
from miaotui.pipeline.options import OptimizeOptions, RowsOptions
from miaotui.pipeline.prepare import prepare
from miaotui.quiet import silence_telemetry
from miaotui.recipe import Recipe
from miaotui.search.context import Context
from miaotui.search.sensitivity import layer_sensitivity, with_fallback
from miaotui.techniques import BFloat16, Int8Dynamic, Int8Static

PRECISIONS: dict[str, Any] = {
    "fp32": None,
    "bf16": BFloat16(),
    "int8-dynamic": Int8Dynamic(),
    "int8-static": Int8Static(),
}

ALIKE = 0.99


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--pairs", type=int, default=5000)
    given = options.parse_args()
    silence_telemetry()
    rows, pairs = SENTENCES.rows, WORK / "pairs.csv"
    rate = best_rate(given.seed, ["2e-5", "5e-5", "1e-4"])
    fine_tuned(SENTENCES, given.seed, rate)
    write_pairs(pairs, rows, given.pairs)
    paired = WORK / f"model-pairs-{given.seed}"
    if not paired.exists():
        miaotui("finetune", encoder_folder(), "--data", pairs, "--out", paired,
                "--seed", given.seed, "--learning-rate", rate)  # fmt: skip
    results = {
        "conditions": conditions(),
        "sentences": judged(SENTENCES.model(given.seed, rate), rows, given.seed),
        "pairs": judged(paired, pairs, given.seed),
    }
    print(write_result("native_quality", results).read_text(encoding="utf-8"))


CLAIMS = {
    True: ("it is a good film", "the writer liked it", "you should see it", "it is well made"),
    False: ("it is a bad film", "the writer disliked it", "you can miss it", "it is badly made"),
}


def write_pairs(path: Path, rows: Path, count: int) -> None:
    """A sentence of a review and a claim about its film, which holds or does not."""
    draw = random.Random(0)
    with rows.open(encoding="utf-8", newline="") as opened:
        sentences = list(csv.DictReader(opened))
    with path.open("w", encoding="utf-8", newline="") as written:
        writer = csv.writer(written)
        writer.writerow(["text", "text_pair", "label"])
        for row in draw.sample(sentences, min(count, len(sentences))):
            praised, claimed = row["label"] == "positive", draw.random() < 0.5
            holds = "holds" if praised == claimed else "does not"
            writer.writerow([row["text"], draw.choice(CLAIMS[claimed]), holds])


def judged(model: Path, rows: Path, seed: int) -> dict[str, Any]:
    """By precision: accuracy, drop with its interval, share of equal labels."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        options = OptimizeOptions(str(model), RowsOptions(rows, seed=seed), Path(folder, "out"))
        prepared = prepare(options)
        context, test = prepared.context, prepared.test()
        for name, technique in PRECISIONS.items():
            tried = [(name, technique), *fallbacks(context, technique)]
            for named, each in tried:
                results[named] = compared(context, test, each)
                sys.stderr.write(
                    f"{model.name}: {named}: {results[named]['agreement']:.2%} alike\n"
                )
                if results[named]["agreement"] >= ALIKE:
                    break
    return results


def fallbacks(context: Context, technique: Any) -> Iterator[tuple[str, Any]]:
    """The same int8 with the layers that it changes most on selection rows in bf16: one, two, up to
    half of them."""
    if not isinstance(technique, Int8Dynamic | Int8Static):
        return
    runtime = Recipe(steps=(technique,), engine=NativeEngine())
    sensitivity = layer_sensitivity(context, runtime)
    for layers in range(1, len(sensitivity) // 2 + 1):
        mixed = with_fallback(runtime, sensitivity, layers, "bf16").quantizing[0]
        yield f"{technique.name}, {layers} in bf16", mixed


def compared(context: Context, test: Split, technique: Any) -> dict[str, Any]:
    lowered = context.model
    if technique is not None:
        lowered = technique.prepare(lowered, context.train)
    with tempfile.TemporaryDirectory() as folder:
        NativeEngine().build(lowered, context.train, Path(folder))
        session = NativeEngine().open(Path(folder), context.cores)
    report = context.judge.judge(session, test)
    facts = ("original", "optimized", "drop", "interval_95", "agreement", "rows")
    return {fact: getattr(report, fact) for fact in facts}


if __name__ == "__main__":
    main()
