"""The native engine against stock engines: whole rows' throughput and single rows' latency.

    python benchmarks/native.py [--models minilm,distilbert,bert] [--lengths 8,16,...,512]
                                [--rounds 10] [--seconds 0.4]

Random weights in the shapes of MiniLM-L6 (22M parameters), DistilBERT and BERT-base; sentences of
natural length, and rows that are all of one length. No tokenization: this is the engines' own time.
Lesser kernels that run here (MIAOTUI_ISA) stand beside the best as native-int8-dynamic:NAME.
Contenders are interleaved round by round in one process; a round of throughput takes `--seconds` or
more, one of latency as long with single rows. The processor's ceiling (registers only, no loads) is
measured in the same run by ceiling.cpp, where there is a C++ compiler. Results, a model each:
results/native-MODEL.json with every round's value.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packaged import FIXED_LENGTHS, conditions, encoder_folder, write_result, write_rows
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification

from miaotui.engines.base import EngineBase, Session
from miaotui.engines.layouts import Bucketed, Packed, Padded
from miaotui.engines.native import ISA_VARIABLE, NativeEngine
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.hardware import cpp_compiler, probe
from miaotui.measure.statistics import ratio_interval
from miaotui.models.encoder import Encoder
from miaotui.models.families import family_of
from miaotui.models.model import Calibration, Model, PaddedModel
from miaotui.quiet import silence_telemetry
from miaotui.rivals import RIVALS, StockModel
from miaotui.tasks.base import EncodedRows, encoded_rows
from miaotui.tasks.outputs import one_a_row
from miaotui.tasks.problems import Problem
from miaotui.tasks.text_classification import TextClassification
from miaotui.techniques import BFloat16, Int8Dynamic, Int8Static

VOCABULARY = 30522
SHAPES = {
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    "distilbert": {"hidden_size": 768, "num_hidden_layers": 6, "intermediate_size": 3072},
    "bert": {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072},
}
LENGTHS = (8, 16, 32, 64, 128, 256, 512)
STOCK = ("onnxruntime-dynamic-int8", "openvino", "openvino-nncf-int8", "torch-eager-bf16")
SENTENCES = 512
SHARES = {"minilm": 1, "distilbert": 4, "bert": 8}
"""Larger models get a batch of so many times fewer tokens, so that no call takes minutes."""
BATCH_TOKENS = 4096

Contenders = dict[str, Callable[[EncodedRows], object]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--models", default=",".join(SHAPES))
    options.add_argument("--lengths", default=",".join(map(str, LENGTHS)))
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seconds", type=float, default=0.4)
    given = options.parse_args()
    silence_telemetry()
    lengths = [int(length) for length in given.lengths.split(",")]
    sentences = natural_sentences()
    for name in given.models.split(","):
        facts: dict[str, Any] = {"conditions": conditions(), "ceiling": ceiling()}
        with tempfile.TemporaryDirectory() as folder:
            contenders = opened(name, Path(folder), sentences)
            measured = workloads(name, contenders, sentences, lengths, given)
        write_result(f"native-{name}", facts | {"shape": SHAPES[name], "workloads": measured})
        for line in table(measured):
            print(f"{name:11s} {line}")


def natural_sentences() -> EncodedRows:
    """Token ids of packaged review sentences, in the encoder's own tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder, "rows.csv"), Path(folder, "plain.txt"))
        lines = Path(folder, "plain.txt").read_text(encoding="utf-8").splitlines()[:SENTENCES]
    tokenizer = Tokenizer.from_file(str(encoder_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    return encoded_rows([entry.ids for entry in tokenizer.encode_batch(lines)])


def opened(name: str, folder: Path, sentences: EncodedRows) -> Contenders:
    """Every contender on the same random weights: throughput and single rows by one call each."""
    config = BertConfig(vocab_size=VOCABULARY, num_attention_heads=12, **SHAPES[name])
    torch.manual_seed(0)
    module = BertForSequenceClassification(config).eval()
    family = family_of(config)
    assert family is not None
    encoder = Encoder(family.shape(config))
    encoder.load_state_dict(family.weights(module.state_dict(), encoder.shape))
    tokenizer = Tokenizer.from_file(str(encoder_folder() / "tokenizer.json"))
    task = TextClassification.of(tokenizer, ["no", "yes"], Problem.SINGLE_LABEL, 512)
    model = Model(encoder.eval(), task, "bert")
    calibration = Calibration(sentences, one_a_row(np.zeros(len(sentences), dtype=np.int64)))
    machine = probe()
    results: Contenders = {}
    for title, engine, technique in ours(machine.computes_bf16):
        say(f"{name}: building {title}")
        prepared = technique.prepare(model, calibration) if technique else model
        engine.build(prepared, calibration, folder / title)
        results[title] = engine.open(folder / title, machine.cores).run
    for isa in lesser_kernels():
        with forced(isa):
            title = "native-int8-dynamic"
            results[f"{title}:{isa}"] = NativeEngine().open(folder / title, machine.cores).run
    stock = StockModel(
        PaddedModel(module, True), sentences, folder / "stock", machine.cores,
        machine.saturates_int8,
    )  # fmt: skip
    for rival in RIVALS:
        if rival.name in STOCK and rival.unavailable(machine) is None:
            say(f"{name}: building {rival.name}")
            results[rival.name] = Session(rival.runner(stock), Padded(batch=32)).run
    return results


def lesser_kernels() -> list[str]:
    """What runs here besides the best, but for portable code."""
    import miaotui_native

    return [isa for isa in miaotui_native.kernels_here()[1:] if isa != "portable"]


@contextmanager
def forced(isa: str) -> Iterator[None]:
    os.environ[ISA_VARIABLE] = isa
    try:
        yield
    finally:
        del os.environ[ISA_VARIABLE]


def ours(bf16: bool) -> list[tuple[str, EngineBase, Any]]:
    """The native engine, and OpenVINO in the layouts that its users would have to write."""
    packed = {"layout": Packed(batch=8, block_tokens=128), "streams": 2}
    fixed = {"layout": Bucketed(batch=16, edges=FIXED_LENGTHS)}
    chosen: list[tuple[str, EngineBase, Any]] = [
        ("native-int8-dynamic", NativeEngine(), Int8Dynamic()),
        ("native-int8-static", NativeEngine(), Int8Static()),
        ("native-bf16", NativeEngine(), BFloat16()),
        ("native-fp32", NativeEngine(), None),
    ]
    for layout, settings in (("packed", packed), ("fixed-shapes", fixed)):
        engine = OpenVinoEngine(weight_bits=8, **settings)
        chosen.append((f"openvino-{layout}-int8", engine, Int8Static()))
        if bf16:
            chosen.append(
                (f"openvino-{layout}-bf16", engine.model_copy(update={"bf16": True}), BFloat16())
            )
    return chosen


def workloads(
    model: str,
    contenders: Contenders,
    sentences: EncodedRows,
    lengths: list[int],
    given: argparse.Namespace,
) -> dict[str, Any]:
    draw, share = np.random.default_rng(0), SHARES[model]
    began, count = time.perf_counter(), 1 + 2 * len(lengths)
    results: dict[str, Any] = {}

    def rows_of(length: int, count: int) -> EncodedRows:
        return encoded_rows(draw.integers(1000, VOCABULARY, (count, length)).tolist())

    def measure(workload: str, rows: EncodedRows, batches: bool) -> None:
        say(f"{model}: {workload}, {rows.total_tokens} tokens")
        results[workload] = measured(contenders, rows, given.rounds, given.seconds, batches)
        left = (time.perf_counter() - began) / len(results) * (count - len(results))
        say(f"{model}: {len(results)} of {count} workloads, about {left:.0f} s left")

    some = sentences.select(np.arange(len(sentences) // share))
    measure("sentences", some, batches=True)
    for length in lengths:
        many = rows_of(length, BATCH_TOKENS // share // length)
        measure(f"batch-{length}", many, batches=True)
        measure(f"single-{length}", rows_of(length, 1), batches=False)
    return results


def measured(
    contenders: Contenders, rows: EncodedRows, rounds: int, seconds: float, batches: bool
) -> dict[str, Any]:
    """By contender, every round's tokens/s (batches) or milliseconds: the round's median and its
    99th percentile (single rows)."""
    values: dict[str, dict[str, list[float]]] = {
        name: {"tokens_per_s": []} if batches else {"p50_ms": [], "p99_ms": []}
        for name in contenders
    }
    order = np.random.default_rng(0)
    for number in range(rounds + 1):
        for name in order.permutation(list(contenders)):
            times = round_of(contenders[str(name)], rows, seconds if number else 0.0)
            if not number:  # the first calls compile and warm up
                continue
            if batches:
                values[name]["tokens_per_s"].append(rows.total_tokens * len(times) / sum(times))
            else:
                values[name]["p50_ms"].append(float(np.percentile(times, 50)) * 1e3)
                values[name]["p99_ms"].append(float(np.percentile(times, 99)) * 1e3)
    return values


def round_of(
    run: Callable[[EncodedRows], object], rows: EncodedRows, seconds: float
) -> list[float]:
    times: list[float] = []
    while sum(times) < seconds or not times:
        began = time.perf_counter()
        run(rows)
        times.append(time.perf_counter() - began)
    return times


def table(results: dict[str, Any]) -> list[str]:
    """Each workload: the native engine's best int8, and how many times the best other."""
    lines = []
    for workload, values in results.items():
        metric = "tokens_per_s" if "tokens_per_s" in next(iter(values.values())) else "p50_ms"
        higher = metric == "tokens_per_s"
        best = max if higher else min
        natives = [n for n in values if n.startswith("native-int8") and ":" not in n]
        others = [name for name in values if not name.startswith("native")]
        mine = best(natives, key=lambda n: np.median(values[n][metric]))
        theirs = best(others, key=lambda n: np.median(values[n][metric]))
        ratio = ratio_interval(
            values[mine][metric], values[theirs][metric], higher_is_better=higher
        )
        lines.append(
            f"{workload:12s} {mine} {np.median(values[mine][metric]):10.2f} {metric}; "
            f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f}) {theirs}"
        )
    return lines


def ceiling(flags: tuple[str, ...] = ("-march=native",)) -> dict[str, float] | None:
    """Operations a second of one core in registers alone, in 1e9, by the instructions that the
    compiler's flags allow; None without a compiler."""
    compiler = cpp_compiler()
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "ceiling")
        source = Path(__file__).with_name("ceiling.cpp")
        command = [compiler, "-O3", *flags, "-o", str(program), str(source)]
        subprocess.run(command, check=True)
        printed = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    pairs = (line.split() for line in printed.splitlines())
    return {name: float(value) for name, value in pairs}


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
