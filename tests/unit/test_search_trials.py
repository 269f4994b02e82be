"""One trial: what is measured of a recipe, what an engine that cannot leaves, what is read back."""

from pathlib import Path

import numpy as np
import pytest

import tiny_context
import tiny_encoder
from miaotui.cascade import Cascade
from miaotui.engines.layouts import Packed
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.recipe import CascadeStage, Recipe
from miaotui.search.build import build_recipe, open_recipe
from miaotui.search.evaluate import Effort, evaluate
from miaotui.search.sensitivity import (
    Sensitivity,
    can_fall_back,
    layer_sensitivity,
    with_fallback,
)
from miaotui.search.trials import TrialStore
from miaotui.tasks.problems import Problem
from miaotui.techniques import BFloat16, DropLayers, Int8Dynamic, Int8Static

QUICK = Effort(round_s=0.02, calls_s=0.1)
LAYOUT = Packed(batch=2, block_tokens=32)
INT8 = Recipe(steps=(Int8Static(),), engine=OnnxRuntimeEngine(layout=LAYOUT, weight_bits=8))


@pytest.fixture
def store(tmp_path: Path) -> TrialStore:
    return TrialStore(tmp_path / "trials", "tiny")


def test_the_float_model_answers_as_the_original(tmp_path: Path, store: TrialStore) -> None:
    context = tiny_context.context(tmp_path)
    recipe = Recipe(engine=OnnxRuntimeEngine(layout=LAYOUT))
    trial = evaluate(recipe, "free", context, store, QUICK)
    assert trial.error is None
    assert trial.same_answers
    assert trial.drop == 0
    assert trial.divergence == 0
    assert trial.throughput_rows_per_s > 0
    assert 0 < trial.p50_ms <= trial.p99_ms
    assert trial.size_bytes > 1000
    assert trial.memory_bytes is None
    assert not (tmp_path / "engines" / recipe.key).exists(), "nothing is left of it but the trial"


def test_a_trial_is_read_back_and_not_measured_again(tmp_path: Path, store: TrialStore) -> None:
    context = tiny_context.context(tmp_path)
    first = evaluate(INT8, "free", context, store, QUICK)
    assert evaluate(INT8, "free", context, store, QUICK) == first
    assert list(store) == [first]


def test_an_engine_that_cannot_is_a_trial_with_a_reason(tmp_path: Path, store: TrialStore) -> None:
    recipe = Recipe(steps=(BFloat16(),), engine=OnnxRuntimeEngine())
    trial = evaluate(recipe, "free", tiny_context.context(tmp_path), store, QUICK)
    assert not trial.ok
    assert "onnxruntime cannot compute in bf16" in (trial.error or "")
    assert store.get(recipe) == trial, "a failure is read back too, and not tried again"


def test_memory_is_that_of_a_process_that_serves(tmp_path: Path, store: TrialStore) -> None:
    effort = Effort(round_s=0.02, calls_s=0.1, memory=True)
    trial = evaluate(INT8, "free", tiny_context.context(tmp_path), store, effort)
    assert trial.memory_bytes is not None
    assert 30e6 < trial.memory_bytes < 600e6


def test_a_cascade_answers_its_share_first(tmp_path: Path, store: TrialStore) -> None:
    context = tiny_context.context(tmp_path)
    stage = CascadeStage(answers=0.5, steps=(DropLayers(keep=(0,)),), engine=INT8.engine)
    alone = evaluate(stage.recipe, "compressed", context, store, QUICK)
    both = INT8.model_copy(update={"stages": (stage,)})
    trial = evaluate(both, "cascade", context, store, QUICK)
    whole = evaluate(INT8, "free", context, store, QUICK)
    assert trial.ok
    assert whole.divergence <= trial.divergence <= alone.divergence + whole.divergence
    assert trial.size_bytes > whole.size_bytes


def test_three_stages_share_the_rows(tmp_path: Path) -> None:
    """Half for the first, half of what is left for the second, as the validation rows have it."""
    context = tiny_context.context(tmp_path)
    two = [
        CascadeStage(answers=0.5, steps=(DropLayers(keep=keep),), engine=INT8.engine)
        for keep in ((0,), (0, 1))
    ]
    recipe = INT8.model_copy(update={"stages": tuple(two)})
    build_recipe(recipe, context, tmp_path / "built")
    cascade = open_recipe(recipe, context, tmp_path / "built")
    assert isinstance(cascade, Cascade)
    by = cascade.answered_by(context.validation.rows)
    np.testing.assert_array_equal(np.bincount(by), [24, 12, 12])


def test_a_regression_is_first_answered_where_its_error_is_small(
    tmp_path: Path, store: TrialStore
) -> None:
    model = tiny_encoder.model(problem=Problem.REGRESSION, labels=1)
    context = tiny_context.context(tmp_path, model)
    stage = CascadeStage(answers=0.5, steps=(DropLayers(keep=(0, 1)),), engine=INT8.engine)
    alone = evaluate(stage.recipe, "compressed", context, store, QUICK)
    recipe = INT8.model_copy(update={"stages": (stage,)})
    both = evaluate(recipe, "cascade", context, store, QUICK)
    whole = evaluate(INT8, "free", context, store, QUICK)
    assert both.ok
    assert whole.divergence <= both.divergence < alone.divergence
    build_recipe(recipe, context, tmp_path / "built")
    cascade = open_recipe(recipe, context, tmp_path / "built")
    assert isinstance(cascade, Cascade)
    curve = cascade.facts.stages[0].curve
    assert curve is not None
    rows = context.validation.rows
    first = tiny_encoder.logits(stage.recipe.steps[0].prepare(model, context.train), rows)[:, 0]
    expected = curve.predict(first)
    sure = cascade.answered_by(rows) == 0
    assert 0.3 < sure.mean() < 0.7
    assert expected[sure].max() <= expected[~sure].min() + 1e-3


def test_a_regression_diverges_by_its_distance(tmp_path: Path, store: TrialStore) -> None:
    model = tiny_encoder.model(problem=Problem.REGRESSION, labels=1)
    context = tiny_context.context(tmp_path, model)
    whole = evaluate(INT8, "free", context, store, QUICK)
    cut = evaluate(
        INT8.model_copy(update={"steps": (DropLayers(keep=(0,)), *INT8.steps)}),
        "compressed",
        context,
        store,
        QUICK,
    )
    assert 0 < whole.divergence < cut.divergence


def test_sensitivity_is_of_each_layer_alone_and_kept(tmp_path: Path) -> None:
    context = tiny_context.context(tmp_path)
    found = layer_sensitivity(context, INT8)
    assert [entry.layer for entry in found] == [0, 1, 2]
    assert all(np.isfinite(entry.distance) and entry.distance > 0 for entry in found)
    (path,) = tmp_path.glob("sensitivity-*.json")
    assert layer_sensitivity(context, INT8) == found
    path.unlink()
    assert [e.layer for e in layer_sensitivity(context, INT8)] == [0, 1, 2]


def test_fallback_spares_the_most_sensitive_layers() -> None:
    found = [Sensitivity(0, 0.0, 0.1), Sensitivity(1, 0.0, 0.5), Sensitivity(2, 0.0, 0.3)]
    assert with_fallback(INT8, found, 1).steps == (Int8Static(skip=("layers.1.",)),)
    assert with_fallback(INT8, found, 2).steps == (Int8Static(skip=("layers.1.", "layers.2.")),)
    in_bf16 = Int8Static(skip=("layers.1.",), skipped_in="bf16")
    assert with_fallback(INT8, found, 1, "bf16").steps == (in_bf16,)


def test_what_can_fall_back() -> None:
    assert can_fall_back(INT8)
    assert can_fall_back(Recipe(steps=(Int8Dynamic(),), engine=OnnxRuntimeEngine()))
    assert not can_fall_back(Recipe(steps=(BFloat16(),), engine=OpenVinoEngine(bf16=True)))
