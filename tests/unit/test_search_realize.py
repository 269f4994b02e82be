"""Steps to a model: what a recovery made is kept, and read back without what it was made of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import tiny_context
import tiny_encoder
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.errors import RecipeError
from miaotui.models.latency_table import arithmetic_table
from miaotui.recipe import CascadeStage, Recipe
from miaotui.search.realize import realize
from miaotui.techniques import DropLayers, Int8Dynamic, PruneStructure
from miaotui.training.settings import Distillation

DISTIL = Distillation(epochs=1, batch=32)
TWICE = Recipe(
    steps=(DropLayers(keep=(0, 1)), DISTIL, DropLayers(keep=(0,)), DISTIL, Int8Dynamic()),
    engine=OnnxRuntimeEngine(),
)
ROWS = tiny_encoder.rows(12)


def test_a_recovery_is_read_back_without_what_it_was_made_of(tmp_path: Path) -> None:
    """The original is now one that the recipe's first step cannot be done to."""
    context = tiny_context.context(tmp_path)
    first = realize(TWICE, context)
    other = replace(context, model=tiny_encoder.model(layers=1))
    with pytest.raises(RecipeError):
        realize(Recipe(steps=TWICE.steps[:1], engine=TWICE.engine), other)

    again = realize(TWICE, other)

    assert len(again.encoder.layers) == 1
    assert again.precision == first.precision
    np.testing.assert_array_equal(
        tiny_encoder.logits(again, ROWS), tiny_encoder.logits(first, ROWS)
    )


def test_two_recipes_share_their_first_recovery(tmp_path: Path) -> None:
    context = tiny_context.context(tmp_path)
    once = Recipe(steps=TWICE.steps[:2], engine=TWICE.engine)
    realize(once, context)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()}

    realize(TWICE, context)

    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()}
    assert len(now) == 2
    assert kept.items() <= now.items()


GRADUAL = Recipe(
    steps=(
        PruneStructure(keep_time=0.4, round_neurons_to=8, rows=16, events=4, until=0.6),
        Distillation(epochs=8, batch=8, patience=99),
    ),
    engine=OnnxRuntimeEngine(),
)


def test_gradual_pruning_ends_in_a_smaller_model_that_answers_as_it_was_trained(
    tmp_path: Path,
) -> None:
    context = tiny_context.context(tmp_path)

    done = realize(GRADUAL, context)

    before, after = context.model.encoder.shape, done.encoder.shape
    table = arithmetic_table(before)
    assert table.predict(after) <= 0.4 * table.predict(before) * (1 + 1e-6)
    assert all(layer.heads for layer in after.layers)
    again = realize(GRADUAL, context)
    np.testing.assert_array_equal(tiny_encoder.logits(again, ROWS), tiny_encoder.logits(done, ROWS))


@pytest.mark.parametrize("step", [10, 20, 30])
def test_a_killed_gradual_pruning_goes_on_to_the_same_masks(step: int, tmp_path: Path) -> None:
    """Masks get tighter at steps 10, 20, 29 and 39, checkpoints lie at every fourth."""
    whole = realize(GRADUAL, tiny_context.context(tmp_path / "whole"))
    context = tiny_context.context(tmp_path / "killed")

    def killed(line: str) -> None:
        if line.startswith(f"distilling: step {step} of 64"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        realize(GRADUAL, context, progress=killed)
    (left,) = (tmp_path / "killed").rglob("checkpoint-*")
    assert left.name == f"checkpoint-{step // 4 * 4}"

    resumed = realize(GRADUAL, context)

    assert resumed.encoder.shape == whole.encoder.shape
    for name, tensor in whole.encoder.state_dict().items():
        assert torch.equal(resumed.encoder.state_dict()[name], tensor), name


def test_pruning_that_acts_in_no_training_is_refused() -> None:
    with pytest.raises(ValidationError, match="put a distil step right after it"):
        Recipe(steps=GRADUAL.steps[:1], engine=OnnxRuntimeEngine())
    with pytest.raises(ValidationError, match="put a distil step right after it"):
        CascadeStage(answers=0.5, steps=GRADUAL.steps[:1], engine=OnnxRuntimeEngine())
