"""Loads model and rows, splits them, and has the original answer: all that a search starts from."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miaotui.data.rows import Rows
from miaotui.data.split import DataSplits
from miaotui.engines import REFERENCE
from miaotui.engines.base import RowRunner
from miaotui.errors import (
    BudgetError,
    DataError,
    EngineUnavailable,
    ModelError,
    OutputError,
    RecipeError,
)
from miaotui.hardware import environment_fingerprint
from miaotui.measure.judge import Split
from miaotui.models.latency_table import LatencyTable
from miaotui.models.load import Source
from miaotui.models.model import Calibration
from miaotui.pipeline.affordable import affordable_splits
from miaotui.pipeline.inputs import Inputs, OnRead, calibration, read_inputs, unheard
from miaotui.pipeline.options import SMALLEST_FOR_SURGERY, OptimizeOptions
from miaotui.pipeline.own_answers import COUNTS_FILE
from miaotui.search.build import build_and_open
from miaotui.search.context import Context, write_json
from miaotui.tasks.base import EncodedRows, joined
from miaotui.tasks.outputs import one_a_row
from miaotui.tasks.rows_read import RowsRead
from miaotui.version import __version__

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
    read: tuple[RowsRead, ...] = ()

    def with_latency(self, table: LatencyTable | None) -> "Prepared":
        return replace(self, context=self.context.with_latency(table))

    def test(self) -> Split:
        """Opens the test split: the original answers it, nothing else has seen it."""
        with _original(self.context) as session:
            return self.context.judge.split(self.splits.test, session)


def prepare(options: OptimizeOptions, on_read: OnRead = unheard) -> Prepared:
    """Everything that can be wrong with the input is found here, before anything is written."""
    inputs = read_inputs(options, on_read)
    splits = inputs.splits
    bare = bare_context(inputs, _unlabelled_rows(inputs), options, _work_folder(options))
    if inputs.answered_rows is not None:
        write_json(bare.work / COUNTS_FILE, dict(inputs.answered_rows))
    with _original(bare) as session:
        memory = bare.work / f"rows-{bare.fingerprint}.json"
        budget_s, seed = options.budget.time_budget_s, options.rows.seed
        splits, cut = affordable_splits(splits, session, bare.model.task, budget_s, seed, memory)
        context = _with_rows(bare, splits, session)
        searches = options.recipe is None and not options.keep_shapes
        notes = _notes(splits, inputs, context, session, searches)
    told = (*inputs.notes, *inputs.read[0].notes, *cut, *notes)
    return Prepared(inputs.source, context, splits, told, inputs.read)


def _unlabelled_rows(inputs: Inputs) -> EncodedRows | None:
    unlabelled = inputs.unlabelled
    if unlabelled is None or not unlabelled.texts:
        return None
    return inputs.model.task.encode(unlabelled.texts[:_UNLABELLED_ROWS])


def _work_folder(options: OptimizeOptions) -> Path:
    work = options.work
    if options.fresh:
        shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{options.out} cannot be written: {error.strerror}") from error
    return work


@contextmanager
def nothing_left_of_a_refusal(options: OptimizeOptions) -> Iterator[None]:
    """Input that turns out bad leaves no work folder, unless that was there or a search had begun
    to fill it: then it is worth going on from."""
    existed = options.work.exists()
    try:
        yield
    except (BudgetError, DataError, EngineUnavailable, ModelError, RecipeError):
        searched = options.recipe is None and any((options.work / "trials").glob("*.json"))
        if not existed and not searched:
            shutil.rmtree(options.work, ignore_errors=True)
        raise


def bare_context(
    inputs: Inputs, extra: EncodedRows | None, options: OptimizeOptions, work: Path
) -> Context:
    """The context, its rows still to come; `work` need not be there."""
    none = Calibration(joined([]), one_a_row(np.zeros(0)))
    return Context(
        model=inputs.model,
        machine=inputs.machine,
        cores=inputs.cores,
        judge=inputs.judge,
        train=none,
        validation=none,
        unlabelled=extra,
        selection=Split((), none.rows, none.targets, none.targets),
        test_rows=len(inputs.splits.test),
        work=work,
        fingerprint=_fingerprint(inputs, extra, options),
        seed=options.rows.seed,
    )


def _with_rows(bare: Context, splits: DataSplits, session: RowRunner) -> Context:
    task = bare.model.task
    return replace(
        bare,
        train=calibration(shuffled(splits.train, bare.seed), task),
        validation=calibration(splits.validation, task),
        selection=bare.judge.split(splits.selection, session),
        test_rows=len(splits.test),
    )


def shuffled(rows: Rows, seed: int) -> Rows:
    """Techniques look at the first rows, and a file may be sorted by label."""
    return rows.select(np.random.default_rng(seed).permutation(len(rows)).tolist())


def _original(context: Context) -> RowRunner:
    folder = context.work / "engines" / "original"
    return build_and_open(REFERENCE(), context.model, context, folder)


def _fingerprint(inputs: Inputs, extra: EncodedRows | None, options: OptimizeOptions) -> str:
    """Of model, data, environment and this code: trials of another of these are not taken over."""
    digest = hashlib.sha256()
    for name, tensor in sorted(inputs.model.module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().view(-1).numpy().tobytes())
    splits = inputs.splits
    for rows in (splits.train, splits.validation, splits.selection, splits.test):
        digest.update(repr((rows.texts, rows.labels)).encode())
    if extra is not None:
        digest.update(extra.ids.tobytes() + extra.starts.tobytes())
    environment = environment_fingerprint(inputs.machine)
    each_class = options.budget.max_class_drop is not None
    asked = f"{options.metric} {each_class} {options.by_agreement}"
    settings = f"{options.rows.seed} {environment}{inputs.cores}{asked} {__version__}"
    digest.update(settings.encode())
    return digest.hexdigest()[:12]


def _notes(
    splits: DataSplits, inputs: Inputs, context: Context, session: RowRunner, searches: bool
) -> tuple[str, ...]:
    notes, unlabelled = list(context.model.notes), inputs.unlabelled
    if not inputs.knows_splits and inputs.answered_rows is None:
        notes.append(
            "the model came without splits.json, so its rows may have been trained on: the "
            "original's quality may be overstated"
        )
        notes += _gap(splits, context, session)
    if unlabelled is not None and unlabelled.dropped_equal:
        notes.append(f"{unlabelled.dropped_equal} unlabelled texts equal a held-out row: dropped")
    notes += _row_notes(splits, context, searches)
    if not context.model.can_shrink:
        notes.append(
            f"{context.model.family} has no adapter: pruning, factorization, distillation and "
            "packing were not tried; engines, quantization and buckets were"
        )
    return tuple(notes)


def _row_notes(splits: DataSplits, context: Context, searches: bool) -> list[str]:
    """What happened to rows on the way."""
    notes = []
    limit = context.model.task.max_tokens
    for name, rows in (("training", context.train.rows), ("selection", context.selection.rows)):
        if rows.truncated is not None:
            count = int(rows.truncated.sum())
            notes.append(f"{count} {name} rows are longer than {limit} tokens: truncated")
    dropped = {
        "rows equal to a row of --eval or --test: dropped": splits.dropped_main,
        "--eval rows equal to a test row or trained on before: dropped": splits.dropped_selection,
        "--test rows trained on before: dropped": splits.dropped_test,
        "rows that splits.json does not know: split anew": splits.unknown,
    }
    notes += [f"{count} {what}" for what, count in dropped.items() if count]
    if len(splits.test) < SMALLEST_FOR_SURGERY and searches:
        notes.append(
            f"{len(splits.test)} test rows are too few to decide what pruning costs (under "
            f"{SMALLEST_FOR_SURGERY}): nothing was pruned, give more rows"
        )
    return notes


def _gap(splits: DataSplits, context: Context, session: RowRunner) -> list[str]:
    """Warns where training rows score clearly above held-out ones: they were seen before."""
    count = min(_GAP_ROWS, len(splits.train))
    chosen = np.random.default_rng(0).permutation(len(splits.train))[:count]
    judge = context.judge
    seen = judge.split(splits.train.select(chosen.tolist()), session)
    gap = judge.original_quality(seen) - judge.original_quality(context.selection)
    if gap <= _WARN_GAP:
        return []
    return [f"training rows score {gap * 100:.1f} points above held-out ones: likely trained on"]
