"""What happens beside the steps of a training: evaluation, checkpoints, progress, the end."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from miaotui.models.encoder import Encoder
from miaotui.models.hooks import Hooks
from miaotui.models.loss import LOSSES
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import Outputs, Targets
from miaotui.tasks.task import LossName
from miaotui.training.batches import LengthBatches
from miaotui.training.checkpoint import save_best, save_checkpoint
from miaotui.training.schedule import Schedule
from miaotui.training.teacher import cache_teacher

StepProgress = Callable[[int, int, float, float | None], None]
Metric = Callable[[Outputs, Targets], float]
_PROGRESS_STEPS = 10


@dataclass(frozen=True)
class Validation:
    """Rows that decide which weights are best; larger values of `metric(outputs, targets)` are."""

    rows: EncodedRows
    targets: Targets
    loss: LossName
    metric: Metric

    def evaluate(self, encoder: Encoder) -> tuple[float, float]:
        """The loss against the labels and the metric."""
        outputs = cache_teacher(encoder, self.rows).outputs
        given = torch.from_numpy(outputs.values), torch.from_numpy(self.targets.values)
        losses = LOSSES[self.loss].hard(*given)
        return float(losses.mean()), float(self.metric(outputs, self.targets))


@dataclass
class Progress:
    """Run state: evaluations so far; `stopped` says why the training ended, empty before."""

    key: str
    patience: int
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    stale: int = 0
    stopped: str = ""
    used_s: float = 0.0

    def facts(self, total: int, used_s: float) -> dict[str, Any]:
        return {
            "key": self.key,
            "history": self.history,
            "best": self.best,
            "stale": self.stale,
            "stopped": self.stopped,
            "total": total,
            "used_s": used_s,
        }

    def restore_(self, facts: dict[str, Any]) -> None:
        self.history, self.best = facts["history"], facts["best"]
        self.stale, self.stopped = facts["stale"], facts["stopped"]
        self.used_s = facts["used_s"]


@dataclass
class Watch(TrainerCallback):  # type: ignore[misc]
    """Trainer's callback; `batches` is told which epoch begins, which Trainer leaves out."""

    progress: Progress
    schedule: Schedule
    batches: LengthBatches
    validation: Validation
    work: Path
    on_progress: StepProgress | None = None
    hooks: Hooks | None = None
    _step_began: float = 0.0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.batches.set_epoch(state.global_step // len(self.batches))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._step_began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        step, schedule, encoder = state.global_step, self.schedule, given["model"]
        self._act(min(1.0, step / schedule.total))
        schedule.note_step_(step, time.monotonic() - self._step_began)
        over = schedule.is_over(step)
        if over:
            self._act(1.0)
        if over or step % schedule.every == 0:
            self._evaluate(step, encoder, given["lr_scheduler"].get_last_lr()[0])
            self._decide(step, over)
            facts = self.progress.facts(schedule.total, self._used_s)
            acting = {} if self.hooks is None else self.hooks.state()
            save_checkpoint(self.work, encoder, given["optimizer"], state, facts, acting)
        control.should_training_stop |= bool(self.progress.stopped)
        self._tell(step)

    def _act(self, share: float) -> None:
        if self.hooks is not None and not self.hooks.is_settled:
            self.hooks.on_step_(share)

    @property
    def _used_s(self) -> float:
        return self.progress.used_s + self.schedule.elapsed_s

    def _decide(self, step: int, over: bool) -> None:
        if step >= self.schedule.planned:
            self.progress.stopped = "epochs"
        elif over:
            self.progress.stopped = "time"
        elif self.progress.stale >= self.progress.patience:
            self.progress.stopped = "patience"

    def _tell(self, step: int) -> None:
        if self.on_progress is None or (step % _PROGRESS_STEPS and not self.progress.stopped):
            return
        metric = self.progress.best if math.isfinite(self.progress.best) else None
        left_s = 0.0 if self.progress.stopped else self.schedule.left_s(step)
        self.on_progress(step, self.schedule.total, left_s, metric)

    def _evaluate(self, step: int, encoder: Encoder, learning_rate: float) -> None:
        began, progress = time.monotonic(), self.progress
        encoder.eval()
        loss, metric = self.validation.evaluate(encoder)
        encoder.train()
        if self.hooks is None or self.hooks.is_settled:
            progress.stale = 0 if metric > progress.best else progress.stale + 1
            if metric >= progress.best:  # of equals the later one, trained with a smaller rate
                progress.best = metric
                save_best(self.work, encoder)
        self.schedule.evaluation_s = time.monotonic() - began
        progress.history.append(
            {
                "step": float(step),
                "loss": loss,
                "metric": metric,
                "learning_rate": learning_rate,
                "seconds": self._used_s,
            }
        )
