"""Loads model and rows, splits them, and has the original answer: all that a search starts from."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miaotui.data.held_out import splits_with
from miaotui.data.labels import encode_labels
from miaotui.data.rows import Rows, check_trainable, load_rows
from miaotui.data.saved_splits import load_splits
from miaotui.data.split import DataSplits
from miaotui.data.unlabelled import Unlabelled, load_unlabelled
from miaotui.engines.torch import TorchEngine
from miaotui.errors import OutputError
from miaotui.hardware import Machine, environment_fingerprint, limit_cores, probe
from miaotui.measure.quality import check_metric, default_metric, score
from miaotui.models.load import Source, find_model, load_model
from miaotui.models.model import Calibration, Model
from miaotui.pipeline.options import OptimizeOptions
from miaotui.search.build import build_and_open
from miaotui.search.context import Context, Judged
from miaotui.tasks.text_classification import Problem, TextClassification

_WARN_GAP = 0.03
_GAP_ROWS = 500
_UNLABELLED_ROWS = 60_000


@dataclass(frozen=True)
class Prepared:
    """A search's context, the splits it came from, and what the card must say about them."""

    source: Source
    context: Context
    splits: DataSplits
    notes: tuple[str, ...]

    def test(self) -> Judged:
        """Opens the test split: the original answers it, nothing else has seen it."""
        return judged(self.context, self.splits.test)


def prepare(options: OptimizeOptions) -> Prepared:
    """Everything that can be wrong with the input is found here, before anything is written."""
    machine = probe()
    source = find_model(options.model, options.revision)
    rows = load_rows(options.rows.data, options.rows.columns)
    model = load_model(source)
    check_trainable(rows, regression=model.task.problem is Problem.REGRESSION)
    metric = options.metric or default_metric(model.task.problem)
    check_metric(metric, model.task.problem)
    _targets(rows, model.task)
    cores = options.cores or machine.cores
    if cores != machine.cores:
        limit_cores(cores)
    saved = load_splits(source.folder)
    splits = splits_with(
        rows,
        _optional(options.rows.selection, options),
        _optional(options.rows.test, options),
        seed=options.rows.seed,
        saved=saved,
    )
    unlabelled = _unlabelled(options, splits)
    work = _work_folder(options)
    context = _context(options, model, splits, machine, cores, metric, work, unlabelled)
    notes = _notes(splits, saved is not None, unlabelled, context)
    return Prepared(source, context, splits, notes)


def _optional(path: Path | None, options: OptimizeOptions) -> Rows | None:
    return None if path is None else load_rows(path, options.rows.columns)


def _unlabelled(options: OptimizeOptions, splits: DataSplits) -> Unlabelled | None:
    if options.rows.unlabelled is None:
        return None
    held_out = splits.held_out_hashes
    return load_unlabelled(options.rows.unlabelled, held_out, options.rows.columns)


def _work_folder(options: OptimizeOptions) -> Path:
    work = options.work
    if options.fresh:
        shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{options.out} cannot be written: {error.strerror}") from error
    return work


def _targets(rows: Rows, task: TextClassification) -> np.ndarray:
    return encode_labels(rows.labels or (), task.labels, task.problem, rows.label_order)


def _context(  # noqa: PLR0913  (the one place where everything comes together)
    options: OptimizeOptions,
    model: Model,
    splits: DataSplits,
    machine: Machine,
    cores: int,
    metric: str,
    work: Path,
    unlabelled: Unlabelled | None,
) -> Context:
    task = model.task
    extra = None
    if unlabelled is not None and unlabelled.texts:
        extra = task.encode(unlabelled.texts[:_UNLABELLED_ROWS])
    selection = splits.selection
    texts = selection.texts
    encoded = task.encode(texts)
    context = Context(
        model=model,
        machine=machine,
        cores=cores,
        metric=metric,
        train=_calibration(splits.train, task),
        validation=_calibration(splits.validation, task),
        unlabelled=extra,
        selection=Judged(texts, encoded, _targets(selection, task), np.zeros((0, 0), np.float32)),
        work=work,
        fingerprint=_fingerprint(options, model, splits, machine, cores),
        seed=options.rows.seed,
    )
    return _with_original(context)


def _calibration(rows: Rows, task: TextClassification) -> Calibration:
    return Calibration(task.encode(rows.texts), _targets(rows, task))


def _with_original(context: Context) -> Context:
    from dataclasses import replace

    logits = _original_logits(context, context.selection)
    return replace(context, selection=replace(context.selection, original=logits))


def judged(context: Context, rows: Rows) -> Judged:
    """Rows with targets and the original's answers (torch, fp32, same truncation)."""
    task = context.model.task
    bare = Judged(rows.texts, task.encode(rows.texts), _targets(rows, task), np.zeros((0, 0)))
    return Judged(bare.texts, bare.rows, bare.targets, _original_logits(context, bare))


def _original_logits(context: Context, rows: Judged) -> np.ndarray:
    folder = context.work / "engines" / "original"
    session = build_and_open(TorchEngine(), context.model, context, folder)
    logits = session.run(rows.rows)
    session.close()
    return logits


def _fingerprint(
    options: OptimizeOptions, model: Model, splits: DataSplits, machine: Machine, cores: int
) -> str:
    """Of model, data and environment: trials of another of these are never taken over."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().view(-1).numpy().tobytes())
    for rows in (splits.train, splits.validation, splits.selection, splits.test):
        digest.update(repr((rows.texts, rows.labels)).encode())
    digest.update(f"{environment_fingerprint(machine)}{cores}{options.metric}".encode())
    return digest.hexdigest()[:12]


def _notes(
    splits: DataSplits, known: bool, unlabelled: Unlabelled | None, context: Context
) -> tuple[str, ...]:
    notes = []
    if not known:
        notes.append(
            "the model came without splits.json, so its rows may have been trained on: the "
            "original's quality may be overstated"
        )
        notes += _gap(splits, context)
    if unlabelled is not None and unlabelled.dropped_equal:
        notes.append(f"{unlabelled.dropped_equal} unlabelled texts equal a held-out row: dropped")
    cut = context.train.rows.truncated
    if cut is not None:
        limit = context.model.task.max_tokens
        notes.append(f"{int(cut.sum())} training rows are longer than {limit} tokens: truncated")
    if not context.model.has_adapter:
        notes.append(
            f"{context.model.family} has no adapter: pruning, factorization, distillation and "
            "packing were not tried; engines, quantization and buckets were"
        )
    return tuple(notes)


def _gap(splits: DataSplits, context: Context) -> list[str]:
    """Warns where training rows score clearly above held-out ones: they were seen before."""
    count = min(_GAP_ROWS, len(splits.train))
    seen = judged(context, splits.train.select(range(count)))
    gap = score(context.metric, seen.original, seen.targets) - context.original_quality
    if gap <= _WARN_GAP:
        return []
    return [f"training rows score {gap * 100:.1f} points above held-out ones: likely trained on"]
