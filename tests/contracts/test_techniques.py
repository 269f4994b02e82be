"""One suite that every technique passes."""

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_encoder
from miaotui.errors import RecipeError
from miaotui.models.load import find_model, load_model, save_model
from miaotui.models.model import Calibration, Model
from miaotui.techniques import (
    TECHNIQUES,
    BFloat16,
    DropLayers,
    Int8Dynamic,
    Int8Static,
    LowRank,
    PruneStructure,
)
from miaotui.techniques.base import TechniqueBase

CONTRACT: list[TechniqueBase] = [
    PruneStructure(keep_time=0.5, round_neurons_to=8),
    PruneStructure(keep_time=0.5, round_neurons_to=8, importance="activation", correct=False),
    DropLayers(keep=(0, 2)),
    LowRank(ratio=0.5),
    Int8Dynamic(),
    Int8Static(calibrator="minmax"),
    Int8Static(calibrator="percentile"),
    Int8Static(calibrator="mse"),
    BFloat16(),
]


@pytest.fixture
def model() -> Model:
    return tiny_encoder.model(layers=3)


@pytest.fixture
def calibration() -> Calibration:
    return tiny_encoder.calibration(rows=40)


def answers(model: Model) -> np.ndarray:
    return tiny_encoder.logits(model, tiny_encoder.rows(12, seed=9))


def test_every_technique_stands_in_the_table() -> None:
    assert {type(t) for t in CONTRACT} == set(TECHNIQUES.values())


@pytest.mark.parametrize("technique", CONTRACT, ids=str)
def test_contract(
    technique: TechniqueBase, model: Model, calibration: Calibration, tmp_path: Path
) -> None:
    before = answers(model)
    done = technique.prepare(model, calibration)
    again = technique.prepare(model, calibration)
    assert answers(done).shape == before.shape
    assert np.isfinite(answers(done)).all()
    np.testing.assert_array_equal(answers(done), answers(again))
    np.testing.assert_array_equal(answers(model), before)
    save_model(done, tmp_path / "saved")
    reloaded = load_model(find_model(str(tmp_path / "saved")))
    np.testing.assert_allclose(answers(reloaded), answers(done), atol=1e-6)
    assert reloaded.encoder.shape == done.encoder.shape


@pytest.mark.parametrize("technique", CONTRACT, ids=str)
def test_round_trip(technique: TechniqueBase) -> None:
    assert type(technique).model_validate_json(technique.model_dump_json()) == technique


def test_pruning_makes_the_model_smaller(model: Model, calibration: Calibration) -> None:
    done = PruneStructure(keep_time=0.5, round_neurons_to=8).prepare(model, calibration)
    assert done.parameters < 0.8 * model.parameters


def test_pruning_nothing_changes_nothing(model: Model, calibration: Calibration) -> None:
    done = PruneStructure(keep_time=1.0).prepare(model, calibration)
    np.testing.assert_array_equal(answers(done), answers(model))


def test_correction_comes_closer_to_the_original(model: Model, calibration: Calibration) -> None:
    def distance(correct: bool) -> float:
        technique = PruneStructure(keep_time=0.6, round_neurons_to=4, correct=correct)
        states = tiny_encoder.states(technique.prepare(model, calibration), calibration.rows)
        return float(((states - tiny_encoder.states(model, calibration.rows)) ** 2).mean())

    assert distance(True) < 0.9 * distance(False)


def test_what_is_planted_as_useless_goes_first(model: Model, calibration: Calibration) -> None:
    layer = model.encoder.get_submodule("layers.0")
    with torch.no_grad():
        layer.output.weight[:, :8] = 0  # type: ignore[union-attr, index]
        layer.down.weight[:, 5:20] = 0  # type: ignore[union-attr, index]
    from miaotui.models.importance import fisher_importance

    found = fisher_importance(model.encoder, calibration, model.task.loss)
    assert found.heads[0].argmin() == 0
    assert found.heads[0][0] == 0
    assert (found.neurons[0][5:20] == 0).all()
    assert (found.neurons[0][20:] > 0).any()


def test_full_rank_is_the_original(model: Model, calibration: Calibration) -> None:
    done = LowRank(ranks={"layers.0.up": 32, "layers.1.query": 32}).prepare(model, calibration)
    np.testing.assert_allclose(answers(done), answers(model), atol=1e-4)


def test_a_rank_too_large_is_refused_by_name(model: Model, calibration: Calibration) -> None:
    with pytest.raises(RecipeError, match=r"rank 99 exceeds width 32 of layers\.0\.up"):
        LowRank(ranks={"layers.0.up": 99}).prepare(model, calibration)


@pytest.mark.parametrize("keep", [(), (0, 7), (1, 0), (0, 0)])
def test_layers_that_are_not_there(
    keep: tuple[int, ...], model: Model, calibration: Calibration
) -> None:
    with pytest.raises(RecipeError, match="expected ascending layers of 0 to 2"):
        DropLayers(keep=keep).prepare(model, calibration)


def test_calibrators_differ_where_there_is_an_outlier(
    model: Model, calibration: Calibration
) -> None:
    with torch.no_grad():
        model.encoder.embeddings.norm.bias[3] = 40.0

    def width(calibrator: str) -> float:
        technique = Int8Static.model_validate({"calibrator": calibrator, "percentile": 95})
        found = technique.prepare(model, calibration).precision["layers.0.query"]
        assert found.high is not None
        return found.high

    assert width("percentile") < width("minmax") / 2
    assert width("mse") <= width("minmax")


def test_fallback_leaves_linears_in_float(model: Model, calibration: Calibration) -> None:
    done = Int8Dynamic(skip=("layers.1.",)).prepare(model, calibration)
    assert "layers.0.up" in done.precision.linears
    assert not any(name.startswith("layers.1.") for name in done.precision)
