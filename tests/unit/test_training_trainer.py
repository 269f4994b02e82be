"""Resuming, the clock, early stopping and what is left untouched."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_encoder
from miaotui.errors import RecipeError
from miaotui.models.hooks import Hooks
from miaotui.tasks.outputs import Outputs, Targets, one_a_row
from miaotui.tasks.problems import Problem
from miaotui.training.losses import soft_loss
from miaotui.training.settings import Distillation, FineTuning
from miaotui.training.teacher import cache_teacher
from miaotui.training.trainer import Recovered, distil, fine_tune

ROWS = 120
STEPS_AN_EPOCH = 8
SETTINGS = Distillation(epochs=4, batch=16, learning_rate=3e-3, patience=50, hidden_weight=0.2)


def kl(logits: np.ndarray, teacher: np.ndarray) -> float:
    goal, ours = torch.from_numpy(teacher), torch.from_numpy(logits)
    return float(soft_loss("cross-entropy", ours, goal, 1.0).mean())


def train(work: Path, settings: Distillation = SETTINGS, **options: Any) -> Recovered:
    """A 2-layer student of a 3-layer teacher; unlabelled rows have no class at all."""
    rows = tiny_encoder.rows(ROWS)
    teacher = cache_teacher(tiny_encoder.model().encoder, rows)
    labelled = np.arange(ROWS) < 80
    answers = teacher.outputs.values.argmax(axis=1)
    return distil(
        tiny_encoder.model(layers=2, seed=5),
        teacher,
        rows,
        one_a_row(np.where(labelled, answers, -1)),
        labelled,
        (rows, one_a_row(answers)),
        settings,
        work=work,
        **options,
    )


def same(one: Recovered, other: Recovered) -> bool:
    left, right = one.model.encoder.state_dict(), other.model.encoder.state_dict()
    return all(torch.equal(left[name], right[name]) for name in left)


def interrupt_at(step: int) -> Any:
    def stop(at: int, total: int, eta_s: float, metric: float | None) -> None:
        if at >= step:
            raise KeyboardInterrupt

    return stop


def test_kl_to_the_teacher_falls_and_the_input_stays(tmp_path: Path) -> None:
    rows = tiny_encoder.rows(ROWS)
    teacher = cache_teacher(tiny_encoder.model().encoder, rows).outputs.values
    student = tiny_encoder.model(layers=2, seed=5)
    settings = SETTINGS.model_copy(update={"epochs": 10.0})
    done = train(
        tmp_path / "work", settings, metric=lambda outputs, _: -kl(outputs.values, teacher)
    )
    assert -done.best_metric < 0.6 * kl(tiny_encoder.logits(student, rows), teacher)
    found = kl(tiny_encoder.logits(done.model, rows), teacher)
    assert found == pytest.approx(-done.best_metric, abs=1e-5)
    assert "forward" not in vars(done.model.encoder)
    assert all(p.requires_grad for p in done.model.encoder.parameters())
    assert not done.model.encoder.training


@pytest.mark.parametrize("frozen", [True, False])
def test_fine_tuning_moves_the_embeddings_only_where_asked(frozen: bool, tmp_path: Path) -> None:
    model, rows = tiny_encoder.model(layers=1), tiny_encoder.rows(ROWS)
    before = {k: v.clone() for k, v in model.encoder.state_dict().items()}
    targets = one_a_row((rows.lengths < 10).astype(np.int64))
    settings = FineTuning(epochs=1, batch=16, freeze_embeddings=frozen)
    done = fine_tune(model, rows, targets, (rows, targets), settings, work=tmp_path / "work")
    after = done.model.encoder.state_dict()
    assert (
        torch.equal(after["embeddings.words.weight"], before["embeddings.words.weight"]) is frozen
    )
    assert all(torch.equal(before[k], v) for k, v in model.encoder.state_dict().items())
    assert done.stopped == "epochs"


@pytest.mark.parametrize("at", [10, 20])
def test_a_resumed_training_ends_like_an_unbroken_one(at: int, tmp_path: Path) -> None:
    """Checkpoints lie every 4 steps, epochs end every 8: one resumes within, one between them."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "work", on_progress=interrupt_at(at))
    left = list((tmp_path / "work").glob("checkpoint-*"))
    assert [p.name for p in left] == [f"checkpoint-{at // 4 * 4}"]
    assert {p.suffix for p in left[0].iterdir()} == {".json", ".safetensors"}
    told: list[float] = []
    again = train(tmp_path / "work", open_hooks=lambda _: Noted(told))
    assert told[0] == pytest.approx((at // 4 * 4 + 1) / 32)
    whole = train(tmp_path / "other")
    assert again.steps == whole.steps == 32
    assert [h["step"] for h in again.history] == [h["step"] for h in whole.history]
    assert same(again, whole)


def test_other_settings_do_not_go_on_from_a_strangers_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "work", on_progress=interrupt_at(20))
    told: list[float] = []
    settings = SETTINGS.model_copy(update={"epochs": 2.0, "seed": 1})
    train(tmp_path / "work", settings, open_hooks=lambda _: Noted(told))
    assert told[0] == pytest.approx(1 / 16)


def test_a_training_that_was_over_is_not_begun_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "work", on_progress=interrupt_at(32))
    told: list[float] = []
    done = train(tmp_path / "work", open_hooks=lambda _: Noted(told))
    assert not told
    assert (done.steps, done.stopped) == (32, "epochs")


def test_time_is_kept_and_the_rate_is_zero_when_it_ends(tmp_path: Path) -> None:
    endless = {"epochs": 10_000.0, "evaluations_per_epoch": 1, "patience": 10_000}
    done = train(tmp_path / "work", SETTINGS.model_copy(update=endless), seconds=6.0)
    assert done.stopped == "time"
    assert done.history[-1]["seconds"] < 8
    assert max(h["learning_rate"] for h in done.history) > 1e-3
    assert done.history[-1]["learning_rate"] < 0.1 * SETTINGS.learning_rate


def test_early_stopping_returns_the_best_weights(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def metric(outputs: Outputs, targets: Targets) -> float:
        seen.append(outputs.values.copy())
        return [0.1, 0.9][len(seen) - 1] if len(seen) <= 2 else 0.5

    settings = SETTINGS.model_copy(update={"patience": 2})
    done = train(tmp_path / "work", settings, metric=metric)
    assert (done.stopped, done.best_metric, done.steps) == ("patience", 0.9, 16)
    found = tiny_encoder.logits(done.model, tiny_encoder.rows(ROWS))
    np.testing.assert_allclose(found, seen[1], atol=1e-5)


def test_hooks_are_told_the_share_that_is_done(tmp_path: Path) -> None:
    told: list[float] = []
    settings = SETTINGS.model_copy(update={"epochs": 1.0})
    train(tmp_path / "work", settings, open_hooks=lambda _: Noted(told))
    assert told == [(i + 1) / STEPS_AN_EPOCH for i in range(STEPS_AN_EPOCH)]


def test_weights_from_before_the_hooks_have_settled_are_never_the_best(tmp_path: Path) -> None:
    def metric(outputs: Outputs, targets: Targets) -> float:
        measured.append(len(told))
        return -float(len(measured))  # the first is the best of all

    measured: list[int] = []
    told: list[float] = []
    settings = SETTINGS.model_copy(update={"epochs": 2.0})
    hooks = Noted(told, until=0.6)
    done = train(tmp_path / "work", settings, open_hooks=lambda _: hooks, metric=metric)
    first_settled = next(i for i, steps in enumerate(measured, 1) if steps >= 10)
    assert done.best_metric == -first_settled
    assert done.hooks is hooks


@dataclass
class Noted(Hooks):
    """Hooks that write down what they are told, and settle after a share of the training."""

    told: list[float]
    until: float = 1.0

    @property
    def is_settled(self) -> bool:
        return bool(self.told) and self.told[-1] >= self.until

    def on_step_(self, progress: float) -> None:
        self.told.append(progress)

    def state(self) -> dict[str, torch.Tensor]:
        return {"told": torch.tensor(self.told)}

    def restore_(self, state: Mapping[str, torch.Tensor]) -> None:
        """What was told before stays with whoever was told."""


@pytest.mark.parametrize("problem", [Problem.MULTI_LABEL, Problem.REGRESSION])
def test_other_problems_are_distilled(problem: Problem, tmp_path: Path) -> None:
    labels = 1 if problem is Problem.REGRESSION else 3
    rows = tiny_encoder.rows(ROWS)
    teacher = cache_teacher(tiny_encoder.model(problem=problem, labels=labels).encoder, rows)
    told = teacher.outputs.values
    targets = one_a_row(told[:, 0] if labels == 1 else (told > 0).astype(np.float32))
    student = tiny_encoder.model(layers=1, problem=problem, labels=labels, seed=5)
    labelled = np.ones(ROWS, dtype=bool)
    done = distil(
        student, teacher, rows, targets, labelled, (rows, targets), SETTINGS, work=tmp_path / "w"
    )
    assert done.history[-1]["loss"] < done.history[0]["loss"]


def test_a_teacher_of_other_rows_is_refused(tmp_path: Path) -> None:
    rows = tiny_encoder.rows(ROWS)
    teacher = cache_teacher(tiny_encoder.model().encoder, rows.select(range(10)))
    targets, labelled = one_a_row(np.zeros(ROWS, dtype=np.int64)), np.ones(ROWS, dtype=bool)
    student = tiny_encoder.model(layers=1)
    with pytest.raises(RecipeError, match="cache the teacher on these rows"):
        distil(student, teacher, rows, targets, labelled, (rows, targets), SETTINGS, work=tmp_path)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "work", SETTINGS.model_copy(update={"epochs": 1.0}))
    assert capfd.readouterr().out == ""
