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
from miaotui.pipeline.engine_speed import engine_speed
from miaotui.predictor import Predictor
from miaotui.tasks.base import EncodedRows, encoded_rows
from miaotui.tasks.text_classification import TextClassification

_ROUNDS = 10
_ROUND_S = 1.0
_CALLS = 1000


@dataclass(frozen=True)
class Verified:
    """What a bundle does here, beside what was measured where it was made. Engine time: no
    tokenization, since a bundle holds lengths and no texts. `agreement` is over the golden rows."""

    bundle: str
    warnings: tuple[str, ...]
    agreement: float | None
    largest_difference: float | None
    measured: dict[str, float]
    card: dict[str, float]
    engine_rows_per_s_range: tuple[float, float]
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
    speed = engine_speed(predictor.session, rows, _ROUNDS, _ROUND_S, _CALLS)
    card = {n: v for n, v in bundle.manifest["measured"].items() if n.startswith("engine_")}
    metric = bundle.manifest.get("metric")
    quality = _quality(predictor, data, columns or Columns(), metric)
    return Verified(
        bundle=str(folder),
        warnings=predictor.warnings,
        agreement=agreement,
        largest_difference=difference,
        measured=speed.measured,
        engine_rows_per_s_range=(min(speed.rows_per_s), max(speed.rows_per_s)),
        card=card,
        quality=quality,
        metric=None if quality is None else metric,
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


def _quality(
    predictor: Predictor, data: Path | None, columns: Columns, metric: str | None
) -> float | None:
    task = predictor.task
    if data is None or not isinstance(task, TextClassification):
        return None
    rows = load_rows(data, columns)
    targets = encode_labels(rows.labels or (), task.labels, task.problem, rows.label_order)
    chosen = metric or default_metric(task.problem)
    return score(chosen, predictor.logits(task.encode(rows.texts)), targets)
