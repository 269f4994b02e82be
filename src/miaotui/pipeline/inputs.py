"""Model and rows, read and split. What is wrong with them is found here; nothing is written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from miaotui.data.held_out import splits_with
from miaotui.data.rows import Rows
from miaotui.data.saved_splits import load_splits
from miaotui.data.split import DataSplits
from miaotui.data.unlabelled import Unlabelled, distinct
from miaotui.errors import ModelError
from miaotui.hardware import Machine, limit_cores, probe
from miaotui.measure.judge import OutputsJudge, judge_for
from miaotui.models.load import Source, find_model, load_model
from miaotui.models.model import Calibration, Model
from miaotui.pipeline.options import OptimizeOptions
from miaotui.tasks import Task, task_named
from miaotui.tasks.rows_read import RowsRead, rows_read

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

    def rows_of(path: Path, labelled: bool = True) -> Rows:
        rows = model.task.read_rows(path, given.columns, labelled)
        encoded = calibration(rows, model.task).rows if path == given.data else None
        read.append(rows_read(model.task, rows, encoded))
        on_read(read[-1])
        return rows

    rows = rows_of(given.data)
    model.task.check_trainable(rows)
    metric, why = model.task.metric_for(rows)
    each_class = options.budget.max_class_drop is not None
    judge = judge_for(model.task, options.metric or metric.name, each_class)
    cores = options.cores or machine.cores
    if cores != machine.cores:
        limit_cores(cores)
    saved = load_splits(source.folder)
    splits = splits_with(
        rows,
        None if given.selection is None else rows_of(given.selection),
        None if given.test is None else rows_of(given.test),
        seed=given.seed,
        saved=saved,
    )
    unlabelled = None
    if given.unlabelled is not None:
        texts = rows_of(given.unlabelled, labelled=False).texts
        unlabelled = distinct(texts, splits.held_out_hashes)
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
        notes=() if why is None or options.metric else (why,),
    )


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
