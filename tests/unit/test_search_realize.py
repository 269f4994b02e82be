"""Steps to a model: what a recovery made is kept, and read back without what it was made of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny_context
import tiny_encoder
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.errors import RecipeError
from miaotui.recipe import Recipe
from miaotui.search.realize import realize
from miaotui.techniques import DropLayers, Int8Dynamic
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
