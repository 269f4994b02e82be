"""What calibrated techniques see: real tokens only, every feature, and sensible ranges."""

from dataclasses import replace
from math import gcd
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import tiny_encoder
from miaotui.errors import ModelError
from miaotui.models.model import Calibration, Model
from miaotui.models.observe import second_moments
from miaotui.tasks.base import encoded_rows
from miaotui.tasks.outputs import one_a_row
from miaotui.techniques import (
    DropLayers,
    Int8Dynamic,
    Int8Static,
    LowRank,
    PruneStructure,
)
from miaotui.techniques.int8_static import _least_error, _rounding_error, _stride
from miaotui.techniques.low_rank import weighted_svd
from tiny import UNKNOWN, tiny_model

BAD_SETTINGS = (
    (PruneStructure, {"keep_time": 0}),
    (PruneStructure, {"keep_time": 1.1}),
    (PruneStructure, {"keep_time": 0.5, "round_neurons_to": 0}),
    (PruneStructure, {"keep_time": 0.5, "importance": "magnitude"}),
    (DropLayers, {}),
    (LowRank, {}),
    (LowRank, {"ratio": 0.5, "ranks": {"layers.0.up": 3}}),
    (LowRank, {"ratio": 0}),
    (LowRank, {"ranks": {"layers.0.up": 0}}),
    (Int8Static, {"percentile": 101}),
    (Int8Static, {"calibrator": "entropy"}),
    (Int8Dynamic, {"skp": ["layers.0."]}),
)


@pytest.fixture
def model() -> Model:
    return tiny_encoder.model(layers=2)


@pytest.fixture
def without_adapter(tmp_path: Path) -> Model:
    return tiny_model(UNKNOWN, tmp_path)


@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "mse"])
def test_observed_ranges_ignore_padding(calibrator: str, model: Model) -> None:
    """Padding has the id 0: a huge embedding there must leave no trace."""
    rows = encoded_rows([[5, 6, 7, 8, 9, 10], [11, 12]])
    calibration = Calibration(rows, one_a_row(np.array([0, 1])))
    technique = Int8Static.model_validate({"calibrator": calibrator})
    before = technique.prepare(model, calibration).precision
    with torch.no_grad():
        model.encoder.embeddings.words.weight[0] = 0
        model.encoder.embeddings.words.weight[0, 3] = 1e4
    after = technique.prepare(model, calibration).precision

    assert dict(after) == dict(before)
    assert set(before) == {
        f"layers.{i}.{part}"
        for i in range(2)
        for part in ("query", "key", "value", "output", "up", "down")
    }


def test_minmax_is_what_single_unpadded_rows_show(model: Model) -> None:
    calibration = tiny_encoder.calibration(rows=9)
    found = Int8Static(calibrator="minmax").prepare(model, calibration).precision
    alone = [
        Int8Static(calibrator="minmax")
        .prepare(model, Calibration(calibration.rows.select([i]), calibration.targets.select([i])))
        .precision
        for i in range(9)
    ]
    for name, seen in found.items():
        assert seen.low == pytest.approx(min(p[name].low for p in alone), abs=1e-5)
        assert seen.high == pytest.approx(max(p[name].high for p in alone), abs=1e-5)


def test_second_moments_ignore_padding(model: Model) -> None:
    rows = tiny_encoder.rows(9)
    names = ["layers.0.query", "layers.1.key", "layers.1.down"]
    together = second_moments(model.encoder, rows, names)
    alone = [second_moments(model.encoder, rows.select([i]), names) for i in range(9)]
    for name in names:
        weights = np.ones(9) if name == "layers.1.down" else rows.lengths
        mean = sum(w * m[name] for w, m in zip(weights, alone, strict=True)) / weights.sum()
        torch.testing.assert_close(together[name], mean, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("features", [32, 384, 768, 1536, 35])
@pytest.mark.parametrize("wanted", [0, 1, 12, 16, 35, 384])
def test_a_sample_visits_every_feature(features: int, wanted: int) -> None:
    step = _stride(wanted, features)

    assert step >= max(1, wanted)
    assert gcd(step, features) == 1
    assert len({i % features for i in range(0, step * features, step)}) == features


def test_a_feature_that_is_always_large_is_not_clipped(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 of 32 features is 40 in every token: no percentile of 99 may leave that out."""
    with torch.no_grad():
        model.encoder.embeddings.norm.bias[3] = 40.0
    monkeypatch.setattr("miaotui.techniques.int8_static._SAMPLE", 32)
    technique = Int8Static(calibrator="percentile", percentile=99)
    found = technique.prepare(model, tiny_encoder.calibration()).precision["layers.0.query"]

    assert found.high is not None
    assert found.high > 35


def test_mse_rounds_better_than_the_whole_range() -> None:
    sample = np.random.default_rng(0).normal(size=20_000)
    sample[0] = 30.0
    low, high = _least_error(sample)

    assert high < 30
    assert _rounding_error(sample, low, high) < _rounding_error(sample, sample.min(), 30.0)


def test_weighing_by_the_inputs_beats_a_plain_svd() -> None:
    torch.manual_seed(0)
    weight = torch.randn(12, 10)
    inputs = torch.randn(500, 10) * torch.tensor([5.0, 4.0, 3.0] + [0.1] * 7)
    moment = (inputs.T @ inputs / 500).double()

    def error(moment: torch.Tensor) -> float:
        first, second = weighted_svd(weight, moment, 3)
        return float(((inputs @ (weight - second @ first).T) ** 2).mean())

    assert error(moment) < 0.2 * error(torch.eye(10, dtype=torch.float64))


@pytest.mark.parametrize(("technique", "settings"), BAD_SETTINGS)
def test_bad_settings_are_refused(
    technique: type[PruneStructure], settings: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        technique.model_validate(settings)


@pytest.mark.parametrize(
    "technique",
    [PruneStructure(keep_time=0.5), DropLayers(keep=(0,)), LowRank(ratio=0.5), Int8Static()],
    ids=lambda technique: technique.name,
)
def test_surgery_needs_an_adapter(
    technique: PruneStructure | DropLayers | LowRank | Int8Static, without_adapter: Model
) -> None:
    with pytest.raises(ModelError, match="has no adapter"):
        technique.prepare(without_adapter, tiny_encoder.calibration())


def test_dynamic_int8_needs_no_adapter(without_adapter: Model) -> None:
    done = Int8Dynamic().prepare(without_adapter, tiny_encoder.calibration())

    assert len(done.precision) > 4
    assert done.module is without_adapter.module


def test_precision_of_the_original_is_left_alone(model: Model) -> None:
    Int8Dynamic().prepare(replace(model), tiny_encoder.calibration())
    assert len(model.precision) == 0
