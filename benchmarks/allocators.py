"""A bundle under other memory allocators, and with glibc's asking for huge pages.

    python benchmarks/allocators.py --bundle FOLDER --model FOLDER [--rounds 10] [--seconds 1]

Each in a process of its own, interleaved round by round: rows a second of sentences that the model,
of `main_job.py`, was not trained on, one text a call, and the memory held. Allocators are those of
the Debian packages libjemalloc2, libmimalloc2.0 and libtcmalloc-minimal4; what is not installed is
named. Result: results/allocators.json.
"""

import argparse
import ctypes.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from packaged import conditions, write_result
from rivals import Contender, workload

from miaotui.measure.speed import round_order
from miaotui.measure.statistics import ratio_interval

PLAIN = "glibc"
LIBRARIES = ("jemalloc", "mimalloc", "tcmalloc_minimal")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bundle", type=Path, required=True)
    options.add_argument("--model", type=Path, required=True)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seconds", type=float, default=1.0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder, "texts.json")
        sentences = workload("sentences", given.model)
        texts.write_text(json.dumps({"sentences": sentences}), encoding="utf-8")
        settings = environments()
        contenders = {
            name: Contender(f"miaotui:{given.bundle.name}", given.bundle, texts, setting)
            for name, setting in settings.items()
        }
        for name, contender in contenders.items():
            if contender.failed:
                sys.exit(f"under {name} the bundle cannot be opened: {contender.failed}")
        measured = rounds(contenders, given.rounds, given.seconds)
        for contender in contenders.values():
            contender.close()
    write_result("allocators", {"conditions": conditions(), "allocators": measured})
    for name, own in measured.items():
        fast, quick = ratio(own, measured, "rows_per_s"), ratio(own, measured, "p50_ms")
        print(f"{name:18s} rows/s {fast}   p50 {quick}   {own['resident_bytes'] / 1e6:.0f} MB")


def environments() -> dict[str, dict[str, str]]:
    by_library = {PLAIN: {}, "glibc-huge-pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}}
    for library in LIBRARIES:
        path = ctypes.util.find_library(library)
        if path is None:
            sys.stderr.write(f"{library} is not installed and left out\n")
        else:
            by_library[library] = {"LD_PRELOAD": path}
    return by_library


def rounds(contenders: dict[str, Contender], count: int, seconds: float) -> dict[str, Any]:
    """Of each the rows a second and the median milliseconds of every round but the first."""
    names = list(contenders)
    measured: dict[str, Any] = {name: {"rows_per_s": [], "p50_ms": []} for name in names}
    for number in range(count + 1):
        for i in round_order(len(names), number):
            own, contender = measured[names[i]], contenders[names[i]]
            rate = contender.do("throughput", "sentences", seconds)
            times = contender.do("latency", "sentences", seconds)
            if not number:
                continue
            own["rows_per_s"].append(rate["rows_per_s"])
            own["p50_ms"].append(float(np.median(times["ms"])))
            own["resident_bytes"] = times["resident_bytes"]
    return measured


def ratio(own: dict[str, Any], measured: dict[str, Any], metric: str) -> str:
    """Times faster than plain glibc."""
    higher = metric == "rows_per_s"
    interval = ratio_interval(own[metric], measured[PLAIN][metric], higher_is_better=higher)
    return f"{interval.median:.3f}x ({interval.low:.3f}-{interval.high:.3f})"


if __name__ == "__main__":
    main()
