"""Entity recognition: taggers of CoNLL-2003 and of MSRA, fine-tuned, optimized, beside the rivals.

    python benchmarks/entities.py [--rows conll,msra] [--time-budget 20m] [--max-drop 1%]

Rows and encoders come out of packages (packaged_entities.py). The validation part is what the
search selects by, the test part what the answer is proved on. A run's document is kept whole, but
for the latency of every single call, in results/entities-<rows>.json; a run that is there already
is not repeated.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from packaged import RESULTS, conditions, document, write_result
from packaged_entities import write_all

WORK = Path("bench-work") / "entities"
EPOCHS = {"conll": 2, "msra": 1}


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
        found = document(
            "optimize", tuned, "--data", rows / "train.conll", *selection,
            "--test", rows / "test.conll", "--max-drop", max_drop, "--time-budget", time_budget,
            "--out", WORK / f"{name}-fast",
        )  # fmt: skip
        del found["details"]["latency_ms"]
        facts = json.loads(tuned.with_suffix(".json").read_text(encoding="utf-8"))
        content = {"conditions": conditions(), "fine_tuning": facts, "document": found}
        write_result(path.stem, content)
    return headline(json.loads(path.read_text(encoding="utf-8"))["document"])


def fine_tuned(name: str) -> Path:
    """The original; made once."""
    folder = WORK / f"{name}-original"
    facts = folder.with_suffix(".json")
    if not facts.exists():
        found = document(
            "finetune", WORK / f"{name}-encoder", "--data", WORK / name / "train.conll",
            "--out", folder, "--epochs", EPOCHS[name],
        )  # fmt: skip
        facts.write_text(json.dumps(found), encoding="utf-8")
    return folder


def headline(found: dict[str, Any]) -> dict[str, Any]:
    """F1 and speed, and how many times better than each rival that keeps the limit."""
    quality, speed = found["quality"], found["speed"]
    own = {key: quality[key] for key in ("original", "optimized", "drop", "drop_interval_95")}
    own["throughput_rows_per_s"] = speed["throughput_rows_per_s"]
    return own | {
        "throughput_ratios": {
            rival: facts["throughput_ratio"] for rival, facts in speed["rivals"].items()
        }
    }


if __name__ == "__main__":
    main()
