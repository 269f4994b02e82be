"""Measures a bundle again, here and now, against its own card."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miaotui.bundle import Bundle, Golden, open_bundle, read_bundle
from miaotui.cascade import Cascade
from miaotui.data.labels import encode_labels
from miaotui.data.rows import Columns, load_rows
from miaotui.hardware import limit_cores, probe
from miaotui.measure.quality import default_metric, equal_answers, score
from miaotui.predictor import Predictor
from miaotui.tasks.base import EncodedRows, encoded_rows
from miaotui.tasks.text_classification import TextClassification

_ROUNDS = 10
_ROUND_S = 1.0
_CALLS = 1000


@dataclass(frozen=True)
class Verified:
    """What a bundle does here, beside what its card says. Engine time: no tokenization, since a
    bundle holds lengths and no texts. `agreement` is over the golden rows."""

    bundle: str
    warnings: tuple[str, ...]
    agreement: float | None
    largest_difference: float | None
    throughput_rows_per_s: float
    throughput_range: tuple[float, float]
    p50_ms: float
    p99_ms: float
    card: dict[str, float | None]
    quality: float | None = None
    metric: str | None = None


def verify(
    folder: Path, data: Path | None = None, columns: Columns | None = None, seed: int = 0
) -> Verified:
    """Answers on the golden rows, speed on rows of the stored lengths, quality with `data`."""
    bundle = read_bundle(folder)
    cores = min(int(bundle.manifest["environment"]["cores"]), probe().cores)
    if cores < probe().cores:
        limit_cores(cores)
    predictor = open_bundle(bundle, cores)
    agreement, difference = _golden(predictor, bundle.golden)
    rows = _rows(bundle, predictor, seed)
    speeds, latencies = _speed(predictor, rows)
    metric, quality = _quality(predictor, data, columns or Columns())
    return Verified(
        bundle=str(folder),
        warnings=predictor.warnings,
        agreement=agreement,
        largest_difference=difference,
        throughput_rows_per_s=float(np.median(speeds)),
        throughput_range=(min(speeds), max(speeds)),
        p50_ms=float(np.percentile(latencies, 50)),
        p99_ms=float(np.percentile(latencies, 99)),
        card=dict(bundle.manifest["measured"]),
        quality=quality,
        metric=metric,
    )


def _golden(predictor: Predictor, golden: object) -> tuple[float | None, float | None]:
    if not isinstance(golden, Golden) or not isinstance(predictor.task, TextClassification):
        return None, None
    logits = predictor.logits(golden.rows)
    same = equal_answers(predictor.task.problem, golden.logits, logits)
    return float(same.mean()), float(np.abs(golden.logits - logits).max())


def _rows(bundle: Bundle, predictor: Predictor, seed: int) -> EncodedRows:
    """Random ids in the stored lengths; of a cascade, whose speed depends on what it is sure of,
    the golden rows over and over where there are some."""
    lengths, golden = bundle.manifest["lengths"], bundle.golden
    if not isinstance(predictor.session, Cascade) or golden is None:
        return _rows_of(lengths, predictor, seed)
    wanted = sum(lengths.values())
    return golden.rows.select([i % len(golden.rows) for i in range(wanted)])


def _rows_of(lengths: dict[str, int], predictor: Predictor, seed: int) -> EncodedRows:
    """Rows of random ids in the stored lengths, shuffled."""
    task = predictor.task
    vocab = task.tokenizer.get_vocab_size() if isinstance(task, TextClassification) else 1000
    random = np.random.default_rng(seed)
    wanted = [int(length) for length, count in lengths.items() for _ in range(count)]
    random.shuffle(wanted)
    return encoded_rows([random.integers(0, vocab, length).tolist() for length in wanted])


def _speed(predictor: Predictor, rows: EncodedRows) -> tuple[list[float], list[float]]:
    import time

    began = time.perf_counter()
    predictor.logits(rows)
    repeats = max(1, round(_ROUND_S / (time.perf_counter() - began)))
    speeds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(repeats):
            predictor.logits(rows)
        speeds.append(repeats * len(rows) / (time.perf_counter() - began))
    singles = [rows.select([i % len(rows)]) for i in range(_CALLS)]
    for single in singles[: _CALLS // 4]:
        predictor.logits(single)
    latencies = []
    for single in singles:
        began = time.perf_counter()
        predictor.logits(single)
        latencies.append((time.perf_counter() - began) * 1e3)
    return speeds, latencies


def _quality(
    predictor: Predictor, data: Path | None, columns: Columns
) -> tuple[str | None, float | None]:
    task = predictor.task
    if data is None or not isinstance(task, TextClassification):
        return None, None
    rows = load_rows(data, columns)
    targets = encode_labels(rows.labels or (), task.labels, task.problem, rows.label_order)
    metric = default_metric(task.problem)
    return metric, score(metric, predictor.logits(task.encode(rows.texts)), targets)
