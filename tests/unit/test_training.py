"""Distillation and fine-tuning on a tiny encoder."""

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_encoder
from miaotui.tasks.outputs import one_a_row
from miaotui.tasks.problems import Problem
from miaotui.training.losses import hidden_loss, layer_map, soft_loss
from miaotui.training.settings import Distillation, FineTuning
from miaotui.training.teacher import TeacherOutputs, cache_teacher
from miaotui.training.trainer import Recovered, distil, fine_tune

ROWS = 160
SETTINGS = Distillation(epochs=6, batch=16, learning_rate=3e-3, patience=50, hidden_weight=0.2)


def distance(recovered_or_model: object, teacher: np.ndarray) -> float:
    model = recovered_or_model.model if isinstance(recovered_or_model, Recovered) else None
    found = tiny_encoder.logits(model or recovered_or_model, tiny_encoder.rows(ROWS))  # type: ignore[arg-type]
    goal, ours = torch.tensor(teacher), torch.tensor(found)
    return float(soft_loss("cross-entropy", ours, goal, 1.0).mean())


def run(work: Path, settings: Distillation = SETTINGS, **options: object) -> Recovered:
    rows = tiny_encoder.rows(ROWS)
    teacher = cache_teacher(tiny_encoder.model(layers=3).encoder, rows)
    targets = one_a_row(teacher.outputs.values.argmax(axis=1))
    labelled = np.arange(ROWS) < 100
    validation = (rows.select(range(40)), targets.select(range(40)))
    student = tiny_encoder.model(layers=1, seed=5)
    return distil(
        student,
        teacher,
        rows,
        targets,
        labelled,
        validation,
        settings,
        work=work,
        **options,  # type: ignore[arg-type]
    )


def test_a_student_comes_closer_to_its_teacher(tmp_path: Path) -> None:
    teacher = tiny_encoder.logits(tiny_encoder.model(layers=3), tiny_encoder.rows(ROWS))
    start = distance(tiny_encoder.model(layers=1, seed=5), teacher)
    done = run(tmp_path / "work")
    assert distance(done, teacher) < start
    assert not (tmp_path / "work").exists()


def test_embeddings_stay_frozen_and_the_input_is_not_changed(tmp_path: Path) -> None:
    student = tiny_encoder.model(layers=1, seed=5)
    before = {k: v.clone() for k, v in student.encoder.state_dict().items()}
    done = run(tmp_path / "work").model.encoder.state_dict()
    for name, tensor in before.items():
        if name.startswith("embeddings."):
            assert torch.equal(done[name], tensor)
    assert not torch.equal(done["layers.0.up.weight"], before["layers.0.up.weight"])


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 1.0})
    first, second = run(tmp_path / "a", settings), run(tmp_path / "b", settings)
    # The rate follows the clock too, but never when time is endless.
    for one, other in zip(
        first.model.encoder.parameters(), second.model.encoder.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_an_interrupted_training_goes_on_where_it_was(tmp_path: Path) -> None:
    seen: list[int] = []

    def stop(step: int, total: int, eta_s: float, metric: float | None) -> None:
        seen.append(step)
        if step >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "work", on_progress=stop)
    assert list((tmp_path / "work").glob("checkpoint-*"))
    steps: list[int] = []
    done = run(tmp_path / "work", on_progress=lambda step, *_: steps.append(step))
    assert min(steps) >= 20, "it began again from the first step"
    assert done.steps == 60
    assert [h["step"] for h in done.history] == sorted(h["step"] for h in done.history)


def test_time_is_kept(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 10_000.0})
    done = run(tmp_path / "work", settings, seconds=3.0)
    assert done.history[-1]["seconds"] < 5
    assert done.steps < 10_000


@pytest.mark.parametrize("problem", [Problem.MULTI_LABEL, Problem.REGRESSION])
def test_other_problems_train(problem: Problem, tmp_path: Path) -> None:
    labels = 1 if problem is Problem.REGRESSION else 3
    model = tiny_encoder.model(layers=1, problem=problem, labels=labels)
    rows = tiny_encoder.rows(ROWS)
    short = rows.lengths < 10
    values = (
        short.astype(np.float32)
        if problem is Problem.REGRESSION
        else np.stack([short, ~short, short], axis=1).astype(np.float32)
    )
    targets = one_a_row(values)
    settings = FineTuning(epochs=8, batch=16, learning_rate=3e-3, patience=50)
    validation = (rows.select(range(40)), targets.select(range(40)))
    done = fine_tune(model, rows, targets, validation, settings, work=tmp_path / "work")
    assert done.best_metric > done.history[0]["metric"] or done.best_metric > 0.9


def test_teacher_is_saved_and_read_back(tmp_path: Path) -> None:
    outputs = cache_teacher(tiny_encoder.model().encoder, tiny_encoder.rows(20))
    outputs.save(tmp_path)
    again = TeacherOutputs.load(tmp_path)
    np.testing.assert_array_equal(again.outputs.values, outputs.outputs.values)
    np.testing.assert_array_equal(again.states.values, outputs.states.values)
    expected = tiny_encoder.logits(tiny_encoder.model(), tiny_encoder.rows(20))
    np.testing.assert_allclose(outputs.outputs.values, expected, atol=1e-5)


def test_losses() -> None:
    logits = torch.tensor([[2.0, 0.0]])
    assert soft_loss("cross-entropy", logits, logits, 2.0).item() == pytest.approx(0)
    p = torch.softmax(torch.tensor([0.0, 0.0]), 0)
    q = torch.log_softmax(logits[0] / 2, 0)
    expected = 4 * (p * (p.log() - q)).sum().item()
    found = soft_loss("cross-entropy", logits, torch.zeros(1, 2), 2.0).item()
    assert found == pytest.approx(expected, abs=1e-6)
    assert soft_loss("squared-error", logits, torch.zeros(1, 2), 1).item() == pytest.approx(2)
    ones = torch.ones(2, 3, 4)
    assert hidden_loss(ones, 0 * ones, torch.full((3,), 2.0)).item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [(6, 3, [1, 3, 5]), (6, 6, [0, 1, 2, 3, 4, 5]), (12, 1, [11]), (6, 2, [2, 5])],
)
def test_layer_map(teacher: int, student: int, expected: list[int]) -> None:
    assert layer_map(teacher, student) == expected
