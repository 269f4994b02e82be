"""The native engine held to AVX2 without VNNI: the real encoder, an older build beside.

    python benchmarks/held.py [--before FOLDER] [--isa avx2] [--rounds 20]

all-MiniLM-L6-v2 with a random head on packaged review sentences, token ids in, logits out, one
thread. `--before` names a folder with an older build's miaotui_native; without it the installed
kernels stand alone. Each build runs in a process of its own, and they take turns, a call of about
500 tokens each. What counts is the processor's time of a call (so other work's turns are left
out), its shortest and its median. The share is that of the products' operations in the int8
ceiling of the same instructions (ceiling.cpp, compiled for AVX2). Result: results/held-ISA.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from native import ceiling, natural_sentences
from packaged import conditions, encoder_folder, write_result
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification

from miaotui.engines.native import ISA_VARIABLE, NativeEngine
from miaotui.models.encoder import Encoder
from miaotui.models.families import family_of
from miaotui.models.model import Calibration, Model
from miaotui.models.shape import EncoderShape
from miaotui.quiet import silence_telemetry
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import one_a_row
from miaotui.tasks.problems import Problem
from miaotui.tasks.text_classification import TextClassification
from miaotui.techniques import BFloat16, Int8Dynamic, Int8Static

CALL_ROWS = 20
CALLS = 2
"""Different calls of so many sentences; a round makes each once."""

LOWERED: dict[str, tuple[NativeEngine, Any]] = {
    "int8-static": (NativeEngine(), Int8Static()),
    "int8-dynamic": (NativeEngine(), Int8Dynamic()),
    "int8-static, weights of 7 bits": (NativeEngine(weight_bits=7), Int8Static()),
    "bf16": (NativeEngine(), BFloat16()),
    "fp32": (NativeEngine(), None),
}


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "worker":
        work(Path(sys.argv[2]), sys.argv[3])
        return
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--before", type=Path)
    options.add_argument("--isa", default="avx2")
    options.add_argument("--rounds", type=int, default=20)
    given = options.parse_args()
    silence_telemetry()
    rows = natural_sentences()
    with tempfile.TemporaryDirectory() as folder:
        shape = build(Path(folder), rows)
        builds = {"now": None} | ({"before": given.before} if given.before else {})
        workers = {name: start(Path(folder), given.isa, own) for name, own in builds.items()}
        times = interleaved(workers, given.rounds)
    facts = {
        "conditions": conditions(),
        "held_to": given.isa,
        "ceiling": ceiling(("-mavx2", "-mfma")),
        "tokens": tokens_of(rows),
        "operations": operations(shape, rows),
        "seconds": times,
    }
    write_result(f"held-{given.isa}", facts)
    print("\n".join(table(facts)))


def calls_of(rows: EncodedRows) -> list[EncodedRows]:
    return [rows.select(np.arange(CALL_ROWS) + c * CALL_ROWS) for c in range(CALLS)]


def tokens_of(rows: EncodedRows) -> int:
    return sum(call.total_tokens for call in calls_of(rows))


def operations(shape: EncoderShape, rows: EncodedRows) -> int:
    """Of the linears that a round computes: the last layer for first tokens alone, without keys and
    values. A multiply and an add are two."""
    hidden, count = shape.hidden, CALLS * CALL_ROWS
    total = 0
    for i, layer in enumerate(shape.layers):
        width = layer.heads * shape.head_dim
        last = i + 1 == len(shape.layers)
        linears = (2 if last else 4) * width + 2 * layer.ffn
        total += 2 * hidden * linears * (count if last else tokens_of(rows))
    return total


def build(folder: Path, rows: EncodedRows) -> EncoderShape:
    """Every lowering of the model as a bundle that any build of the kernels opens."""
    source = encoder_folder()
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(source)
    module = AutoModelForSequenceClassification.from_pretrained(source).eval()
    family = family_of(config)
    assert family is not None
    encoder = Encoder(family.shape(config))
    encoder.load_state_dict(family.weights(module.state_dict(), encoder.shape))
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    task = TextClassification.of(tokenizer, ["no", "yes"], Problem.SINGLE_LABEL, 512)
    model = Model(encoder.eval(), task, "bert")
    some = rows.select(np.arange(128))
    calibration = Calibration(some, one_a_row(np.zeros(len(some), dtype=np.int64)))
    for name, (engine, technique) in LOWERED.items():
        prepared = technique.prepare(model, calibration) if technique else model
        engine.build(prepared, calibration, folder / name)
    return encoder.shape


def start(folder: Path, isa: str, kernels: Path | None) -> "subprocess.Popen[str]":
    path = [str(kernels)] if kernels else []
    path += filter(None, [os.environ.get("PYTHONPATH")])
    environment = os.environ | {ISA_VARIABLE: isa, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, __file__, "worker", str(folder), isa]
    return subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def work(folder: Path, isa: str) -> None:
    """One round of the precision named by each line: the processor's seconds of every call."""
    import miaotui_native

    sys.stderr.write(f"{isa}: {miaotui_native.__file__}\n")
    calls = calls_of(natural_sentences())
    sessions = {name: NativeEngine().open(folder / name, 1) for name in LOWERED}
    for line in sys.stdin:
        session = sessions[line.strip()]
        seconds = []
        for call in calls:
            began = time.process_time()
            session.run(call)
            seconds.append(time.process_time() - began)
        print(json.dumps(seconds), flush=True)


def interleaved(
    workers: dict[str, "subprocess.Popen[str]"], rounds: int
) -> dict[str, dict[str, dict[str, float]]]:
    """By precision and build: a round's seconds by the shortest and by the median of each call."""
    every: dict[tuple[str, str], list[list[float]]] = {}
    for number in range(rounds + 1):
        for name in LOWERED:
            for title, worker in workers.items():
                assert worker.stdin is not None
                assert worker.stdout is not None
                worker.stdin.write(f"{name}\n")
                worker.stdin.flush()
                told = json.loads(worker.stdout.readline())
                if number:  # the first warms up
                    every.setdefault((name, title), []).append(told)
        sys.stderr.write(f"round {number} of {rounds}\n")
    for worker in workers.values():
        worker.communicate()
    return {
        name: {
            title: {
                "least": float(np.min(every[name, title], axis=0).sum()),
                "median": float(np.median(every[name, title], axis=0).sum()),
            }
            for title in workers
        }
        for name in LOWERED
    }


def table(facts: dict[str, Any]) -> list[str]:
    most = facts["ceiling"] or {}
    lines = []
    for name, builds in facts["seconds"].items():
        peak = most.get(ceiling_of(name), 0.0)
        parts = []
        for title, seconds in builds.items():
            gops = facts["operations"] / seconds["least"] / 1e9
            share = f", {gops / peak:.0%} of {peak:.0f} GOPS" if peak else ""
            parts.append(f"{title} {facts['tokens'] / seconds['least']:,.0f} tokens/s{share}")
        if "before" in builds:
            ratios = [builds["before"][by] / builds["now"][by] for by in ("least", "median")]
            parts.append("{:.2f} times as fast (by medians {:.2f})".format(*ratios))
        lines.append(f"{name}: {'; '.join(parts)}")
    return lines


def ceiling_of(name: str) -> str:
    if not name.startswith("int8"):
        return "fp32"
    return "int8_avx2_four_products" if "7 bits" in name else "int8_avx2"


if __name__ == "__main__":
    main()
