"""Model and rows, read and split. What is wrong with them is found here; nothing is written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from miaotui.data.held_out import splits_with
from miaotui.data.inputs import Text
from miaotui.data.rows import Rows
from miaotui.data.saved_splits import load_splits
from miaotui.data.split import DEFAULT_FRACTIONS, DataSplits, Fractions
from miaotui.data.unlabelled import Unlabelled, distinct
from miaotui.errors import BudgetError, LabelsMissing, ModelError
from miaotui.hardware import Machine, probe, use_cores
from miaotui.measure.judge import OutputsJudge, judge_for
from miaotui.models.load import Source, find_model, load_model
from miaotui.models.model import Calibration, Model
from miaotui.pipeline.options import OptimizeOptions
from miaotui.pipeline.own_answers import METRIC, own_answers
from miaotui.tasks import Task, task_named
from miaotui.tasks.rows_read import RowsRead, rows_read

_WITH_OTHER_TEXTS = Fractions(test=0.3, selection=0.12)
"""Where as many other texts are there to distil on: what is not needed for training tests."""

OnRead = Callable[[RowsRead], None]


@dataclass(frozen=True)
class Inputs:
    """What `optimize` starts from. `knows_splits`: the model came with those that it was trained
    with. `read` says what was read of each file, the rows' own first, `notes` what else the card
    must say."""

    source: Source
    machine: Machine
    cores: int
    model: Model
    judge: OutputsJudge
    splits: DataSplits
    knows_splits: bool
    unlabelled: Unlabelled | None
    read: tuple[RowsRead, ...]
    notes: tuple[str, ...]
    answered_rows: int | None = None
    """Of the main file, where the original's answers stand in for labels."""


def unheard(read: RowsRead) -> None:
    """Says nothing."""


def read_inputs(options: OptimizeOptions, on_read: OnRead = unheard) -> Inputs:
    """`on_read` hears of each file as it is read. Limits this process to the cores asked for."""
    machine = probe()
    source = find_model(options.model, options.revision)
    asked = None if options.task is None else task_named(options.task)
    model = load_model(source, asked)
    _check_task(model.task, asked)
    given, read = options.rows, []

    cores = use_cores(options.cores)
    rest: list[Text] = []

    def rows_of(path: Path, labelled: bool = not options.by_agreement) -> Rows:
        try:
            rows = model.task.read_rows(path, given.columns, labelled)
        except LabelsMissing as error:
            raise LabelsMissing(f"{error}; or give --max-change 1%, which needs none") from error
        encoded = calibration(rows, model.task).rows if labelled and path == given.data else None
        read.append(rows_read(model.task, rows, encoded))
        on_read(read[-1])
        return rows

    def judged_rows(path: Path) -> Rows:
        rows = rows_of(path)
        if not options.by_agreement:
            return rows
        answered = own_answers(rows, model, cores, options)
        rest.extend(answered.rest)
        return answered.rows

    rows = judged_rows(given.data)
    model.task.check_trainable(rows)
    metric, why = _metric(options, model.task, rows)
    each_class = options.budget.max_class_drop is not None
    judge = judge_for(model.task, metric, each_class)
    saved = load_splits(source.folder)
    selection = None if given.selection is None else judged_rows(given.selection)
    test = None if given.test is None else judged_rows(given.test)
    if given.unlabelled is not None:
        rest.extend(rows_of(given.unlabelled, labelled=False).texts)
    fractions = DEFAULT_FRACTIONS if len(rest) < len(rows) else _WITH_OTHER_TEXTS
    splits = splits_with(rows, selection, test, seed=given.seed, fractions=fractions, saved=saved)
    asks_for_more = bool(rest) or given.unlabelled is not None
    unlabelled = distinct(rest, splits.held_out_hashes) if asks_for_more else None
    return Inputs(
        source=source,
        machine=machine,
        cores=cores,
        model=model,
        judge=judge,
        splits=splits,
        knows_splits=saved is not None,
        unlabelled=unlabelled,
        read=tuple(read),
        notes=() if why is None else (why,),
        answered_rows=len(rows) if options.by_agreement else None,
    )


def _metric(options: OptimizeOptions, task: Task, rows: Rows) -> tuple[str, str | None]:
    """What is judged by, and why where nobody asked for it by name."""
    if options.by_agreement:
        if options.metric is not None:
            raise BudgetError("--max-change judges by agreement alone; leave --metric out")
        told = "judged by agreement with the original's own answers: no label was looked at"
        return METRIC, told
    if options.metric is not None:
        return options.metric, None
    metric, why = task.metric_for(rows)
    return metric.name, why


def calibration(rows: Rows, task: Task) -> Calibration:
    """The rows as token ids and targets; labels that the task does not know are a DataError."""
    encoded = task.encode(rows.texts)
    return Calibration(encoded, task.targets(rows, encoded))


def _check_task(task: Task, asked: type[Task] | None) -> None:
    if asked is not None and task.name != asked.name:
        raise ModelError(
            f"the model was trained for {task.name}, not for {asked.name}; leave "
            "--task out, or give another model"
        )
