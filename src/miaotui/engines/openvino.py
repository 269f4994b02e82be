"""OpenVINO on the CPU: float, bf16 where the processor computes in it, int8-static."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from miaotui.engines.base import BatchedEngine, Move, Session, Workload, feeds, usual_layout
from miaotui.engines.layouts import Batch, Bucketed, Layout, Packed, single_row
from miaotui.engines.onnx_files import ONNX_FILE, to_onnx
from miaotui.engines.onnx_saving import write_onnx
from miaotui.errors import BundleError, EngineFailed, EngineUnavailable, first_line
from miaotui.hardware import Machine, probe
from miaotui.models.precision import Kind
from miaotui.quiet import silence_telemetry

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model


FACTS_FILE = "openvino.json"
Shape = tuple[int, int, int]
_KINDS = frozenset({Kind.FP32, Kind.INT8_STATIC})


class OpenVinoEngine(BatchedEngine):
    """Buckets and packed blocks get a network of their shape, the first time it is met, each with
    weights of its own; all other shapes share one. Single rows have networks of buckets too, else
    share one. Where `streams` are more than one, theirs are apart and have all the threads.

    `weight_bits` of 7 keeps int8 sums from saturating on processors without VNNI.
    """

    package: ClassVar[str] = "openvino"
    name: Literal["openvino"] = "openvino"
    bf16: bool = False
    weight_bits: Literal[7, 8] = 7

    @classmethod
    def first_moves(cls, model: "Model", work: Workload) -> list[Move]:
        layout = Bucketed(edges=work.edges) if _is_rotary(model) else usual_layout(model, work)
        plain = cls(layout=layout, weight_bits=work.weight_bits)
        moves = [Move(plain, Kind.INT8_STATIC)] if model.has_adapter else []
        moves.append(Move(plain))
        if work.machine.computes_bf16:
            moves.append(Move(plain.model_copy(update={"bf16": True}), Kind.BF16))
        return moves

    def in_float(self) -> Self:
        return self.model_copy(update={"bf16": False})

    @classmethod
    def unavailable(cls, machine: Machine) -> str | None:
        return None if "openvino" in machine.versions else "openvino is not installed"

    def build(self, model: "Model", calibration: "Calibration | None", folder: Path) -> None:
        if Kind.BF16 in model.precision.kinds and not self.bf16:
            raise EngineUnavailable("openvino computes in bf16 only where its setting bf16 is true")
        self.check_kinds(model, _KINDS | ({Kind.BF16} if probe().computes_bf16 else set()))
        self.check_layout(model)
        if isinstance(self.layout, Packed) and _is_rotary(model):
            raise EngineUnavailable(
                "openvino turns queries and keys as if positions were the same in all blocks, so "
                f"{model.family} cannot be packed; use the bucketed or padded layout"
            )
        folder.mkdir(parents=True, exist_ok=True)
        openvino = _openvino()
        write_onnx(to_onnx(model, self.weight_bits), folder / ONNX_FILE)
        try:
            openvino.Core().read_model(str(folder / ONNX_FILE))
        except RuntimeError as error:
            raise EngineFailed(f"openvino cannot read this model: {first_line(error)}") from error
        reads_tokens = model.task.reads_tokens
        facts = {"max_tokens": model.task.max_tokens, "reads_tokens": reads_tokens}
        (folder / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")

    def open(self, folder: Path, cores: int) -> Session:
        if not (folder / FACTS_FILE).is_file():
            raise BundleError(
                f"{folder} lacks {FACTS_FILE}: an older miaotui made it; run miaotui optimize again"
            )
        openvino = _openvino()
        try:
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
            most, reads_tokens = int(facts["max_tokens"]), bool(facts.get("reads_tokens"))
            network = openvino.Core().read_model(str(folder / ONNX_FILE))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise BundleError(
                f"{folder} cannot be opened by openvino: {first_line(error)}"
            ) from error
        settings = {
            "INFERENCE_NUM_THREADS": max(1, min(self.threads or cores, cores)),
            "INFERENCE_PRECISION_HINT": "bf16" if self.bf16 else "f32",
        }

        def runner(streams: int) -> _Runner:
            own = {**settings, "NUM_STREAMS": streams}
            return _Runner(openvino, network, own, _fixed(self.layout, reads_tokens))

        runners = {streams: runner(streams) for streams in {1, self.streams}}
        buckets = isinstance(self.layout, Bucketed)
        single = replace(self.layout, batch=1) if buckets else single_row(most)
        return Session(
            runners[self.streams], self.layout, self.streams, single, runners[1], reads_tokens
        )


def _fixed(layout: Layout, reads_tokens: bool) -> frozenset[Shape]:
    """The shapes that recur. Rows longer than that are few and of many lengths."""
    if isinstance(layout, Bucketed):
        longest = max(layout.edges)
        singles = replace(layout, batch=1).shapes(longest, reads_tokens)
        return frozenset(layout.shapes(longest, reads_tokens) + singles)
    if isinstance(layout, Packed):
        return frozenset(layout.shapes(layout.block_tokens, reads_tokens))
    return frozenset()


def _is_rotary(model: "Model") -> bool:
    return model.has_adapter and model.encoder.parts.rotary


def _openvino() -> Any:
    silence_telemetry()
    import openvino

    return openvino


class FirstAlone:
    """Lets one call end before any other begins; from then on all run as they come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = False

    def __call__(self, call: Callable[[], object]) -> None:
        if self._over:
            call()
            return
        with self._lock:
            call()
            self._over = True


_FIRST_CALL = FirstAlone()
"""The bindings fill a static on their first call and take the GIL while they do: two threads that
are the first together wait for each other for ever."""


class _Runner:
    """One compiled network a fixed shape and one for the others, a request a thread."""

    def __init__(
        self, openvino: Any, network: Any, settings: dict[str, Any], fixed: frozenset[Shape]
    ) -> None:
        self._openvino = openvino
        self._network = network
        self._settings = settings
        self._fixed = fixed
        self._inputs = [entry.get_any_name() for entry in network.inputs]
        self._compiled: dict[Shape | None, Any] = {}
        self._lock = threading.Lock()
        self._local = threading.local()

    def __call__(self, batch: Batch) -> Float32[ndarray, "blocks readouts labels"]:
        try:
            request = self._request(batch.shape if batch.shape in self._fixed else None)
            inputs = feeds(batch, self._inputs)
            _FIRST_CALL(lambda: request.infer(inputs, share_inputs=True))
        except RuntimeError as error:
            raise EngineFailed(f"openvino: {first_line(error)}") from error
        return np.array(request.get_output_tensor(0).data, dtype=np.float32)

    def _request(self, shape: Shape | None) -> Any:
        requests = self._local.__dict__.setdefault("requests", {})
        if shape not in requests:
            requests[shape] = self._compile(shape).create_infer_request()
        return requests[shape]

    def _compile(self, shape: Shape | None) -> Any:
        with self._lock:
            if shape not in self._compiled:
                network = self._network
                if shape is not None:
                    network = network.clone()
                    blocks, tokens, readouts = shape
                    network.reshape(
                        {
                            name: [blocks, readouts if name == "readout" else tokens]
                            for name in self._inputs
                        }
                    )
                core = self._openvino.Core()
                self._compiled[shape] = core.compile_model(network, "CPU", self._settings)
            return self._compiled[shape]
