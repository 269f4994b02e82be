"""Where the native engine's time goes, step by step, beside the processor's ceiling.

    python benchmarks/breakdown.py [--avx2] [--shapes minilm,bert] [--lengths 26,128,512]

Compiles breakdown.cpp and ceiling.cpp for this processor (a C++ compiler is needed) and runs every
step of a layer by itself on one core, for MiniLM's and BERT-base's layers. With --avx2 the compiler
may use AVX2 alone, so that the kernels of processors without VNNI run, and weights of 7 bits stand
beside those of 8. Result: results/breakdown.json or breakdown-avx2.json; a table of shares of a
layer.
"""

import argparse
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
AVX2 = ("-mavx2", "-mfma")
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
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--avx2", action="store_true")
    options.add_argument("--shapes", default=",".join(SHAPES))
    options.add_argument("--lengths", default=",".join(map(str, LENGTHS)))
    given = options.parse_args()
    compiler = cpp_compiler()
    if compiler is None:
        sys.exit("breakdown: there is no C++ compiler; install g++")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    own = AVX2 if given.avx2 else ("-march=native",)
    most = ceiling(own) or {}
    results: dict[str, Any] = {"conditions": conditions(), "ceiling": most, "layers": {}}
    if given.avx2:
        results["held_to"] = "avx2"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "breakdown")
        source = Path(__file__).with_name("breakdown.cpp")
        flags = ["-std=c++17", "-O3", *own, "-fno-math-errno", "-fno-trapping-math", "-pthread"]
        subprocess.run([compiler, *flags, "-Wno-psabi", "-w", "-o", program, source], check=True)
        for name in given.shapes.split(","):
            for length in map(int, given.lengths.split(",")):
                for bits in (8, 7) if given.avx2 else (8,):
                    steps = run(program, (*SHAPES[name], length, bits))
                    title = f"{name}-{length}" + ("-7bit" if bits == 7 else "")
                    results["layers"][title] = steps
                    print("\n".join([title, *table(steps, ceiling_of(most, bits))]))
    write_result("breakdown-avx2" if given.avx2 else "breakdown", results)


def ceiling_of(most: dict[str, float], bits: int) -> float:
    """The best int8; of AVX2 alone what is exact for any weights of so many bits, or nearly any."""
    if not any("vnni" in name or "amx" in name for name in most):
        return most.get("int8_avx2" if bits == 8 else "int8_avx2_four_products", 0.0)
    return max((value for name, value in most.items() if name.startswith("int8")), default=0.0)


def run(program: Path, arguments: tuple[int, ...]) -> dict[str, dict[str, float]]:
    command = [str(program), *map(str, arguments)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = (line.split() for line in printed.splitlines())
    return {name: {"ns_per_token": float(ns), "gops": float(gops)} for name, ns, gops in rows}


def table(steps: dict[str, dict[str, float]], peak: float) -> list[str]:
    total = sum(steps[name]["ns_per_token"] for name in DYNAMIC)
    lines = []
    for name in dict.fromkeys(DYNAMIC):
        own = steps[name]["ns_per_token"] * DYNAMIC.count(name)
        gops = steps[name]["gops"]
        share = f", {gops / peak:.0%} of the int8 ceiling" if gops and peak else ""
        lines.append(f"  {name:20s} {own:8.0f} ns a token, {own / total:5.1%}{share}")
    return [*lines, f"  a layer {total:8.0f} ns a token"]


if __name__ == "__main__":
    main()
