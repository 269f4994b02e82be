"""Entity recognition: taggers of CoNLL-2003 and of MSRA, fine-tuned, optimized, beside the rivals.

    python benchmarks/entities.py [--rows conll,msra] [--time-budget 20m] [--max-drop 1%]

Rows and encoders come out of packages (packaged_entities.py). The validation part is what the
search selects by, the test part what the answer is proved on. A run's document is kept whole, but
for the latency of every single call, in results/entities-<rows>.json; a run that is there already
is not repeated. Its proof is short of time on a model of this size, so the bundle is then timed
beside the best rivals for as long as it takes: ten interleaved rounds on 1,024 test rows, text in,
answer out; `beside` has rows a second and [low, median, high] of the ratio to ours.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from packaged import RESULTS, conditions, document, write_result
from packaged_entities import write_all

from miaotui.bundle import load
from miaotui.hardware import probe
from miaotui.measure.speed import Contender, SpeedPlan, measure_interleaved
from miaotui.measure.statistics import ratio_interval
from miaotui.models.load import (
    find_model,
    load_config,
    load_model,
    load_transformers,
    padded_model,
)
from miaotui.rivals import RIVALS, StockModel
from miaotui.rivals.opening import open_rival

WORK = Path("bench-work") / "entities"
TRAINING = {"conll": ("2", "5e-5"), "msra": ("2", "2e-4")}
"""Epochs and learning rate."""
PLAN = SpeedPlan(rounds=10, round_seconds=1.0, max_round_seconds=3.0, latency_calls=0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", default="conll,msra")
    options.add_argument("--time-budget", default="20m")
    options.add_argument("--max-drop", default="1%")
    given = options.parse_args()
    write_all(WORK)
    for name in given.rows.split(","):
        print(json.dumps(run(name, given.time_budget, given.max_drop), indent=1))


def run(name: str, time_budget: str, max_drop: str) -> dict[str, Any]:
    """The headline of one data set's run."""
    path = RESULTS / f"entities-{name}.json"
    if not path.exists():
        tuned = fine_tuned(name)
        rows = WORK / name
        selection = ["--eval", rows / "valid.conll"] if (rows / "valid.conll").exists() else []
        result = document(
            "optimize", tuned, "--data", rows / "train.conll", *selection,
            "--test", rows / "test.conll", "--max-drop", max_drop, "--time-budget", time_budget,
            "--out", WORK / f"{name}-fast",
        )  # fmt: skip
        del result["details"]["latency_ms"]
        facts = json.loads(tuned.with_suffix(".json").read_text(encoding="utf-8"))
        content = {"conditions": conditions(), "fine_tuning": facts, "document": result}
        write_result(path.stem, content)
    content = json.loads(path.read_text(encoding="utf-8"))
    if "beside" not in content:
        content["beside"] = beside_rivals(name)
        write_result(path.stem, content)
    return headline(content)


def beside_rivals(name: str) -> dict[str, Any]:
    """Ours and the rivals, in one process, interleaved."""
    source = find_model(str(WORK / f"{name}-original"))
    task, config = load_model(source).task, load_config(source)
    rows = task.read_rows(WORK / name / "test.conll").select(range(1024))
    calibration = task.encode(task.read_rows(WORK / name / "train.conll").texts[:512])
    module = padded_model(load_transformers(source, config, type(task)), type(task))
    machine = probe()
    stock = StockModel(
        module, calibration, WORK / f"{name}-rivals", machine.cores, machine.saturates_int8
    )
    sample = task.encode(rows.texts[:256])
    opened = [open_rival(rival, stock, task, sample) for rival in RIVALS[:3]]
    with load(WORK / f"{name}-fast") as ours:
        contenders = [Contender("miaotui", ours, lambda text: ours([text]), droppable=False)]
        contenders += [Contender(rival.name, rival.predictor) for rival in opened]
        measured = measure_interleaved(contenders, rows.texts, PLAN)
    speeds = {
        key: np.divide(value.rows.values, value.seconds.values) for key, value in measured.items()
    }
    figures = {}
    for key, speed in speeds.items():
        ratio = ratio_interval(speeds["miaotui"].tolist(), speed.tolist(), higher_is_better=True)
        figures[key] = {
            "rows_per_s": float(np.median(speed)),
            "ratio": [ratio.low, ratio.median, ratio.high],
        }
    return figures


def fine_tuned(name: str) -> Path:
    """The original; made once."""
    folder = WORK / f"{name}-original"
    facts = folder.with_suffix(".json")
    if not facts.exists():
        epochs, rate = TRAINING[name]
        tuned = document(
            "finetune", WORK / f"{name}-encoder", "--data", WORK / name / "train.conll",
            "--out", folder, "--epochs", epochs, "--learning-rate", rate,
        )  # fmt: skip
        facts.write_text(json.dumps(tuned), encoding="utf-8")
    return folder


def headline(content: dict[str, Any]) -> dict[str, Any]:
    """F1, and the speed beside each rival."""
    quality = content["document"]["quality"]
    own = {key: quality[key] for key in ("original", "optimized", "drop", "drop_interval_95")}
    return own | {"beside": content["beside"]}


if __name__ == "__main__":
    main()
