"""Fine-tuning and distillation: transformers' Trainer over our batches and losses."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy import ndarray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments

from miaotui.errors import RecipeError
from miaotui.hardware import probe
from miaotui.models.encoder import Encoder
from miaotui.models.hooks import Hooks, OpenHooks
from miaotui.models.model import Model, copy_of
from miaotui.models.ties import load_each_
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import Targets
from miaotui.tasks.task import LossName
from miaotui.training import checkpoint
from miaotui.training.batches import LengthBatches, TrainingRows
from miaotui.training.losses import hard_loss, hidden_loss, layer_map, soft_loss
from miaotui.training.schedule import Schedule
from miaotui.training.settings import Distillation, FineTuning, Training, is_distillation
from miaotui.training.teacher import TeacherOutputs
from miaotui.training.watch import Metric, Progress, StepProgress, Validation, Watch

_INPUTS = ("ids", "positions", "segments", "types", "readout")
_ROWS_FOR_VARIANCE = 4096


@dataclass(frozen=True)
class Recovered:
    """The best model by the validation metric, and how the training went.

    `stopped` is "epochs", "time" or "patience". Each evaluation in `history` has step, loss,
    metric, learning_rate and seconds. `hooks` are those that acted: what they hold still is no part
    of the model yet.
    """

    model: Model
    history: list[dict[str, float]]
    best_metric: float
    steps: int
    stopped: str
    hooks: Hooks | None = None


def distil(  # noqa: PLR0913  (a training's inputs)
    student: Model,
    teacher: TeacherOutputs,
    rows: EncodedRows,
    targets: Targets,
    labelled: Bool[ndarray, " rows"],
    validation: tuple[EncodedRows, Targets],
    settings: Distillation,
    *,
    work: Path,
    seconds: float = math.inf,
    on_progress: StepProgress | None = None,
    open_hooks: OpenHooks | None = None,
    metric: Metric | None = None,
) -> Recovered:
    """Trains a copy of `student` towards the teacher's outputs; goes on from `work` if it can.

    `work` is this training's own and is removed when it ends. `seconds` bounds this call.
    `open_hooks` makes, of the encoder that is trained, what acts in each step. A teacher that does
    not fit the student or the rows is a RecipeError.
    """
    _check_teacher(student.encoder, teacher, rows, settings)
    data = TrainingRows(rows, targets, labelled, teacher)
    judged = _validation(student, validation, metric)
    return _train(student, data, settings, judged, _Outside(work, seconds, on_progress, open_hooks))


def fine_tune(  # noqa: PLR0913
    model: Model,
    rows: EncodedRows,
    targets: Targets,
    validation: tuple[EncodedRows, Targets],
    settings: FineTuning,
    *,
    work: Path,
    seconds: float | None = None,
    on_progress: StepProgress | None = None,
    open_hooks: OpenHooks | None = None,
    metric: Metric | None = None,
) -> Recovered:
    """Trains a copy of `model` on labels; goes on from `work` if it can."""
    data = TrainingRows(rows, targets, np.ones(len(rows), dtype=bool), None)
    judged = _validation(model, validation, metric)
    limit = math.inf if seconds is None else seconds
    return _train(model, data, settings, judged, _Outside(work, limit, on_progress, open_hooks))


@dataclass(frozen=True)
class _Outside:
    """Where a training writes, how long it may take, whom it tells, what acts in it."""

    work: Path
    seconds: float
    on_progress: StepProgress | None
    open_hooks: OpenHooks | None


def _validation(
    model: Model, validation: tuple[EncodedRows, Targets], metric: Metric | None
) -> Validation:
    return Validation(*validation, model.task.loss, metric or model.task.progress)


def _check_teacher(
    student: Encoder, teacher: TeacherOutputs, rows: EncodedRows, settings: Distillation
) -> None:
    given, needed = teacher.outputs.values.shape, (rows.readout_starts[-1], student.shape.labels)
    if given != needed:
        raise RecipeError(
            f"distil: the teacher's outputs are {given}, the training needs {needed}; cache the "
            "teacher on these rows"
        )
    if not settings.hidden_weight:
        return
    _, depth, width = teacher.states.values.shape
    if width != student.shape.hidden:
        raise RecipeError(
            f"distil: the teacher's states are {width} wide, the student's "
            f"{student.shape.hidden}; set hidden_weight to 0"
        )
    layer_map(depth - 1, len(student.layers))


def _train(
    model: Model,
    data: TrainingRows,
    settings: Training,
    validation: Validation,
    outside: _Outside,
) -> Recovered:
    schedule = _schedule(len(data), settings, outside.seconds, len(validation.rows))
    key = checkpoint.training_key(model.encoder, data, settings)
    progress = Progress(key, settings.patience)
    saved = checkpoint.find_checkpoint(outside.work, key)
    if saved is None:
        shutil.rmtree(outside.work, ignore_errors=True)
    else:
        progress.restore_(saved[1])
        if math.isfinite(outside.seconds):
            schedule.total = min(schedule.planned, saved[1]["total"])
    batches = LengthBatches(data.rows, settings.batch, settings.seed)
    watch = Watch(
        progress,
        schedule,
        batches,
        validation,
        outside.work,
        outside.on_progress,
    )
    folder = None if saved is None else saved[0]
    student, steps = _run(model, data, settings, watch, folder, outside.open_hooks)
    best = checkpoint.load_best(outside.work)
    if best is not None:
        load_each_(student, best)
    shutil.rmtree(outside.work, ignore_errors=True)
    return Recovered(
        model.with_module(student),
        progress.history,
        progress.best,
        steps,
        progress.stopped,
        watch.hooks,
    )


def _schedule(rows: int, settings: Training, seconds: float, validation_rows: int) -> Schedule:
    steps_an_epoch = -(-rows // settings.batch)
    return Schedule(
        planned=max(1, math.ceil(settings.epochs * steps_an_epoch)),
        warmup=settings.warmup,
        every=max(1, steps_an_epoch // settings.evaluations_per_epoch),
        seconds=seconds,
        evaluation_batches=-(-validation_rows // settings.batch),
    )


def _run(  # noqa: PLR0913
    model: Model,
    data: TrainingRows,
    settings: Training,
    watch: Watch,
    folder: Path | None,
    open_hooks: OpenHooks | None,
) -> tuple[Encoder, int]:
    """A fresh encoder with the last weights, and the number of steps; Trainer wraps the one it
    trains, so that one is left behind."""
    student = copy_of(model.encoder)
    student.embeddings.requires_grad_(not settings.freeze_embeddings)
    watch.hooks = None if open_hooks is None else open_hooks(student)
    if folder is not None and watch.hooks is not None:
        checkpoint.restore_model_(folder, student)
        checkpoint.restore_hooks_(folder, watch.hooks)
    if is_distillation(settings):
        for module in student.modules():
            if isinstance(module, nn.Dropout):
                module.p = settings.dropout
    with torch.random.fork_rng(devices=[]):
        trainer = _Trainer(student, data, settings, model.task.loss, watch)
        if folder is not None and watch.progress.stopped:
            checkpoint.restore_model_(folder, student)
            return copy_of(student), int(folder.name.split("-")[1])
        trainer.train(resume_from_checkpoint=None if folder is None else str(folder))
    return copy_of(student), trainer.state.global_step


class _Trainer(Trainer):  # type: ignore[misc]
    """Our loss, our batches, our schedule, our checkpoints."""

    def __init__(
        self,
        student: Encoder,
        data: TrainingRows,
        settings: Training,
        loss: LossName,
        watch: Watch,
    ) -> None:
        arguments = _arguments(settings, watch.schedule.planned, watch.work)
        super().__init__(model=student, args=arguments, train_dataset=data, callbacks=[watch])
        self.remove_callback(PrinterCallback)
        self._data = data
        self._settings = settings
        self._loss = loss
        self._watch = watch
        self._bf16 = probe().computes_bf16
        self._variance = None if data.teacher is None else _variance(data.teacher)

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            self._data, batch_sampler=self._watch.batches, collate_fn=self._data.collate
        )

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer, self._watch.schedule.rate
        )
        return self.lr_scheduler

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        """Trainer's own autocast wraps `forward`, which is not what is called here."""
        student: Encoder = self.model
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
            every_state = student.states(*(inputs[name] for name in _INPUTS))
            states = [state[inputs["read"]] for state in every_state]
            outputs = student.head(states[-1]).float()
        hard = hard_loss(self._loss, outputs, inputs["targets"], inputs["labelled"])
        settings = self._settings
        if not is_distillation(settings):
            return hard
        goal = inputs["teacher_outputs"]
        soft = soft_loss(self._loss, outputs, goal, settings.temperature)
        loss = soft.mean() + settings.alpha_hard * hard
        if settings.hidden_weight and len(student.layers):
            own = [state[inputs["with_states"]] for state in states[1:]]
            loss = loss + settings.hidden_weight * self._hidden(own, inputs["teacher_states"])
        return loss

    def _hidden(self, states: list[Tensor], teacher: Tensor) -> Tensor:
        mapped = [i + 1 for i in layer_map(teacher.shape[1] - 1, len(states))]
        student = torch.stack([state.float() for state in states], dim=1)
        variance = torch.ones(teacher.shape[1]) if self._variance is None else self._variance
        return hidden_loss(student, teacher[:, mapped], variance[mapped])

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoint.restore_model_(Path(resume_from_checkpoint), self.model)

    def _load_optimizer_and_scheduler(self, checkpoint_folder: str) -> None:
        """Also puts the learning rate where the schedule has it at this step."""
        checkpoint.restore_optimizer_(Path(checkpoint_folder), self.optimizer)
        scheduler, step = self.lr_scheduler, self.state.global_step
        scheduler.last_epoch = step
        rates = [base * self._watch.schedule.rate(step) for base in scheduler.base_lrs]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates

    def _load_rng_state(self, checkpoint_folder: str) -> None:
        checkpoint.restore_random_(Path(checkpoint_folder))


def _variance(teacher: TeacherOutputs) -> Tensor:
    """Variance of the hidden states after each layer, a mean over their features."""
    states = torch.from_numpy(teacher.states.values[:_ROWS_FOR_VARIANCE]).float()
    return states.var(dim=0, correction=0).mean(dim=1).clamp_min(1e-6)


def _arguments(settings: Training, steps: int, work: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        optim="adamw_torch_fused",
        use_cpu=True,
        seed=settings.seed,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
