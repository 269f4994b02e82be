"""Losses against values worked out by hand; the schedule; the teacher's cache."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_encoder
from miaotui.errors import RecipeError
from miaotui.tasks.task import LossName
from miaotui.training.batches import LengthBatches
from miaotui.training.losses import hard_loss, layer_map, soft_loss
from miaotui.training.schedule import Schedule
from miaotui.training.teacher import TeacherOutputs, cache_teacher

LN2 = 0.6931472


@pytest.mark.parametrize(
    ("loss", "logits", "targets", "expected"),
    [
        ("cross-entropy", [[0.0, 0.0], [9.0, 0.0]], [1, -1], LN2),
        ("binary-cross-entropy", [[0.0, 0.0], [9.0, 9.0]], [[1.0, 0.0], [0.0, 0.0]], LN2),
        ("squared-error", [[1.0], [9.0]], [3.0, float("nan")], 4.0),
    ],
)
def test_hard_loss_never_reads_rows_without_label(
    loss: LossName, logits: list, targets: list, expected: float
) -> None:
    labelled = torch.tensor([True, False])
    found = hard_loss(loss, torch.tensor(logits), torch.tensor(targets), labelled)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_hard_loss_of_a_batch_without_labels_is_zero_and_has_a_gradient() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    labelled = torch.zeros(2, dtype=torch.bool)
    loss = hard_loss("cross-entropy", logits, torch.tensor([-1, -1]), labelled)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(2, 2))


def test_soft_loss_of_several_labels_is_the_cross_entropy_to_the_teachers_shares() -> None:
    logits, teacher = torch.tensor([[0.0]]), torch.tensor([[np.log(3.0)]])
    found = soft_loss("binary-cross-entropy", logits, teacher.float(), 2.0)
    assert found.tolist() == pytest.approx([LN2], abs=1e-6)


def test_a_student_deeper_than_its_teacher_does_not_map() -> None:
    with pytest.raises(RecipeError, match="hidden_weight"):
        layer_map(1, 3)


def test_teacher_cache_equals_the_direct_states(tmp_path: Path) -> None:
    model, rows = tiny_encoder.model(), tiny_encoder.rows(20)
    told: list[float] = []
    outputs = cache_teacher(model.encoder, rows, told.append, batch=3)
    expected = tiny_encoder.states(model, rows)
    np.testing.assert_allclose(outputs.states.values[:, -1].astype(np.float32), expected, atol=5e-3)
    assert outputs.states.values.shape == (20, 4, 32)
    assert told[-1] == 1.0
    outputs.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["teacher.safetensors"]
    np.testing.assert_array_equal(
        TeacherOutputs.load(tmp_path).states.values, outputs.states.values
    )


def test_batches_hold_every_row_once_and_change_with_the_epoch() -> None:
    batches = LengthBatches(tiny_encoder.rows(50), 8, seed=3)
    first = list(batches)
    assert sorted(i for batch in first for i in batch) == list(range(50))
    assert list(batches) == first
    batches.set_epoch(1)
    assert list(batches) != first


def test_the_rate_climbs_and_falls_to_zero() -> None:
    schedule = Schedule(100, 0.1, 10, float("inf"), 1)
    rates = [schedule.rate(step) for step in range(101)]
    assert max(rates) == 1.0
    assert rates.index(1.0) == 10
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == 0.0


def test_a_schedule_that_does_not_fit_is_shortened() -> None:
    schedule = Schedule(1_000_000, 0.06, 1000, 100.0, 0)
    for step in range(1, 31):
        schedule.note_step_(step, 0.5)
    assert schedule.total == pytest.approx(30 + 200, abs=3)
    assert schedule.rate(schedule.total) == 0.0
    assert not schedule.is_over(30)
    assert schedule.is_over(schedule.total)


def test_slow_steps_shorten_the_schedule_before_twenty_of_them() -> None:
    schedule = Schedule(1000, 0.06, 1000, 100.0, 0, began=time.monotonic() - 20)
    schedule.note_step_(4, 5.0)
    assert schedule.total == pytest.approx(4 + 16, abs=1)
