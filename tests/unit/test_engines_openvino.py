"""What the OpenVINO engine does about first calls: of its bindings, and of each length."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
from pydantic import ValidationError

import tiny_encoder
from miaotui.engines.base import OVERFLOWING_INT8, Session
from miaotui.engines.layouts import Bucketed, Layout, Packed, Padded
from miaotui.engines.openvino import (
    FACTS_FILE,
    FirstAlone,
    NetworkRunner,
    OpenVinoEngine,
    openvino_devices,
    settable,
)
from miaotui.errors import BundleError, EngineUnavailable
from miaotui.models.precision import Kind
from miaotui.tasks.base import encoded_rows
from tiny_bundle import in_kind, lacking


class Calls:
    """Counts how many run at once, and how many did at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self.most = 0

    def __call__(self) -> None:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        time.sleep(0.1)
        with self._lock:
            self._running -= 1


def together(first: FirstAlone, call: Callable[[], None], threads: int = 4) -> None:
    ready = threading.Barrier(threads)

    def one() -> None:
        ready.wait()
        first(call)

    started = [threading.Thread(target=one) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def test_the_first_call_is_alone_and_later_ones_are_not() -> None:
    first = FirstAlone()
    early, late = Calls(), Calls()

    together(first, early)
    together(first, late)

    assert early.most == 1
    assert late.most > 1


def test_a_first_call_that_fails_leaves_the_next_one_alone() -> None:
    first, calls = FirstAlone(), Calls()

    def failing() -> None:
        raise RuntimeError("no such shape")

    with pytest.raises(RuntimeError, match="no such shape"):
        first(failing)
    together(first, calls)

    assert calls.most == 1


LAYOUTS: tuple[Layout, ...] = (
    Padded(batch=4),
    Bucketed(batch=4, edges=(8, 16)),
    Packed(batch=2, block_tokens=32, block_rows=4),
)


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
def test_a_session_that_is_warm_compiles_nothing_for_a_single_row(
    layout: Layout, streams: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = tiny_encoder.model(2), tiny_encoder.rows(40)
    engine = OpenVinoEngine(layout=layout, streams=streams)
    engine.build(model, None, tmp_path)
    session = engine.open(tmp_path, 2)
    session.warm_up(int(rows.lengths.max()))

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("compiled while it served")

    monkeypatch.setattr(openvino.Core, "compile_model", refuse)
    answers = [session.run(rows.select([row])).values for row in range(len(rows))]

    expected = tiny_encoder.logits(model, rows)
    np.testing.assert_allclose(np.concatenate(answers), expected, atol=1e-4)
    session.close()


@pytest.mark.parametrize("most", [64, 50])
def test_warming_up_runs_every_length_that_a_single_row_is_padded_to(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_encoder.model(2)
    model = replace(model, task=replace(model.task, max_tokens=most))
    engine = OpenVinoEngine()
    engine.build(model, None, tmp_path)
    session = engine.open(tmp_path, 2)
    met = infers(monkeypatch)
    session.warm_up(most)
    before = set(met)

    for length in range(1, most + 1):
        session.run(encoded_rows([[1] * length]))

    assert before == {(1, tokens) for tokens in (*range(4, most, 4), most)}
    assert set(met) == before
    session.close()


def infers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of ids that go through OpenVINO from now on."""
    met: list[tuple[int, ...]] = []
    infer = openvino.InferRequest.infer

    def noted(request: openvino.InferRequest, inputs: dict[str, np.ndarray], **given: bool) -> None:
        met.append(inputs["ids"].shape)
        infer(request, inputs, **given)

    monkeypatch.setattr(openvino.InferRequest, "infer", noted)
    return met


def test_long_rows_of_a_packed_batch_and_single_rows_run_side_by_side(tmp_path: Path) -> None:
    model = tiny_encoder.model(2)
    engine = OpenVinoEngine(layout=Packed(batch=2, block_tokens=16, block_rows=4), streams=2)
    engine.build(model, None, tmp_path)
    session = engine.open(tmp_path, 2)
    rows = encoded_rows([[row + 1] * length for row, length in enumerate((40, 5, 33, 17, 9, 20))])

    with ThreadPoolExecutor(4) as pool:
        together = [pool.submit(session.run, rows) for _ in range(4)]
        singles = [pool.submit(session.run, rows.select([row])) for row in range(len(rows))]

    expected = tiny_encoder.logits(model, rows)
    for done in together:
        np.testing.assert_allclose(done.result().values, expected, atol=1e-4)
    alone = np.concatenate([done.result().values for done in singles])
    np.testing.assert_allclose(alone, expected, atol=1e-4)
    session.close()


def test_a_bundle_of_an_older_miaotui_says_what_to_do(tmp_path: Path) -> None:
    engine = OpenVinoEngine()
    engine.build(tiny_encoder.model(2), None, tmp_path)
    (tmp_path / FACTS_FILE).unlink()

    with pytest.raises(BundleError, match="run miaotui optimize again"):
        engine.open(tmp_path, 1)


def test_spoilt_facts_are_named(tmp_path: Path) -> None:
    engine = OpenVinoEngine()
    engine.build(tiny_encoder.model(2), None, tmp_path)
    (tmp_path / FACTS_FILE).write_text("[]", encoding="utf-8")

    with pytest.raises(BundleError, match="cannot be opened by openvino"):
        engine.open(tmp_path, 1)


def test_rows_over_the_last_edge_share_one_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OpenVinoEngine(layout=Bucketed(batch=2, edges=(8,)))
    engine.build(tiny_encoder.model(2), None, tmp_path)
    session = engine.open(tmp_path, 1)
    compiled: list[object] = []
    compile_model = openvino.Core.compile_model

    def noted(core: openvino.Core, network: object, *given: object) -> object:
        compiled.append(network)
        return compile_model(core, network, *given)

    monkeypatch.setattr(openvino.Core, "compile_model", noted)
    for length in (9, 11, 14, 20):
        session.run(encoded_rows([[1] * length, [2] * length]))

    assert len(compiled) == 1
    session.close()


ABSENT = [name for name in ("GPU", "NPU", "GPU.7") if name not in openvino_devices()]


@pytest.mark.parametrize("device", ABSENT)
def test_a_device_that_openvino_does_not_see_is_refused_by_name(
    device: str, tmp_path: Path
) -> None:
    engine = OpenVinoEngine(device=device)
    assert engine.title == f"openvino/padded on {device}"
    with pytest.raises(EngineUnavailable, match=f"sees no device {device} here; it sees CPU"):
        engine.build(tiny_encoder.model(2), None, tmp_path / "new")
    assert not (tmp_path / "new").exists()

    OpenVinoEngine().build(tiny_encoder.model(2), None, tmp_path)
    with pytest.raises(EngineUnavailable, match=f"sees no device {device}"):
        engine.open(tmp_path, 1)


@pytest.mark.parametrize("device", ["TPU", "cpu", "CPU.1", "AUTO", "GPU.x"])
def test_what_is_no_device_of_openvino_is_refused(device: str) -> None:
    with pytest.raises(ValidationError):
        OpenVinoEngine(device=device)


class SeesGpu:
    """What is asked of OpenVINO's own where there is a GPU."""

    available_devices = ("CPU", "GPU")

    def get_property(self, device: str, name: str) -> str:
        return f"{name} of {device}"


def test_8_bit_sums_overflow_on_the_processor_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OpenVinoEngine(weight_bits=8)
    engine.build(in_kind(Kind.INT8_STATIC), None, tmp_path)
    monkeypatch.setattr(openvino, "Core", SeesGpu)
    older = lacking(isa=("avx2",))
    assert engine.unsuited(tmp_path, older) == OVERFLOWING_INT8
    assert engine.model_copy(update={"device": "GPU"}).unsuited(tmp_path, older) is None


class Core:
    """What is asked of OpenVINO's own, of a device like an NPU."""

    def get_property(self, device: str, name: str) -> dict[str, str]:
        assert (device, name) == ("NPU", "SUPPORTED_PROPERTIES")
        return {"NUM_STREAMS": "RW", "PERFORMANCE_HINT": "RW", "INFERENCE_NUM_THREADS": "RO"}


def test_a_device_is_given_the_settings_that_it_has() -> None:
    wanted = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "f32"}

    assert settable(Core(), "NPU", wanted) == {"NUM_STREAMS": 1}
    assert settable(openvino.Core(), "CPU", wanted) == wanted


def test_a_device_of_fixed_shapes_gets_a_network_for_every_one(tmp_path: Path) -> None:
    """As an NPU would: on the CPU the same runner, with the same answers."""
    model, rows = tiny_encoder.model(2), tiny_encoder.rows(12)
    OpenVinoEngine().build(model, None, tmp_path)
    network = openvino.Core().read_model(str(tmp_path / "model.onnx"))
    settings = {"NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    runner = NetworkRunner(openvino, network, settings, None)

    with Session(runner, Padded(batch=4)) as session:
        answers = session.run(rows).values

    np.testing.assert_allclose(answers, tiny_encoder.logits(model, rows), atol=1e-4)
    assert None not in runner.shapes
    assert {shape[0] for shape in runner.shapes} == {4}
