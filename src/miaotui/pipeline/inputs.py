"""Model and rows, read and split. What is wrong with them is found here; nothing is written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from miaotui.data.held_out import splits_with
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
from miaotui.pipeline.own_answers import OwnAnswers
from miaotui.tasks import Task, task_named
from miaotui.tasks.metrics import AGREEMENT_NAME
from miaotui.tasks.rows_read import RowsRead, rows_read

_AGREEMENT = "agreement with the original's own answers"
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
    answered_rows: Mapping[str, int] | None = None
    """Of each file, where the original's answers stand in for labels."""


def unheard(read: RowsRead) -> None:
    """Says nothing."""


def read_inputs(
    options: OptimizeOptions, on_read: OnRead = unheard, sample: int | None = None
) -> Inputs:
    """`on_read` hears of each file as it is read. Limits this process to the cores asked for. With
    `sample` no more rows are answered where answers stand in for labels."""
    machine = probe()
    source = find_model(options.model, options.revision)
    asked = None if options.task is None else task_named(options.task)
    model = load_model(source, asked)
    _check_task(model.task, asked)
    cores = use_cores(options.cores)
    own = OwnAnswers(model, cores, options, sample) if options.by_agreement else None
    files, given = _Files(model.task, options, own, on_read), options.rows
    rows = files.judged_(given.data)
    model.task.check_trainable(rows)
    metric, why = _metric(options, model.task, rows)
    each_class = options.budget.max_class_drop is not None
    judge = judge_for(model.task, metric, each_class)
    saved = load_splits(source.folder)
    selection = None if given.selection is None else files.judged_(given.selection)
    test = None if given.test is None else files.judged_(given.test)
    others = None if given.unlabelled is None else files.read_(given.unlabelled, False).texts
    if own is not None and own.rest:
        others = (*own.rest, *(others or ()))
    enough = others is not None and len(others) >= len(rows)
    fractions = _WITH_OTHER_TEXTS if enough else DEFAULT_FRACTIONS
    splits = splits_with(rows, selection, test, seed=given.seed, fractions=fractions, saved=saved)
    return Inputs(
        source=source,
        machine=machine,
        cores=cores,
        model=model,
        judge=judge,
        splits=splits,
        knows_splits=saved is not None,
        unlabelled=None if others is None else distinct(others, splits.held_out_hashes),
        read=tuple(files.read),
        notes=() if why is None else (why,),
        answered_rows=None if own is None else own.counts,
    )


@dataclass
class _Files:
    """Reads files of rows and keeps what was read of each."""

    task: Task
    options: OptimizeOptions
    own: OwnAnswers | None
    on_read: OnRead
    read: list[RowsRead] = field(default_factory=list)

    def read_(self, path: Path, labelled: bool) -> Rows:
        given = self.options.rows
        try:
            rows = self.task.read_rows(path, given.columns, labelled)
        except LabelsMissing as error:
            raise LabelsMissing(f"{error}; or give --max-change 1%, which needs none") from error
        encoded = calibration(rows, self.task).rows if labelled and path == given.data else None
        self.read.append(rows_read(self.task, rows, encoded))
        self.on_read(self.read[-1])
        return rows

    def judged_(self, path: Path) -> Rows:
        """With labels: those of the file, or the original's own answers."""
        rows = self.read_(path, labelled=self.own is None)
        return rows if self.own is None else self.own.label_(rows)


def _metric(options: OptimizeOptions, task: Task, rows: Rows) -> tuple[str, str | None]:
    """What is judged by, and why where nobody asked for it by name."""
    if options.by_agreement:
        values = not task.class_metrics
        by = "rank correlation with the original's own values" if values else _AGREEMENT
        return AGREEMENT_NAME, f"judged by {by}: no label was looked at"
    if options.metric == AGREEMENT_NAME:
        raise BudgetError("agreement with the original is judged by --max-change, without labels")
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
