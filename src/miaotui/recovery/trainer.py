"""Fine-tuning and distillation: transformers' Trainer over our batches and losses."""

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from miaotui.hardware import probe
from miaotui.models.encoder import Encoder
from miaotui.models.loss import row_losses
from miaotui.models.model import Model, copy_of
from miaotui.recovery.batches import LengthBatches, TrainingRows
from miaotui.recovery.losses import hidden_loss, layer_map, soft_loss
from miaotui.recovery.settings import Distillation, FineTuning, Training
from miaotui.recovery.teacher import TeacherOutputs, cache_teacher
from miaotui.recovery.validation import validation_metric
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.text_classification import Problem

StepProgress = Callable[[int, int, float, float | None], None]
Validation = tuple[EncodedRows, Any]
_BEST = "best.safetensors"
_CLOCK = "clock.json"
_INPUTS = ("ids", "positions", "segments", "types", "readout")


@dataclass(frozen=True)
class Recovered:
    """The best model by the validation metric, and how the training went."""

    model: Model
    best_metric: float
    steps: int
    history: list[dict[str, float]]


@dataclass
class _Run:
    """Run state: time used, evaluations, the best so far. Written beside each checkpoint."""

    settings: Training
    seconds: float
    total_steps: int
    evaluate_every: int
    used_s: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    stale: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        return self.used_s + time.monotonic() - self.began

    def share(self, step: int) -> float:
        """How much of the training is over, by steps or by time, whichever is further."""
        return max(step / self.total_steps, self.elapsed_s / self.seconds)

    def rate(self, step: int) -> float:
        """Learning-rate factor: linear warm-up, then linear to zero when the time is over."""
        warm = min(1.0, (step + 1) / max(1.0, self.settings.warmup * self.total_steps))
        return warm * max(0.0, 1.0 - self.share(step))


def distil(  # noqa: PLR0913  (a training's inputs)
    student: Model,
    teacher: TeacherOutputs,
    rows: EncodedRows,
    targets: Any,
    labelled: Any,
    validation: Validation,
    settings: Distillation,
    *,
    work: Path,
    seconds: float = math.inf,
    on_progress: StepProgress | None = None,
) -> Recovered:
    """Trains a copy of `student` towards the teacher's outputs; goes on from `work` if it can."""
    data = TrainingRows(rows, targets, labelled, teacher)
    return _train(student, data, validation, settings, work, seconds, on_progress)


def fine_tune(  # noqa: PLR0913
    model: Model,
    rows: EncodedRows,
    targets: Any,
    validation: Validation,
    settings: FineTuning,
    *,
    work: Path,
    seconds: float = math.inf,
    on_progress: StepProgress | None = None,
) -> Recovered:
    """Trains a copy of `model` on labels; goes on from `work` if it can."""
    import numpy as np

    data = TrainingRows(rows, targets, np.ones(len(rows), dtype=bool), None)
    return _train(model, data, validation, settings, work, seconds, on_progress)


def _train(  # noqa: PLR0913
    model: Model,
    data: TrainingRows,
    validation: Validation,
    settings: Training,
    work: Path,
    seconds: float,
    on_progress: StepProgress | None,
) -> Recovered:
    steps_an_epoch = -(-len(data) // settings.batch)
    total = max(1, math.ceil(settings.epochs * steps_an_epoch))
    every = max(1, steps_an_epoch // settings.evaluations_per_epoch)
    run = _Run(settings, seconds, total, every)
    student = copy_of(model.encoder)
    student.embeddings.requires_grad_(not settings.freeze_embeddings)
    watch = _Watch(run, student, model.task.problem, validation, work, on_progress)
    trainer = _Trainer(student, data, run, model.task.problem, work, watch)
    resume = _last_checkpoint(work)
    if resume is not None:
        watch.restore_()
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    if (work / _BEST).exists():
        student.load_state_dict(load_file(str(work / _BEST)))
    shutil.rmtree(work, ignore_errors=True)
    student.requires_grad_(True)
    return Recovered(
        model.with_module(student.eval()), run.best, trainer.state.global_step, run.history
    )


def _last_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint that was written whole: Trainer writes its state last."""
    whole = [p.parent for p in work.glob("checkpoint-*/trainer_state.json")]
    readable = [p for p in whole if _is_json(p / "trainer_state.json") and _is_json(work / _CLOCK)]
    return max(readable, key=lambda p: int(p.name.split("-")[1]), default=None)


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


class _Trainer(Trainer):  # type: ignore[misc]
    """Our loss, our batches, a learning rate that knows the time."""

    def __init__(  # noqa: PLR0913
        self,
        student: Encoder,
        data: TrainingRows,
        run: _Run,
        problem: Problem,
        work: Path,
        watch: TrainerCallback,
    ) -> None:
        super().__init__(
            model=student, args=_arguments(run, work), train_dataset=data, callbacks=[watch]
        )
        self.remove_callback(PrinterCallback)
        self._data = data
        self._run = run
        self._problem = problem
        self._variance: Tensor | None = None
        if data.teacher is not None:
            states = torch.from_numpy(data.teacher.states[:4096]).float()
            self._variance = states.var(dim=0).mean(dim=1).clamp_min(1e-6)

    def get_train_dataloader(self) -> DataLoader[Any]:
        sampler = LengthBatches(self._data.rows, self._run.settings.batch, self._run.settings.seed)
        return DataLoader(self._data, batch_sampler=sampler, collate_fn=self._data.collate)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer, self._run.rate
        )
        return self.lr_scheduler

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        student: Encoder = self.model
        states = student.states(*(inputs[name] for name in _INPUTS))
        logits = student.head(states[-1])[:, 0]
        labelled = inputs["labelled"]
        hard = row_losses(self._problem, logits, inputs["targets"])
        hard = (hard * labelled).sum() / labelled.sum().clamp_min(1)
        settings = self._run.settings
        if not isinstance(settings, Distillation):
            return hard
        soft = soft_loss(self._problem, logits, inputs["teacher_logits"], settings.temperature)
        loss = soft.mean() + settings.alpha_hard * hard
        if settings.hidden_weight:
            loss = loss + settings.hidden_weight * self._hidden(states, inputs["teacher_states"])
        return loss

    def _hidden(self, states: list[Tensor], teacher: Tensor) -> Tensor:
        mapped = [i + 1 for i in layer_map(teacher.shape[1] - 1, len(states) - 1)]
        student = torch.stack([state[:, 0] for state in states[1:]], dim=1)
        variance = self._variance
        scale = torch.ones(len(mapped)) if variance is None else variance[mapped]
        return hidden_loss(student, teacher[:, mapped], scale)


def _arguments(run: _Run, work: Path) -> TrainingArguments:
    settings = run.settings
    return TrainingArguments(
        output_dir=str(work),
        max_steps=run.total_steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        optim="adamw_torch_fused",
        bf16=probe().computes_bf16,
        use_cpu=True,
        seed=settings.seed,
        save_strategy="steps",
        save_steps=run.evaluate_every,
        save_total_limit=2,
        eval_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Evaluates, keeps the best weights, tells progress, ends the training in time."""

    def __init__(  # noqa: PLR0913
        self,
        run: _Run,
        student: Encoder,
        problem: Problem,
        validation: Validation,
        work: Path,
        on_progress: StepProgress | None,
    ) -> None:
        self._run = run
        self._student = student
        self._problem = problem
        self._validation = validation
        self._work = work
        self._on_progress = on_progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        run, step = self._run, state.global_step
        over = run.share(step) >= 1.0
        if step % run.evaluate_every == 0 or over:
            self._evaluate(step)
        if over or run.stale >= run.settings.patience:
            control.should_training_stop = True
        if self._on_progress is not None and (step % 10 == 0 or over):
            left = run.elapsed_s / step * (run.total_steps - step)
            metric = run.best if math.isfinite(run.best) else None
            self._on_progress(step, run.total_steps, min(left, run.seconds - run.elapsed_s), metric)

    def _evaluate(self, step: int) -> None:
        run = self._run
        self._student.eval()
        rows, targets = self._validation
        logits = cache_teacher(self._student, rows).logits
        self._student.train()
        metric = validation_metric(self._problem, logits, targets)
        run.history.append({"step": float(step), "metric": metric, "seconds": run.elapsed_s})
        run.stale = 0 if metric > run.best else run.stale + 1
        if metric >= run.best:  # of equals the later one, trained with a smaller rate
            run.best = metric
            draft = self._work / f"{_BEST}.tmp"
            self._work.mkdir(parents=True, exist_ok=True)
            save_file(self._student.state_dict(), str(draft))
            draft.replace(self._work / _BEST)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        run = self._run
        facts = {"used_s": run.elapsed_s, "best": run.best, "stale": run.stale}
        draft = self._work / f"{_CLOCK}.tmp"
        draft.write_text(json.dumps(facts | {"history": run.history}), encoding="utf-8")
        draft.replace(self._work / _CLOCK)

    def restore_(self) -> None:
        """Takes over what an interrupted training had written."""
        facts = json.loads((self._work / _CLOCK).read_text(encoding="utf-8"))
        run = self._run
        run.best, run.stale, run.history = facts["best"], facts["stale"], facts["history"]
