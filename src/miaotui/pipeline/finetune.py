"""Fine-tunes an encoder on labelled rows; leaves a plain transformers folder and its splits."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from miaotui.data.columns import Columns
from miaotui.data.held_out import splits_with
from miaotui.data.rows import Rows
from miaotui.data.saved_splits import save_splits
from miaotui.data.split import DataSplits
from miaotui.errors import ModelError, OutputError
from miaotui.measure.judge import judge_for
from miaotui.models.encoder import Encoder
from miaotui.models.families import FAMILY_NAMES, Family, family_of
from miaotui.models.load import (
    Source,
    find_model,
    load_config,
    load_with_notes,
    task_of,
)
from miaotui.models.model import Model
from miaotui.models.tokenizer import load_tokenizer, longest_row
from miaotui.pipeline.inputs import OnRead, unheard
from miaotui.process import process_as_found
from miaotui.tasks import DEFAULT_TASK, TASKS, Task, task_named
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import Targets
from miaotui.tasks.rows_read import RowsRead, rows_read
from miaotui.training.settings import FineTuning
from miaotui.training.trainer import fine_tune

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
StepProgress = Callable[[int, int, float, float | None], None]


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tuning gave: the folder and the metric on the validation rows."""

    folder: Path
    metric: str
    validation: float
    splits: dict[str, int]
    steps: int
    notes: tuple[str, ...] = ()
    read: RowsRead | None = None


@process_as_found()
def finetune(  # noqa: PLR0913  (a verb's settings)
    model: str,
    data: Path,
    out: Path,
    settings: FineTuning | None = None,
    columns: Columns | None = None,
    revision: str | None = None,
    task: str | None = None,
    on_progress: StepProgress | None = None,
    on_read: OnRead = unheard,
) -> FineTuned:
    """Trains on training rows only; selection and test rows are never looked at. Without a `task`,
    it is the model's or the one that the rows are of."""
    settings = settings or FineTuning()
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise OutputError(f"{out} is not empty; give a new folder as --out")
    source = find_model(model, revision)
    config = load_config(source)
    kind = _task(source, config, data, task)
    rows = kind.read_rows(data, columns or Columns())
    longest = longest_row(source.folder, config)
    own = kind.of_rows(load_tokenizer(source.folder, config), rows, longest)
    read = rows_read(own, rows)
    on_read(read)
    own.check_trainable(rows)
    splits = splits_with(rows, seed=settings.seed)
    module, family, started = _start(source, config, own, settings.seed)
    recovered = fine_tune(
        started,
        *_encoded(splits.train, started.task),
        _encoded(splits.validation, started.task),
        settings,
        work=out.with_name(f".{out.name}.training"),
        on_progress=on_progress,
    )
    _save(source, module, family, recovered.model.encoder, splits, out)
    shutil.rmtree(out.with_name(f".{out.name}.training"), ignore_errors=True)
    sizes = {n: len(getattr(splits, n)) for n in ("train", "validation", "selection", "test")}
    metric, validation = _validate(recovered.model, splits)
    notes = (*started.notes, *rows.notes)
    return FineTuned(out, metric, validation, sizes, recovered.steps, notes, read)


def _task(source: Source, config: Any, data: Path, asked: str | None) -> type[Task]:
    """What is asked for, else the task whose rows these are without a doubt, else the model's."""
    if asked is not None:
        return task_named(asked)
    suited = next((task for task in TASKS.values() if task.suits(data)), None)
    return suited or task_of(source, config) or DEFAULT_TASK


def _start(source: Source, config: Any, task: Task, seed: int) -> tuple[Any, Family, Model]:
    family = family_of(config)
    if family is None:
        raise ModelError(
            f"{config.model_type} cannot be fine-tuned here; families: {', '.join(FAMILY_NAMES)}; "
            "fine-tune it with transformers and give the folder to miaotui optimize"
        )
    torch.manual_seed(seed)
    loaded = load_with_notes(source, config, type(task), **task.model_settings())
    encoder = family.encoder(loaded.module, task.reads_tokens)
    return loaded.module, family, Model(encoder, task, family.name, notes=loaded.notes)


def _encoded(rows: Rows, task: Task) -> tuple[EncodedRows, Targets]:
    encoded = task.encode(rows.texts)
    return encoded, task.targets(rows, encoded)


def _save(  # noqa: PLR0913
    source: Source, module: Any, family: Family, encoder: Encoder, splits: DataSplits, out: Path
) -> None:
    """transformers' own folder: the trained weights under its names, tokenizer, splits."""
    module.load_state_dict(family.restored(encoder, module.state_dict()))
    out.mkdir(parents=True, exist_ok=True)
    module.save_pretrained(out)
    for name in _TOKENIZER_FILES:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, out / name)
    if not (out / "tokenizer.json").exists():
        (out / "tokenizer.json").write_text(
            load_tokenizer(source.folder, module.config).to_str(), encoding="utf-8"
        )
    save_splits(out, splits)


def _validate(model: Model, splits: DataSplits) -> tuple[str, float]:
    """The default metric and its value on the validation rows."""
    from miaotui.training.teacher import cache_teacher

    rows, targets = _encoded(splits.validation, model.task)
    judge = judge_for(model.task)
    outputs = cache_teacher(model.encoder, rows).outputs
    return judge.metric, judge.score(outputs, targets, rows.input_starts)
