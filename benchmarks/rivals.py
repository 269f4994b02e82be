"""Our bundles and everything that others would use, on three workloads.

    python benchmarks/rivals.py --model FOLDER --bundle FOLDER [--bundle FOLDER] [--rounds 10]
        [--seconds 2] [--workloads sentences,long,mix] [--only NAME,NAME]

Each contender runs in a process of its own on the same cores; one at a time works, the others wait,
round by round in an order that is balanced. Texts in to labels out: tokenization is part of it.
Throughput of all texts, one text a call (p50 to p99.9), and texts that arrive at random at half and
at four fifths of what the contender itself can do. The processor's own ceilings are measured first;
throughput is told as a share of its int8 ceiling too, by the operations of the original's products:
what is compressed can exceed it.
Result: results/rivals.json with every round, results/rivals.svg, a table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from native import ceiling
from packaged import RESULTS, conditions, held_out, write_result, write_reviews, write_rows

from miaotui.measure.speed import round_order
from miaotui.measure.statistics import ratio_interval
from miaotui.rivals import MORE_RIVALS, RIVALS

COUNTS = {"sentences": 1024, "long": 128, "mix": 256}
LOADS = (0.5, 0.8)
PERCENTILES = (50, 95, 99, 99.9)
MOST_SURE_ABOVE = 10
"""A percentile is told where so many calls lie above it: p99 of 1,000 calls or more."""
ORIGINAL = "torch-eager-fp32"
THROUGHPUT_RIVALS = ("onnxruntime-dynamic-int8", "openvino")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", type=Path, required=True, help="the fine-tuned original")
    options.add_argument("--bundle", type=Path, action="append", required=True)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--workloads", default=",".join(COUNTS))
    options.add_argument("--only", help="rivals, comma-separated; all where left out")
    options.add_argument("--result", default="rivals")
    given = options.parse_args()
    results: dict[str, Any] = {"conditions": conditions(), "ceilings": ceilings()}
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder, "texts.json")
        chosen = {name: workload(name, given.model) for name in given.workloads.split(",")}
        texts.write_text(json.dumps(chosen), encoding="utf-8")
        contenders, results["absent"] = opened(given, texts)
        results["processes"] = {c.name: c.facts for c in contenders}
        compare_labels(results["processes"])
        results["workloads"], results["operations_per_row"] = {}, {}
        for name, some in chosen.items():
            results["workloads"][name] = measured(contenders, name, given)
            results["operations_per_row"][name] = operations(given.model, some)
            add_shares(results, name)
            results["absent"] |= {c.name: c.failed for c in contenders if c.failed}
            write_result(given.result, results)
        for contender in contenders:
            contender.close()
    (RESULTS / f"{given.result}.svg").write_text(picture(results["workloads"]), encoding="utf-8")
    print("\n".join(table(results)))


# --- workloads and ceilings ---


def workload(name: str, model: Path) -> list[str]:
    """Sentences, whole reviews of 256 to 512 tokens, or four of the first to one of the other; of
    neither was any in the model's training."""
    if name == "mix":
        parts = {"sentences": COUNTS[name] * 4 // 5, "long": COUNTS[name] // 5}
        some = [text for part, count in parts.items() for text in workload(part, model)[:count]]
        return [some[i] for i in np.random.default_rng(0).permutation(len(some))]
    return held_out(model, write_reviews if name == "long" else write_rows)[: COUNTS[name]]


def ceilings() -> dict[str, Any]:
    """Products in registers (a core, 1e9 a second), library products of 1024 x 1024 on all cores
    (1e9 operations a second), and copying (bytes a second)."""
    import torch

    def best(run: Any, work: float) -> float:
        run()
        times = []
        for _ in range(10):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        return work / min(times)

    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    halves = a.bfloat16(), b.bfloat16()
    large = np.zeros(1 << 27, dtype=np.uint8)
    other = np.empty_like(large)
    products = 2 * 1024**3 / 1e9
    return {
        "registers_per_core": ceiling(),
        "matmul_fp32": best(lambda: a @ b, products),
        "matmul_bf16": best(lambda: halves[0] @ halves[1], products),
        "copy_bytes_per_s": best(lambda: np.copyto(other, large), 2 * large.nbytes),
    }


def operations(folder: Path, texts: list[str]) -> float:
    """Of the original's products, a row: two for each weight and token, and those of attention."""
    from miaotui.models.load import find_model, load_model

    model = load_model(find_model(str(folder)))
    weights = sum(p.numel() for p in model.encoder.layers.parameters() if p.dim() > 1)
    attention = 4 * len(model.encoder.layers) * model.encoder.shape.hidden
    tokens = model.task.encode(texts).lengths.astype(float)
    return float(np.mean(2 * weights * tokens + attention * tokens**2))


def add_shares(results: dict[str, Any], workload: str) -> None:
    """Throughput of each contender as a share of what the processor's int8 would reach."""
    registers = results["ceilings"]["registers_per_core"] or {}
    most = max((rate for name, rate in registers.items() if name.startswith("int8")), default=None)
    for own in results["workloads"][workload].values():
        rate = float(np.median(own["rows_per_s"])) * results["operations_per_row"][workload] / 1e9
        cores = results["conditions"]["cores"]
        own["share_of_int8_ceiling"] = None if most is None else rate / (most * cores)


# --- contenders, each a process ---


class Contender:
    """A child that works when it is told to. Once it has failed it does nothing, and `failed` says
    why; `facts` are what it told when it was open."""

    def __init__(
        self, name: str, source: Path, texts: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.failed = ""
        cores = str(len(os.sched_getaffinity(0)))
        script = Path(__file__).with_name("contender.py")
        command = [sys.executable, str(script), name, str(source), cores, str(texts)]
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | dict(environment or {}),
        )
        self.facts = self._told()

    def do(self, what: str, workload: str, seconds: float, rate: float = 0.0) -> dict[str, Any]:
        if self.failed:
            return {}
        command = {"do": what, "workload": workload, "seconds": seconds, "rate": rate}
        try:
            self._child.stdin.write(json.dumps(command) + "\n")  # type: ignore[union-attr]
            self._child.stdin.flush()  # type: ignore[union-attr]
        except OSError:
            self.failed = f"ended with {self._child.wait()}"
            return {}
        return self._told()

    def _told(self) -> dict[str, Any]:
        line = self._child.stdout.readline()  # type: ignore[union-attr]
        told = json.loads(line) if line else {"error": f"ended with {self._child.wait()}"}
        self.failed = told.get("error", "")
        return {} if self.failed else told

    def close(self) -> None:
        with suppress(BrokenPipeError):  # one that was killed
            self._child.stdin.close()  # type: ignore[union-attr]
        self._child.wait()


def opened(given: argparse.Namespace, texts: Path) -> tuple[list[Contender], dict[str, str]]:
    """One after another; who cannot be opened, and why."""
    names = [rival.name for rival in (*RIVALS, *MORE_RIVALS)]
    wanted = given.only.split(",") if given.only else names
    sources = [(f"miaotui:{folder.name}", folder) for folder in given.bundle]
    sources += [(name, given.model) for name in names if name in wanted]
    ready, absent = [], {}
    for name, source in sources:
        say(f"opening {name}")
        contender = Contender(name, source, texts)
        if contender.failed:
            absent[name] = contender.failed
            say(f"{name} is left out: {absent[name]}")
        else:
            ready.append(contender)
    return ready, absent


def compare_labels(facts: dict[str, dict[str, Any]]) -> None:
    """Puts in place of each contender's labels the share that are those of the original in eager
    fp32, where that takes part: who is fast and answers otherwise has not won."""
    labels = {name: own.pop("labels") for name, own in facts.items()}
    for name, own in facts.items():
        if ORIGINAL in labels:
            pairs = zip(labels[name], labels[ORIGINAL], strict=True)
            own["agreement"] = float(np.mean([one == other for one, other in pairs]))


def measured(contenders: list[Contender], workload: str, given: argparse.Namespace) -> Any:
    """By contender: rows/s and median latency of each round, percentiles over all of its calls,
    then the open loops. One that fails has no more rounds."""
    rates: dict[str, list[float]] = {c.name: [] for c in contenders}
    medians: dict[str, list[float]] = {c.name: [] for c in contenders}
    calls: dict[str, list[float]] = {c.name: [] for c in contenders}
    began = time.perf_counter()
    for number in range(given.rounds + 1):
        for i in round_order(len(contenders), number):
            contender, name = contenders[i], contenders[i].name
            rate = contender.do("throughput", workload, given.seconds)
            times = contender.do("latency", workload, given.seconds).get("ms")
            if not number or not times:  # the first compiles shapes and fills caches
                continue
            rates[name].append(rate["rows_per_s"])
            medians[name].append(float(np.median(times)))
            calls[name] += times
        left = (time.perf_counter() - began) / (number + 1) * (given.rounds - number)
        say(f"{workload}: round {number} of {given.rounds}, about {left:.0f} s left")
    return {
        contender.name: {
            "rows_per_s": rates[contender.name],
            "p50_ms": medians[contender.name],
            "latency_ms": percentiles(calls[contender.name]),
            "open": loops(contender, workload, rates[contender.name], given.seconds),
        }
        for contender in contenders
        if rates[contender.name] and not contender.failed
    }


def loops(contender: Contender, workload: str, rates: list[float], seconds: float) -> Any:
    results = {}
    for load in LOADS:
        rate = load * float(np.median(rates))
        times = contender.do("open", workload, 5 * seconds, rate).get("ms", [])
        results[str(load)] = {"rate_per_s": rate, "ms": percentiles(times)}
    return results


def percentiles(times: list[float]) -> dict[str, float | int | None]:
    """None where the calls are too few to tell: ten must lie above it."""
    results: dict[str, float | int | None] = {"calls": len(times)}
    for q in PERCENTILES:
        enough = len(times) * (100 - q) / 100 >= MOST_SURE_ABOVE
        results[str(q)] = float(np.percentile(times, q)) if enough else None
    return results


# --- what is shown ---


def table(results: dict[str, Any]) -> list[str]:
    lines = []
    for workload, values in results["workloads"].items():
        told_here = "rows/s, share of int8's ceiling, ms p50 / p99 of one text, p99 at 80% load"
        lines.append(f"{workload}: {told_here}")
        for name, own in sorted(values.items(), key=lambda e: -np.median(e[1]["rows_per_s"])):
            told = [own["latency_ms"][q] for q in ("50", "99")]
            told.append(own["open"][str(LOADS[1])]["ms"]["99"])
            shown = " ".join("       -" if value is None else f"{value:8.2f}" for value in told)
            share = own["share_of_int8_ceiling"]
            part = "    -" if share is None else f"{share:5.0%}"
            lines.append(f"  {name:28s} {np.median(own['rows_per_s']):9.1f} {part} {shown}")
        lines += [f"  {line}" for line in ratios(values)]
    lines.append("answers as eager fp32, MB held, seconds from its start to its first answer")
    for name, own in results["processes"].items():
        agrees = f"{own['agreement']:8.1%}" if "agreement" in own else "       -"
        held = own["resident_bytes"] / 1e6
        lines.append(f"  {name:28s} {agrees} {held:8.0f} {own['first_answer_s']:8.1f}")
    lines += [f"absent: {name}: {reason}" for name, reason in results["absent"].items()]
    return lines


def ratios(values: dict[str, Any]) -> list[str]:
    """Each bundle against the best rival of each metric, and in throughput against two by name."""
    ours = [name for name in values if name.startswith("miaotui")]
    rivals = [name for name in values if name not in ours]
    lines = []
    for name in ours:
        for metric, higher in (("rows_per_s", True), ("p50_ms", False)):

            def middle(each: str, metric: str = metric) -> float:
                return float(np.median(values[each][metric]))

            best = (max if higher else min)(rivals, key=middle)
            named = [r for r in THROUGHPUT_RIVALS if higher and r in rivals and r != best]
            for rival in [best, *named]:
                ratio = ratio_interval(
                    values[name][metric], values[rival][metric], higher_is_better=higher
                )
                shown = f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})"
                lines.append(f"{name} {metric}: {shown} {rival}")
        tails = {r: values[r]["latency_ms"]["99"] for r in (name, *rivals)}
        known = {r: value for r, value in tails.items() if value is not None}
        if name in known and len(known) > 1:
            best = min((r for r in known if r != name), key=known.__getitem__)
            lines.append(f"{name} p99_ms: {known[best] / known[name]:.2f}x {best}")
    return lines


def picture(workloads: dict[str, Any]) -> str:
    """Bars of throughput, each workload to its own scale, as an SVG file."""
    width, label, step = 760, 230, 20
    parts, y = [], 8
    for workload, values in workloads.items():
        y += 24
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{workload}, rows a second</text>')
        medians = {name: float(np.median(own["rows_per_s"])) for name, own in values.items()}
        most = max(medians.values())
        for name, value in sorted(medians.items(), key=lambda e: -e[1]):
            y += step
            length = (width - label - 80) * value / most
            color = "#2f6f4f" if name.startswith("miaotui") else "#9aa5b1"
            parts.append(
                f'<text x="{label - 8}" y="{y}" text-anchor="end">{name}</text>'
                f'<rect x="{label}" y="{y - 12}" width="{length:.1f}" height="15" fill="{color}"/>'
                f'<text x="{label + length + 6:.1f}" y="{y}">{value:,.0f}</text>'
            )
        y += 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 12}" '
        'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
        + "".join(parts)
        + "</svg>\n"
    )


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
