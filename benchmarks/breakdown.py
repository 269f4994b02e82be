"""Where the native engine's time goes, step by step, beside the processor's ceiling.

    python benchmarks/breakdown.py

Compiles breakdown.cpp and ceiling.cpp for this processor (a C++ compiler is needed) and runs every
step of a layer by itself on one core, for MiniLM's and BERT-base's layers and rows of 26, 128 and
512 tokens. Result: results/breakdown.json; a table of shares of a layer.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from native import ceiling
from packaged import conditions, write_result

from miaotui.hardware import cpp_compiler

SHAPES = {"minilm": (384, 12, 1536), "bert": (768, 12, 3072)}
LENGTHS = (26, 128, 512)
DYNAMIC = (
    "query_key_value",
    "attention",
    "quantize_context",
    "output",
    "norm_and_quantize",
    "up_gelu",
    "quantize_inner",
    "down",
    "norm_and_quantize",
)
"""The steps of a layer in int8-dynamic, in order."""


def main() -> None:
    compiler = cpp_compiler()
    if compiler is None:
        sys.exit("breakdown: there is no C++ compiler; install g++")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    most = ceiling() or {}
    results: dict[str, Any] = {"conditions": conditions(), "ceiling": most, "layers": {}}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "breakdown")
        source = Path(__file__).with_name("breakdown.cpp")
        flags = ["-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math"]
        subprocess.run([compiler, *flags, "-Wno-psabi", "-w", "-o", program, source], check=True)
        for name, shape in SHAPES.items():
            for length in LENGTHS:
                steps = run(program, (*shape, length))
                results["layers"][f"{name}-{length}"] = steps
                print("\n".join([f"{name}, rows of {length} tokens", *table(steps, most)]))
    write_result("breakdown", results)


def run(program: Path, arguments: tuple[int, ...]) -> dict[str, dict[str, float]]:
    command = [str(program), *map(str, arguments)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = (line.split() for line in printed.splitlines())
    return {name: {"ns_per_token": float(ns), "gops": float(gops)} for name, ns, gops in rows}


def table(steps: dict[str, dict[str, float]], most: dict[str, float]) -> list[str]:
    total = sum(steps[name]["ns_per_token"] for name in DYNAMIC)
    peak = max((value for name, value in most.items() if name.startswith("int8")), default=0.0)
    lines = []
    for name in dict.fromkeys(DYNAMIC):
        own = steps[name]["ns_per_token"] * DYNAMIC.count(name)
        gops = steps[name]["gops"]
        share = f", {gops / peak:.0%} of the int8 ceiling" if gops and peak else ""
        lines.append(f"  {name:20s} {own:8.0f} ns a token, {own / total:5.1%}{share}")
    return [*lines, f"  a layer {total:8.0f} ns a token"]


if __name__ == "__main__":
    main()
