"""What of TensorRT can be tested without a GPU: how it is refused, and the graphs that it would be
given, run by ONNX Runtime."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

import tiny_encoder
from miaotui.cli import app
from miaotui.engines.base import Session, feeds
from miaotui.engines.layouts import Bucketed, Layout, Packed, Padded
from miaotui.engines.onnx_files import ONNX_FILE
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.tensorrt import TensorRtEngine, largest
from miaotui.errors import EngineUnavailable
from miaotui.hardware import probe
from miaotui.models.model import Model
from miaotui.paths import CACHE_VARIABLE, cache_folder
from miaotui.tasks.base import encoded_rows
from miaotui.techniques import Int8Static

ROWS = tiny_encoder.rows(40)
LAYOUT = Packed(batch=2, block_tokens=32, block_rows=4)
LAYOUTS = (
    Padded(batch=32),
    Bucketed(batch=16, edges=(64, 256, 384)),
    Packed(batch=8, block_tokens=96),
)
GPU = replace(probe(), gpus=("NVIDIA L4",))


def test_each_thing_that_is_missing_is_named() -> None:
    assert "none here" in str(TensorRtEngine.unavailable(replace(probe(), gpus=())))
    bare = replace(GPU, versions={"tensorrt": "11.4"})
    assert TensorRtEngine.unavailable(bare) == "tensorrt: cuda-bindings is not installed"
    whole = replace(GPU, versions={"tensorrt": "11.4", "cuda-bindings": "13.0"})
    assert TensorRtEngine.unavailable(whole) is None


@pytest.mark.skipif(bool(probe().gpus), reason="there is a GPU here")
def test_without_a_gpu_it_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="needs an NVIDIA GPU, and there is none here"):
        TensorRtEngine().open(tmp_path, 1)
    assert "needs an NVIDIA GPU" in CliRunner().invoke(app, ["probe", "--json"]).stdout


@pytest.mark.skipif(bool(probe().gpus), reason="there is a GPU here")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_onnxruntime_does_not_fall_back_from_a_gpu(provider: str, tmp_path: Path) -> None:
    engine = OnnxRuntimeEngine.model_validate({"provider": provider})
    engine.build(tiny_encoder.model(1), None, tmp_path)
    with pytest.raises(EngineUnavailable, match=f"no provider {provider}"):
        engine.open(tmp_path, 1)


def run_by_onnxruntime(model: Model, folder: Path, fp16: bool) -> np.ndarray:
    """Node by node: the int8 products that it fuses saturate on processors without VNNI."""
    TensorRtEngine(fp16=fp16, layout=LAYOUT).build(model, None, folder)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    graph = onnxruntime.InferenceSession(str(folder / ONNX_FILE), options)
    names = [entry.name for entry in graph.get_inputs()]
    return Session(lambda batch: graph.run(None, feeds(batch, names))[0], LAYOUT).run(ROWS).values


@pytest.mark.parametrize(("fp16", "tolerance"), [(False, 1e-4), (True, 0.02)])
def test_its_graphs_are_the_model(fp16: bool, tolerance: float, tmp_path: Path) -> None:
    model = tiny_encoder.model(3)
    found = run_by_onnxruntime(model, tmp_path, fp16)
    expected = tiny_encoder.logits(model, ROWS)
    assert np.abs(found - expected).max() <= tolerance * np.ptp(expected)
    assert fp16 == (onnx.TensorProto.FLOAT16 in types_of_weights(tmp_path))


@pytest.mark.parametrize("fp16", [False, True])
def test_int8_is_symmetric_and_signed(fp16: bool, tmp_path: Path) -> None:
    model = Int8Static().prepare(tiny_encoder.model(3), tiny_encoder.calibration())
    found = run_by_onnxruntime(model, tmp_path, fp16)
    expected = tiny_encoder.logits(tiny_encoder.model(3), ROWS)
    assert np.abs(found - expected).max() <= 0.1 * np.ptp(expected)
    assert onnx.TensorProto.UINT8 not in types_of_weights(tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_plan_takes_every_batch_of_its_layout(layout: Layout) -> None:
    blocks, tokens, readouts = largest(layout, 300)
    rows = tiny_encoder.rows(200)
    long = encoded_rows([[1] * 300, [1] * 299, [1]])
    for batch in [*layout.batches(rows), *layout.batches(long), *Padded(batch=1).batches(long)]:
        assert batch.shape[0] <= blocks
        assert batch.shape[1] <= tokens
        assert batch.shape[2] <= readouts


def types_of_weights(folder: Path) -> Sequence[int]:
    graph = onnx.load(str(folder / ONNX_FILE)).graph
    return [tensor.data_type for tensor in graph.initializer]


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_folder("tensorrt") == tmp_path / "tensorrt"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("tensorrt") == tmp_path / "miaotui" / "tensorrt"
