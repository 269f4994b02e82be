"""Whether a cascade says that its texts are of another kind.

    python benchmarks/drift.py --bundle FOLDER --model FOLDER [--bundle FOLDER --model FOLDER]
                               [--rows 1500]

Each bundle, a cascade of the fine-tuned model named with it, answers sentences that no training has
seen, whole reviews, and sentences of NumPy's documentation: the share that its first stage answers
beside the one of its test rows, and whether it calls that a shift.
Result: results/drift.json.
"""

import argparse
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy
from packaged import SENTENCES, conditions, held_out, packaged_rows, write_result, write_rows

import miaotui
from miaotui.bundle import read_bundle
from miaotui.cascade import read_stages

_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_ROWS_A_CALL = 100


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bundle", type=Path, action="append", required=True)
    options.add_argument("--model", type=Path, action="append", required=True)
    options.add_argument("--rows", type=int, default=1500)
    given = options.parse_args()
    kinds = {
        "reviews": [row["text"] for row in packaged_rows() if row["source"] != SENTENCES],
        "documentation": list(documentation()),
    }
    draw = random.Random(0)
    chosen = {name: draw.sample(texts, given.rows) for name, texts in kinds.items()}
    results: dict[str, Any] = {"conditions": conditions(), "bundles": {}}
    for folder, model in zip(given.bundle, given.model, strict=True):
        if read_stages(folder) is None:
            sys.exit(f"{folder} is no cascade; give another --bundle")
        own = {"sentences": held_out(model, write_rows)[: given.rows]} | chosen
        drifts = {name: drift(folder, texts) for name, texts in own.items()}
        results["bundles"][folder.name] = {"model": read_bundle(folder).manifest["model"]} | drifts
        for name, told in drifts.items():
            said = "shifted" if told["shifted"] else "as measured"
            line = f"{told['observed']:.1%} against {told['expected']:.1%}, {said}"
            print(f"{folder.name:28s} {name:14s} {line}")
    write_result("drift", results)


def drift(folder: Path, texts: list[str]) -> dict[str, Any]:
    with miaotui.load(folder) as predictor:
        for _ in predictor.stream(texts, rows=_ROWS_A_CALL):
            pass
        told = predictor.drift()
    if told is None:
        sys.exit(f"{folder} has no measured share; make it anew")
    return asdict(told)


def documentation() -> Iterator[str]:
    """Sentences of 20 to 300 characters out of docstrings."""
    for path in sorted(Path(numpy.__file__).parent.rglob("*.py")):
        for text in _DOCSTRING.findall(path.read_text(encoding="utf-8", errors="ignore")):
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(text.split())):
                if 20 <= len(sentence) <= 300:
                    yield sentence


if __name__ == "__main__":
    main()
