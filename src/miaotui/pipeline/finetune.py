"""Fine-tunes an encoder on labelled rows; leaves a plain transformers folder and its splits."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from miaotui.data.held_out import splits_with
from miaotui.data.labels import encode_labels, infer_label_names, infer_problem
from miaotui.data.rows import Columns, Rows, check_trainable, load_rows
from miaotui.data.saved_splits import save_splits
from miaotui.data.split import DataSplits
from miaotui.errors import ModelError, OutputError
from miaotui.measure.quality import default_metric, score
from miaotui.models.encoder import Encoder
from miaotui.models.families import FAMILY_NAMES, Family, family_of
from miaotui.models.load import (
    Source,
    find_model,
    load_config,
    load_tokenizer,
    load_transformers,
    longest_row,
)
from miaotui.models.model import Model
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.text_classification import Problem, TextClassification, text_classification
from miaotui.training.settings import FineTuning
from miaotui.training.trainer import fine_tune

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
_PROBLEM_TYPES = {
    Problem.SINGLE_LABEL: "single_label_classification",
    Problem.MULTI_LABEL: "multi_label_classification",
    Problem.REGRESSION: "regression",
}
StepProgress = Callable[[int, int, float, float | None], None]


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tuning gave: the folder and the metric on the validation rows."""

    folder: Path
    metric: str
    validation: float
    splits: dict[str, int]
    steps: int


def finetune(  # noqa: PLR0913  (a verb's settings)
    model: str,
    data: Path,
    out: Path,
    settings: FineTuning | None = None,
    columns: Columns | None = None,
    revision: str | None = None,
    on_progress: StepProgress | None = None,
) -> FineTuned:
    """Trains on training rows only; selection and test rows are never looked at."""
    settings = settings or FineTuning()
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise OutputError(f"{out} is not empty; give a new folder as --out")
    source = find_model(model, revision)
    rows = load_rows(data, columns or Columns())
    problem = Problem(infer_problem(rows.labels or ()))
    check_trainable(rows, regression=problem is Problem.REGRESSION)
    splits = splits_with(rows, seed=settings.seed)
    names = infer_label_names(rows.labels or ())
    module, family, started = _start(source, names, problem, settings.seed)
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
    metric = default_metric(problem)
    return FineTuned(out, metric, _validate(recovered.model, splits), sizes, recovered.steps)


def _start(
    source: Source, names: tuple[str, ...], problem: Problem, seed: int
) -> tuple[Any, Family, Model]:
    config = load_config(source)
    family = family_of(config)
    if family is None:
        raise ModelError(
            f"{config.model_type} cannot be fine-tuned here; families: {', '.join(FAMILY_NAMES)}; "
            "fine-tune it with transformers and give the folder to miaotui optimize"
        )
    torch.manual_seed(seed)
    module = load_transformers(
        source,
        config,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        problem_type=_PROBLEM_TYPES[problem],
    )
    task = text_classification(load_tokenizer(source), names, problem, longest_row(source, config))
    encoder = Encoder(family.shape(module.config))
    encoder.load_state_dict(family.weights(module.state_dict()))
    return module, family, Model(encoder.eval(), task, family.name)


def _encoded(rows: Rows, task: TextClassification) -> tuple[EncodedRows, Any]:
    targets = encode_labels(rows.labels or (), task.labels, task.problem, rows.label_order)
    return task.encode(rows.texts), targets


def _save(  # noqa: PLR0913
    source: Source, module: Any, family: Family, encoder: Encoder, splits: DataSplits, out: Path
) -> None:
    """transformers' own folder: the trained weights under its names, tokenizer, splits."""
    trained = encoder.state_dict()
    state = module.state_dict()
    for name in state:
        if not name.endswith(("position_ids", "token_type_ids")):
            state[name] = trained[family.rename(name)]
    module.load_state_dict(state)
    out.mkdir(parents=True, exist_ok=True)
    module.save_pretrained(out)
    for name in _TOKENIZER_FILES:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, out / name)
    if not (out / "tokenizer.json").exists():
        (out / "tokenizer.json").write_text(load_tokenizer(source).to_str(), encoding="utf-8")
    save_splits(out, splits)


def _validate(model: Model, splits: DataSplits) -> float:
    from miaotui.training.teacher import cache_teacher

    rows, targets = _encoded(splits.validation, model.task)
    logits = cache_teacher(model.encoder, rows).logits
    return score(default_metric(model.task.problem), logits, targets)
