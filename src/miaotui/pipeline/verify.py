"""Measures a bundle again, here and now, against its own card."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miaotui.bundle import Bundle, open_bundle, read_bundle
from miaotui.cascade import Cascade
from miaotui.data.columns import Columns
from miaotui.data.rows import Rows
from miaotui.golden import Golden
from miaotui.hardware import probe, use_cores
from miaotui.measure.judge import judge_for
from miaotui.pipeline.engine_speed import engine_speed
from miaotui.predictor import Predictor
from miaotui.process import process_as_found
from miaotui.tasks.base import EncodedRows, encoded_rows
from miaotui.tasks.rows_read import RowsRead, rows_read
from miaotui.tasks.task import Task

_ROUNDS = 10
_ROUND_S = 1.0
_CALLS = 1000


@dataclass(frozen=True)
class Verified:
    """What a bundle does here, beside what was measured where it was made. Engine time: no
    tokenization, since a bundle holds lengths and no texts. `agreement` is over the golden rows."""

    bundle: str
    runs_on: str
    warnings: tuple[str, ...]
    agreement: float | None
    largest_difference: float | None
    measured: dict[str, float]
    card: dict[str, float]
    engine_rows_per_s_range: tuple[float, float]
    quality: float | None = None
    metric: str | None = None
    read: RowsRead | None = None


@process_as_found()
def verify(
    folder: Path, data: Path | None = None, columns: Columns | None = None, seed: int = 0
) -> Verified:
    """Answers on the golden rows, speed on rows of the stored lengths, quality with `data`."""
    bundle = read_bundle(folder)
    cores = use_cores(bundle.usual_cores(probe()))
    card = {n: v for n, v in bundle.manifest["measured"].items() if n.startswith("engine_")}
    metric = bundle.metric
    with open_bundle(bundle, cores) as predictor:
        agreement, difference = _golden(predictor, bundle.golden)
        rows = rows_like(bundle, predictor.task, isinstance(predictor.session, Cascade), seed)
        speed = engine_speed(predictor.session, rows, _ROUNDS, _ROUND_S, _CALLS)
        rows_given = None if data is None else predictor.task.read_rows(data, columns or Columns())
        quality = None if rows_given is None else _quality(predictor, rows_given, metric)
        read = None if rows_given is None else rows_read(predictor.task, rows_given)
    return Verified(
        bundle=str(folder),
        runs_on=predictor.runs_on,
        warnings=predictor.warnings,
        agreement=agreement,
        largest_difference=difference,
        measured=speed.measured,
        engine_rows_per_s_range=(min(speed.rows_per_s), max(speed.rows_per_s)),
        card=card,
        quality=quality,
        metric=None if quality is None else metric,
        read=read,
    )


def _golden(predictor: Predictor, golden: Golden | None) -> tuple[float | None, float | None]:
    if golden is None:
        return None, None
    near = golden.nearness(predictor.task, predictor.session)
    return near.agreement, near.largest_difference


def rows_like(bundle: Bundle, task: Task, is_cascade: bool, seed: int = 0) -> EncodedRows:
    """Random ids in the stored lengths; of a cascade, whose speed depends on what it is sure of,
    the golden rows over and over where there are some."""
    lengths, golden = bundle.manifest["lengths"], bundle.golden
    if not is_cascade or golden is None:
        return _random_rows(lengths, task, seed)
    wanted = sum(lengths.values())
    return golden.rows.select([i % len(golden.rows) for i in range(wanted)])


def _random_rows(lengths: dict[str, int], task: Task, seed: int) -> EncodedRows:
    """Rows of random ids in the stored lengths, shuffled."""
    vocab = task.tokenizer.get_vocab_size()
    random = np.random.default_rng(seed)
    wanted = [int(length) for length, count in lengths.items() for _ in range(count)]
    random.shuffle(wanted)
    rows = encoded_rows([random.integers(0, vocab, length).tolist() for length in wanted])
    return task.readable(rows)


def _quality(predictor: Predictor, rows: Rows, metric: str | None) -> float:
    judge = judge_for(predictor.task, metric)
    return judge.original_quality(judge.split(rows, predictor.session))
