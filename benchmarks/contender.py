"""One contender in a process of its own, for rivals.py: opens it, then does what it is told.

    python benchmarks/contender.py NAME MODEL_OR_BUNDLE CORES TEXTS.json

Commands come as lines of JSON and each is answered by one: {"do": "throughput" | "latency" |
"open", "workload": ..., "seconds": ..., "rate": ...}. A rival gets its best batch for each
workload.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from miaotui.hardware import probe, resident_bytes
from miaotui.quiet import silence_telemetry

MOST_WAITING = 32
"""Texts that wait are answered together, at most so many."""

LABELS = 256
"""Texts whose labels are told when it is open."""

Answer = Callable[[list[str]], Any]


def main() -> None:
    name, source, cores, texts_file = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    silence_telemetry()
    workloads: dict[str, list[str]] = json.loads(Path(texts_file).read_text(encoding="utf-8"))
    text = next(iter(workloads.values()))[0]
    try:
        answering = opened_bundle if name.startswith("miaotui") else opened_rival
        answer_of, facts = answering(name, source, int(cores), workloads, text)
        first = next(iter(workloads))
        facts["labels"] = [a.label for a in answer_of(first)(workloads[first][:LABELS])]
    except Exception as error:  # noqa: BLE001  (whatever a library raises is what the table says)
        tell(out, {"error": f"{type(error).__name__}: {error}".splitlines()[0]})
        return
    tell(out, facts)
    for line in sys.stdin:
        told = json.loads(line)
        texts, answer = workloads[told["workload"]], answer_of(told["workload"])
        if told["do"] == "throughput":
            tell(out, throughput(answer, texts, told["seconds"]))
        elif told["do"] == "latency":
            tell(out, latency(answer, texts, told["seconds"]))
        else:
            tell(out, open_loop(answer, texts, told["seconds"], told["rate"]))


def tell(out: Any, facts: dict[str, Any]) -> None:
    out.write(json.dumps(facts | {"resident_bytes": resident_bytes()}) + "\n")
    out.flush()


def since_start() -> float:
    """Seconds. The kernel counts a process's start in ticks since the machine's; the time of day of
    that is known to a second only."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


Opened = tuple[Callable[[str], Answer], dict[str, Any]]


def opened_bundle(
    name: str, source: str, cores: int, workloads: dict[str, list[str]], text: str
) -> Opened:
    from miaotui.bundle import load

    predictor = load(source, cores)
    predictor([text])
    return lambda workload: predictor, {"first_answer_s": since_start()}


def opened_rival(
    name: str, source: str, cores: int, workloads: dict[str, list[str]], text: str
) -> Opened:
    """On the original model. Its first answer is that of one text: no batch is chosen before."""
    from miaotui.engines.base import Session
    from miaotui.models.load import (
        find_model,
        load_config,
        load_model,
        load_transformers,
        padded_model,
    )
    from miaotui.predictor import Predictor
    from miaotui.rivals import MORE_RIVALS, RIVALS, StockModel
    from miaotui.rivals.opening import at_best_batch

    rival = next(known for known in (*RIVALS, *MORE_RIVALS) if known.name == name)
    machine = probe()
    reason = rival.unavailable(machine)
    if reason is not None:
        raise ImportError(reason)
    place = find_model(source)
    began = time.perf_counter()
    task = load_model(place).task  # for its tokenizer: no part of what the rival needs
    spared = time.perf_counter() - began
    config = load_config(place)
    module = padded_model(load_transformers(place, config, type(task)), type(task))
    calibration = task.encode([text for texts in workloads.values() for text in texts[:300]])
    folder = Path(tempfile.mkdtemp(prefix="rival-"))
    stock = StockModel(module, calibration, folder, cores, machine.saturates_int8)
    runner = rival.runner(stock)
    single = rival.layouts([1])[0]
    Predictor(task, Session(runner, single, single=single))([text])
    facts = {"first_answer_s": since_start() - spared}

    @cache
    def answer_of(workload: str) -> Answer:
        return at_best_batch(rival, runner, task, task.encode(workloads[workload])).predictor

    return answer_of, facts


def throughput(answer: Answer, texts: list[str], seconds: float) -> dict[str, Any]:
    """Whole passes over the texts until the time is over."""
    rows, began = 0, time.perf_counter()
    while True:
        answer(texts)
        rows += len(texts)
        took = time.perf_counter() - began
        if took >= seconds:
            return {"rows_per_s": rows / took}


def latency(answer: Answer, texts: list[str], seconds: float) -> dict[str, Any]:
    """One text a call, the next when the last is answered; milliseconds of each call."""
    times: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        started = time.perf_counter()
        answer([texts[len(times) % len(texts)]])
        times.append((time.perf_counter() - started) * 1e3)
    return {"ms": times}


def open_loop(answer: Answer, texts: list[str], seconds: float, rate: float) -> dict[str, Any]:
    """Texts arrive at random, `rate` a second whatever is still waiting; from arrival to answer."""
    draw = np.random.default_rng(0)
    arrivals = np.cumsum(draw.exponential(1 / rate, size=max(1, int(rate * seconds))))
    done: list[float] = []
    began = time.perf_counter()
    while len(done) < len(arrivals):
        now = time.perf_counter() - began
        waiting = int(np.searchsorted(arrivals, now, side="right")) - len(done)
        if waiting <= 0:
            time.sleep(max(0.0, arrivals[len(done)] - now))
            continue
        count = min(waiting, MOST_WAITING)
        answer([texts[i % len(texts)] for i in range(len(done), len(done) + count)])
        ended = time.perf_counter() - began
        done += [(ended - at) * 1e3 for at in arrivals[len(done) : len(done) + count]]
    return {"ms": done}


if __name__ == "__main__":
    main()
