"""One contender in a process of its own, for rivals.py: opens it, then does what it is told.

    python benchmarks/contender.py NAME MODEL_OR_BUNDLE CORES TEXTS.json

Commands come as lines of JSON and each is answered by one: {"do": "throughput" | "latency" |
"open", "workload": ..., "seconds": ..., "rate": ...}.
"""

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from miaotui.hardware import probe, resident_bytes
from miaotui.quiet import silence_telemetry

MOST_WAITING = 32
"""Texts that wait are answered together, at most so many."""

Answer = Callable[[list[str]], object]


def main() -> None:
    name, source, cores, texts_file = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    silence_telemetry()
    workloads: dict[str, list[str]] = json.loads(Path(texts_file).read_text(encoding="utf-8"))
    try:
        answer, facts = opened(name, source, int(cores), workloads)
        answer([next(iter(workloads.values()))[0]])
    except Exception as error:  # noqa: BLE001  (whatever a library raises is what the table says)
        out.write(json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0]}) + "\n")
        return
    tell(out, facts)
    for line in sys.stdin:
        told = json.loads(line)
        texts = workloads[told["workload"]]
        if told["do"] == "throughput":
            tell(out, throughput(answer, texts, told["seconds"]))
        elif told["do"] == "latency":
            tell(out, latency(answer, texts, told["seconds"]))
        else:
            tell(out, open_loop(answer, texts, told["seconds"], told["rate"]))


def tell(out: Any, facts: dict[str, Any]) -> None:
    out.write(json.dumps(facts | {"resident_bytes": resident_bytes()}) + "\n")
    out.flush()


def opened(
    name: str, source: str, cores: int, workloads: dict[str, list[str]]
) -> tuple[Answer, dict[str, Any]]:
    """A bundle's predictor, or a rival on the original model."""
    if name.startswith("miaotui"):
        from miaotui.bundle import load

        return load(source, cores), {}
    from miaotui.models.load import find_model, load_config, load_model, load_transformers
    from miaotui.models.model import PaddedClassifier
    from miaotui.rivals import MORE_RIVALS, RIVALS, Stock
    from miaotui.rivals.race import open_rival

    rival = next(each for each in (*RIVALS, *MORE_RIVALS) if each.name == name)
    machine = probe()
    reason = rival.unavailable(machine)
    if reason is not None:
        raise ImportError(reason)
    found = find_model(source)
    config = load_config(found)
    module = PaddedClassifier(
        load_transformers(found, config), int(getattr(config, "type_vocab_size", 0) or 0) > 1
    ).eval()
    task = load_model(found).task
    mixed = [text for texts in workloads.values() for text in texts]
    random.Random(0).shuffle(mixed)
    rows = task.encode(mixed[:256])
    folder = Path(tempfile.mkdtemp(prefix="rival-"))
    ready = open_rival(
        rival, Stock(module, rows, folder, cores, machine.saturates_int8), task, rows
    )
    return ready.predictor, {"batch": ready.batch}


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
