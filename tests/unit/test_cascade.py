"""Two sessions as one: who answers which row, and what is left on disk of it."""

from pathlib import Path

import numpy as np
import pytest

import tiny_encoder
from miaotui.cascade import (
    ENGINE_FOLDER,
    Cascade,
    Stage,
    Stages,
    fit_error_curve,
    open_stages,
    stage_confidence,
    stage_folder,
    write_stages,
)
from miaotui.drift import RECENT_ROWS, drift, merged
from miaotui.engines.layouts import Packed, Padded
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.errors import BundleError, EngineFailed, RecipeError
from miaotui.tasks.confidence import confidence
from miaotui.tasks.outputs import one_a_row
from tiny_runner import Noted

ROWS = tiny_encoder.rows(60)
LAYOUT = Packed(batch=2, block_tokens=32, block_rows=4)


def margin(logits: np.ndarray) -> np.ndarray:
    return confidence("margin", one_a_row(logits))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A three-layer model behind a one-layer one, as a search lowers them."""
    OnnxRuntimeEngine().build(tiny_encoder.model(3), None, tmp_path / ENGINE_FOLDER)
    OnnxRuntimeEngine().build(tiny_encoder.model(1, seed=5), None, stage_folder(tmp_path, 0))
    return tmp_path


def opened(
    folder: Path, threshold: float, answered: float | None = None, test_rows: int = 0
) -> Cascade:
    engine = OnnxRuntimeEngine(layout=LAYOUT)
    stage = Stage(engine=engine, threshold=threshold, answered=answered)
    facts = Stages(confidence="margin", stages=(stage,), test_rows=test_rows)
    write_stages(folder, facts)
    runner = open_stages(engine, folder, 1)
    assert isinstance(runner, Cascade)
    return runner


def test_each_row_has_the_logits_of_the_stage_that_answers_it(folder: Path) -> None:
    first = tiny_encoder.logits(tiny_encoder.model(1, seed=5), ROWS)
    second = tiny_encoder.logits(tiny_encoder.model(3), ROWS)
    sure = margin(first)
    threshold = float(np.median(sure))
    expected = np.where((sure >= threshold)[:, None], first, second)

    cascade = opened(folder, threshold)

    np.testing.assert_allclose(cascade.run(ROWS).values, expected, atol=1e-4)
    assert cascade.answered_by(ROWS).mean() == pytest.approx(0.5)
    cascade.close()


def test_the_rows_that_two_stages_leave_reach_the_third(folder: Path) -> None:
    models = [tiny_encoder.model(1, seed=5), tiny_encoder.model(2, seed=6), tiny_encoder.model(3)]
    OnnxRuntimeEngine().build(models[1], None, stage_folder(folder, 1))
    engine = OnnxRuntimeEngine(layout=LAYOUT)
    logits = [tiny_encoder.logits(model, ROWS) for model in models]
    sure = [margin(each) for each in logits]
    by = np.where(sure[0] >= np.median(sure[0]), 0, np.where(sure[1] >= np.median(sure[1]), 1, 2))
    stages = [Stage(engine=engine, threshold=float(np.median(each))) for each in sure[:2]]
    write_stages(folder, Stages(confidence="margin", stages=tuple(stages)))

    cascade = open_stages(engine, folder, 1)

    assert isinstance(cascade, Cascade)
    np.testing.assert_array_equal(cascade.answered_by(ROWS), by)
    expected = np.stack(logits, axis=1)[np.arange(len(ROWS)), by]
    np.testing.assert_allclose(cascade.run(ROWS).values, expected, atol=1e-4)
    cascade.close()


def test_a_shifted_share_is_told_and_the_measured_one_is_not(folder: Path) -> None:
    first = tiny_encoder.logits(tiny_encoder.model(1, seed=5), ROWS)
    sure = margin(first)
    cascade = opened(folder, float(np.median(sure)), answered=0.5, test_rows=1500)
    assert cascade.drift() is None
    for _ in range(20):
        cascade.run(ROWS)
    told = cascade.drift()
    assert told is not None
    assert (told.observed, told.rows, told.shifted) == (pytest.approx(0.5), 1200, False)
    unsure = ROWS.select(np.flatnonzero(sure < np.median(sure)))
    for _ in range(20):
        cascade.run(unsure)
    told = cascade.drift()
    assert told is not None
    assert told.shifted
    assert told.observed < 0.4
    for _ in range(70):  # the window holds the last rows only
        cascade.run(unsure)
    told = cascade.drift()
    assert told is not None
    assert (told.observed, told.rows) == (0, RECENT_ROWS + 10)


def test_few_rows_and_small_shifts_are_no_drift() -> None:
    assert not drift(0.6, 1500, 0.1, 5).shifted
    assert drift(0.6, 1500, 0.1, 100).shifted
    assert not drift(0.6, 100_000, 0.62, 100_000).shifted
    assert drift(0.6, 100_000, 0.64, 100_000).shifted
    assert merged([]) is None


@pytest.mark.parametrize(("threshold", "stage"), [(0.0, 1), (1e9, 3)])
def test_at_either_end_one_stage_answers_all(folder: Path, threshold: float, stage: int) -> None:
    model = tiny_encoder.model(1, seed=5) if stage == 1 else tiny_encoder.model(3)
    found = opened(folder, threshold).run(ROWS).values
    np.testing.assert_allclose(found, tiny_encoder.logits(model, ROWS), atol=1e-4)


def test_no_rows_give_no_logits(folder: Path) -> None:
    assert len(opened(folder, 0.5).run(ROWS.select([]))) == 0


def test_without_a_first_stage_it_is_the_engine_alone(folder: Path) -> None:
    runner = open_stages(OnnxRuntimeEngine(layout=Padded()), folder, 1)
    expected = tiny_encoder.logits(tiny_encoder.model(3), ROWS)
    np.testing.assert_allclose(runner.run(ROWS).values, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("problem", "curve"),
    [
        ("regression", "null"),
        ("single_label", '{"answers": [0], "errors": [1]}'),
        ("regression", '{"answers": [0, 1], "errors": [1]}'),
        ("regression", '{"answers": [1, 0], "errors": [1, 1]}'),
        ("regression", '{"answers": [0], "errors": ["NaN"]}'),
    ],
)
def test_a_curve_that_cannot_be_is_refused_on_opening(
    folder: Path, problem: str, curve: str
) -> None:
    stage = f'{{"engine": {{"name": "onnxruntime"}}, "threshold": 0, "curve": {curve}}}'
    text = f'{{"problem": "{problem}", "stages": [{stage}]}}'
    (folder / "stages.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"stages\.json does not hold the stages"):
        open_stages(OnnxRuntimeEngine(), folder, 1)


def test_a_strange_first_stage_is_refused(folder: Path) -> None:
    text = '{"problem": "single_label", "stages": [{"engine": {"name": "abacus"}}]}'
    (folder / "stages.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"stages\.json does not hold the stages"):
        open_stages(OnnxRuntimeEngine(), folder, 1)


def test_confidence_is_the_distance_to_another_answer() -> None:
    single = np.array([[2.0, 0.5, 1.5], [0.0, 0.0, 3.0]], dtype=np.float32)
    np.testing.assert_allclose(margin(single), [0.5, 3.0])
    several = np.array([[2.0, -0.5], [-4.0, 3.0]], dtype=np.float32)
    np.testing.assert_allclose(confidence("nearest-decision", one_a_row(several)), [0.5, 3.0])


def test_a_regression_is_sure_where_its_answers_erred_least() -> None:
    """Errors of 0.1 below zero and of 1 above it."""
    answers = np.linspace(-3, 3, 400, dtype=np.float32)
    error = np.where(answers < 0, 0.1, 1.0).astype(np.float32)
    better = answers + error * np.random.default_rng(0).choice([-1, 1], 400).astype(np.float32)
    curve = fit_error_curve(answers, better)
    logits = np.array([[-9.0], [-2.0], [0.0], [2.0], [9.0]], dtype=np.float32)
    sure = stage_confidence("expected-error", one_a_row(logits), curve)
    np.testing.assert_allclose(sure[[0, 1, 3, 4]], [-0.1, -0.1, -1, -1], atol=1e-3)
    assert -1 < sure[2] < -0.1


def test_a_few_answers_make_one_knot() -> None:
    curve = fit_error_curve(np.zeros(3, np.float32), np.full(3, 2, np.float32))
    assert (curve.answers, curve.errors) == ((0.0,), (2.0,))


def test_a_regression_without_a_curve_is_refused() -> None:
    with pytest.raises(RecipeError, match="cannot go by expected-error alone"):
        confidence("expected-error", one_a_row(np.zeros((2, 1), dtype=np.float32)))


def test_every_stage_is_warmed_up() -> None:
    stage = Stage(engine=OnnxRuntimeEngine(), threshold=0.0)
    facts = Stages(confidence="margin", stages=(stage, stage))
    runners = [Noted(), Noted(), Noted()]

    Cascade(runners[:2], runners[2], facts).warm_up(17)

    assert [runner.calls for runner in runners] == [["warm up 17"]] * 3


def test_a_runner_that_cannot_be_warmed_up_is_closed() -> None:
    runner = Noted(EngineFailed("no such shape"))

    with pytest.raises(EngineFailed, match="no such shape"):
        runner.warmed_up(9)

    assert runner.calls == ["warm up 9", "close"]
