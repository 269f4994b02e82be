"""Bundles where something is missing: another engine stands in and says so, or one line says why
none does."""

from pathlib import Path

import numpy as np
import pytest

from miaotui.bundle import open_bundle, read_bundle
from miaotui.cascade import Part, Stage, Stages
from miaotui.engines import Engine
from miaotui.engines.base import OVERFLOWING_INT8
from miaotui.engines.layouts import Bucketed, Packed
from miaotui.engines.native import NativeEngine
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.openvino import OpenVinoEngine, openvino_devices
from miaotui.engines.torch import TorchEngine
from miaotui.engines.workload import workload_of
from miaotui.errors import EngineUnavailable, OutputError
from miaotui.fallback import placed
from miaotui.hardware import Machine, probe
from miaotui.host import Made, Placed, keep_choice
from miaotui.models.precision import Kind
from miaotui.paths import CACHE_VARIABLE, cache_folder
from miaotui.pipeline.runtime_options import all_options, refined
from tiny_bundle import ROWS, in_kind, lacking, made_by

BUCKETS = Bucketed(batch=8, edges=(8, 16, 32))
PACKED = Packed(batch=2, block_tokens=32, block_rows=8)
AVX2 = ("avx2",)
needs_native = pytest.mark.skipif(
    NativeEngine.unavailable(probe()) is not None, reason="the native kernels are not installed"
)
NATIVE = "miaotui-native"


@pytest.mark.parametrize(
    ("engine", "kind", "machine", "runs_on"),
    [
        pytest.param(NativeEngine(), Kind.INT8_DYNAMIC, lacking(NATIVE), "openvino/bucketed",
                     marks=needs_native),
        pytest.param(NativeEngine(), Kind.INT8_STATIC, lacking(NATIVE, "openvino"),
                     "onnxruntime/bucketed", marks=needs_native),
        pytest.param(NativeEngine(), Kind.BF16, lacking(NATIVE, "openvino", "onnxruntime"),
                     "torch/bucketed", marks=needs_native),
        (OnnxRuntimeEngine(layout=PACKED), Kind.INT8_STATIC,
         lacking("onnxruntime", "torch", NATIVE), "openvino/packed"),
        (OpenVinoEngine(layout=BUCKETS), Kind.INT8_STATIC, lacking("openvino", "torch"),
         "onnxruntime/bucketed"),
        (OnnxRuntimeEngine(layout=PACKED, weight_bits=8), Kind.INT8_DYNAMIC, lacking(isa=AVX2),
         "onnxruntime/packed"),
        (OpenVinoEngine(layout=BUCKETS, weight_bits=8), Kind.INT8_STATIC, lacking(isa=AVX2),
         "onnxruntime/bucketed"),
        (OpenVinoEngine(layout=BUCKETS, bf16=True), Kind.FP32, lacking(isa=AVX2),
         "openvino/bucketed"),
        (TorchEngine(layout=PACKED), Kind.BF16, lacking(NATIVE, isa=AVX2), "openvino/packed"),
    ],
    ids=lambda value: value.name if isinstance(value, OnnxRuntimeEngine) else None,
)  # fmt: skip
def test_another_engine_stands_in_and_says_so(
    tmp_path: Path, engine: Engine, kind: Kind, machine: Machine, runs_on: str
) -> None:
    bundle = made_by(tmp_path / "fast", engine, in_kind(kind))
    with open_bundle(bundle, machine=machine) as predictor:
        assert predictor.runs_on == runs_on
        said = predictor.warnings[0]
        assert "\n" not in said
        assert said.startswith(f"{runs_on} stands in for {engine.title} and answers")
        assert "of 60 golden rows alike" in said
        assert "miaotui bench --retune" in said
        values = predictor.outputs(ROWS).values
    assert bundle.golden is not None
    assert np.abs(values - bundle.golden.outputs.values).max() < 0.2
    assert read_bundle(bundle.folder).manifest == bundle.manifest


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        (OnnxRuntimeEngine(layout=BUCKETS, weight_bits=7), Kind.INT8_DYNAMIC),
        (OnnxRuntimeEngine(layout=BUCKETS, weight_bits=8), Kind.FP32),
        (OpenVinoEngine(layout=BUCKETS, weight_bits=8), Kind.FP32),
        (TorchEngine(layout=BUCKETS), Kind.FP32),
        pytest.param(NativeEngine(), Kind.BF16, marks=needs_native),
    ],
)
def test_what_an_older_processor_runs_as_it_is_stays(
    tmp_path: Path, engine: Engine, kind: Kind
) -> None:
    bundle = made_by(tmp_path / "fast", engine, in_kind(kind))
    with open_bundle(bundle, machine=lacking(isa=AVX2)) as predictor:
        assert predictor.runs_on == engine.title
        assert not any("stands in" in warning for warning in predictor.warnings)


@pytest.mark.skipif("GPU" in openvino_devices() or bool(probe().gpus), reason="a GPU is here")
@pytest.mark.parametrize(
    ("engine", "changed", "says"),
    [
        (OpenVinoEngine(layout=BUCKETS), {"device": "GPU"}, "openvino sees no device GPU here"),
        (OnnxRuntimeEngine(layout=BUCKETS), {"provider": "cuda"}, "provider cuda"),
    ],
)
def test_a_device_that_is_missing_is_stood_in_for(
    tmp_path: Path, engine: Engine, changed: dict[str, str], says: str
) -> None:
    there = engine.model_copy(update=changed)
    bundle = made_by(tmp_path / "fast", engine, in_kind(Kind.FP32), recorded=there)
    assert there.unsuited(bundle.folder, probe()) == there.refusal()
    with open_bundle(bundle) as predictor:
        assert predictor.warnings[0].startswith(f"{predictor.runs_on} stands in for {there.title}")
        assert says in predictor.warnings[0]
    made = bundle.made(predictor.task)
    keep_choice(made, probe(), Placed(made.parts, is_tuned=True))
    assert placed(made, probe(), 1).title == predictor.runs_on


def test_what_was_missing_and_is_there_again_is_used(tmp_path: Path) -> None:
    engine = OnnxRuntimeEngine(layout=BUCKETS)
    made = made_by(tmp_path / "fast", engine, in_kind(Kind.FP32)).made(in_kind(Kind.FP32).task)
    other = Part(OnnxRuntimeEngine(layout=PACKED), made.parts[0].folder)
    keep_choice(made, probe(), Placed((other,), said="stands in"))
    assert placed(made, probe(), 1) == Placed(made.parts)


def cascade_of(out: Path, *engines: Engine) -> Made:
    """Two stages by two engines, without golden rows."""
    model = in_kind(Kind.INT8_DYNAMIC)
    parts = [Part(engine, out / str(number)) for number, engine in enumerate(engines)]
    for part in parts:
        part.engine.build(model, None, part.folder)
    facts = Stages(confidence="margin", stages=(Stage(engine=engines[0], threshold=0.5),))
    return Made(out, "two", tuple(parts), facts, model.task, None)


FEWER, WHOLE = NativeEngine(weight_bits=7), OnnxRuntimeEngine(layout=BUCKETS, weight_bits=8)


def test_each_stage_keeps_the_bits_of_its_own_weights(tmp_path: Path) -> None:
    machine = lacking(NATIVE, isa=AVX2)
    made = cascade_of(tmp_path, FEWER, WHOLE)
    found = placed(made, machine, 1)
    assert found.parts[1].folder == made.parts[1].folder
    last = found.parts[1].engine
    assert isinstance(last, OnnxRuntimeEngine)
    assert (last.weight_bits, last.exact_int8) == (8, True)


def test_no_way_to_run_a_stage_forgets_the_bits_of_its_weights(tmp_path: Path) -> None:
    machine = lacking(isa=AVX2)
    made = cascade_of(tmp_path / "made", WHOLE, FEWER)
    work = workload_of(ROWS.lengths, machine, 2, made.task.max_tokens)
    options = list(all_options(made, work, tmp_path / "draft", {}))
    tried = [*options, *(more for each in options for more in refined(work, False, each))]
    first = [option.parts[0] for option in tried]
    by_onnxruntime = [part.engine for part in first if part.engine.name == "onnxruntime"]
    assert len(by_onnxruntime) > len(options)
    assert {(e.weight_bits, e.exact_int8) for e in by_onnxruntime} == {(8, True)}
    by_openvino = [part for part in first if part.engine.name == "openvino"]
    assert by_openvino
    assert all(p.engine.unsuited(p.folder, machine) == OVERFLOWING_INT8 for p in by_openvino)


def test_sums_that_would_overflow_are_computed_exactly(tmp_path: Path) -> None:
    engine = OnnxRuntimeEngine(layout=BUCKETS, weight_bits=8)
    bundle = made_by(tmp_path / "fast", engine, in_kind(Kind.INT8_DYNAMIC))
    with open_bundle(bundle, machine=lacking(isa=AVX2)) as predictor:
        assert "overflow" in predictor.warnings[0]
    exact = engine.suited(lacking(isa=AVX2))
    assert exact.exact_int8
    assert engine.suited(lacking(isa=(*AVX2, "avx_vnni"))) == engine


def test_what_was_lowered_once_is_opened_again(tmp_path: Path) -> None:
    bundle = made_by(tmp_path / "fast", TorchEngine(layout=BUCKETS), in_kind(Kind.BF16))
    machine = lacking(NATIVE, "openvino", isa=AVX2)
    before = set(cache_folder("bundles").glob("*/*"))
    first = open_bundle(bundle, machine=machine)
    kept = {path: path.stat().st_mtime_ns for path in cache_folder("bundles").rglob("*")}
    again = open_bundle(bundle, machine=machine)
    assert again.warnings == first.warnings
    assert {path: path.stat().st_mtime_ns for path in cache_folder("bundles").rglob("*")} == kept
    assert len(set(cache_folder("bundles").glob("*/*")) - before) == 2
    assert not list(cache_folder("bundles").glob(".draft-*"))


def test_a_choice_that_is_not_whole_is_made_again(tmp_path: Path) -> None:
    bundle = made_by(tmp_path / "fast", TorchEngine(layout=BUCKETS), in_kind(Kind.BF16))
    machine = lacking(NATIVE, isa=AVX2)
    before = set(cache_folder("bundles").glob("*/choice.json"))
    said = open_bundle(bundle, machine=machine).warnings
    (choice,) = set(cache_folder("bundles").glob("*/choice.json")) - before
    choice.write_text(choice.read_text(encoding="utf-8")[:40], encoding="utf-8")
    assert open_bundle(bundle, machine=machine).warnings == said


def test_without_golden_rows_it_is_said_to_be_unchecked(tmp_path: Path) -> None:
    engine = OnnxRuntimeEngine(layout=PACKED)
    bundle = made_by(tmp_path / "fast", engine, in_kind(Kind.FP32), golden=False)
    predictor = open_bundle(bundle, machine=lacking("onnxruntime"))
    assert "unchecked" in predictor.warnings[0]
    assert predictor.runs_on == "openvino/bucketed"


def test_what_answers_otherwise_does_not_stand_in(tmp_path: Path) -> None:
    engine = OnnxRuntimeEngine(layout=BUCKETS)
    bundle = made_by(tmp_path / "fast", engine, in_kind(Kind.FP32), shift=100.0)
    with pytest.raises(EngineUnavailable, match=r"nothing else here runs it: .* otherwise"):
        open_bundle(bundle, machine=lacking("onnxruntime"))


@pytest.mark.parametrize(
    ("engine", "machine", "says"),
    [
        (OnnxRuntimeEngine(layout=BUCKETS), lacking("onnxruntime", "openvino", NATIVE),
         "onnxruntime is not installed"),
        pytest.param(NativeEngine(), lacking(NATIVE, "torch"), "takes torch and transformers",
                     marks=needs_native),
    ],
)  # fmt: skip
def test_where_nothing_runs_it_one_line_says_why(
    tmp_path: Path, engine: Engine, machine: Machine, says: str
) -> None:
    bundle = made_by(tmp_path / "fast", engine, in_kind(Kind.FP32))
    with pytest.raises(EngineUnavailable, match=says) as raised:
        open_bundle(bundle, machine=machine)
    assert "\n" not in str(raised.value)


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = made_by(tmp_path / "fast", OnnxRuntimeEngine(layout=BUCKETS), in_kind(Kind.FP32))
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(OutputError, match=CACHE_VARIABLE):
        open_bundle(bundle, machine=lacking("onnxruntime"))
