"""OpenVINO: float, bf16 where the processor computes in it, int8-static; on the CPU, or on another
device that it sees."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from pydantic import Field

from miaotui.devices import Device, Use
from miaotui.engines.base import (
    EMULATED_BF16,
    OVERFLOWING_INT8,
    BatchedEngine,
    Move,
    Session,
    Workload,
    feeds,
    usual_layout,
)
from miaotui.engines.layouts import Batch, Bucketed, Layout, Packed, single_row
from miaotui.engines.onnx_files import ONNX_FILE, copy_graph, holds_int8, to_onnx
from miaotui.engines.onnx_saving import write_onnx
from miaotui.errors import BundleError, EngineFailed, EngineUnavailable, first_line
from miaotui.hardware import Machine, probe
from miaotui.models.precision import Kind
from miaotui.quiet import silence_telemetry
from miaotui.tasks.task import Task

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model


FACTS_FILE = "openvino.json"
Shape = tuple[int, int, int]
_KINDS = frozenset({Kind.FP32, Kind.INT8_STATIC})


class OpenVinoEngine(BatchedEngine):
    """Buckets and packed blocks get a network of their shape, the first time it is met, each with
    weights of its own; all other shapes share one. Single rows have networks of buckets too, else
    share one. Where `streams` are more than one, theirs are apart and have all the threads.

    `weight_bits` of 7 keeps int8 sums from saturating on processors without VNNI. `device` is one
    of OpenVINO's own, CPU, GPU or NPU, of several GPU.1 and so on; an NPU computes in 16-bit floats
    whatever the model's are, and has a network for every shape.
    """

    package: ClassVar[str] = "openvino"
    name: Literal["openvino"] = "openvino"
    bf16: bool = False
    weight_bits: Literal[7, 8] = 7
    device: str = Field(default="CPU", pattern=r"^(CPU|(GPU|NPU)(\.\d+)?)$")

    @property
    def title(self) -> str:
        return super().title if self._on_cpu else f"{super().title} on {self.device}"

    @property
    def _on_cpu(self) -> bool:
        return self.device == "CPU"

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

    @classmethod
    def use_of(cls, device: Device, machine: Machine) -> Use | None:
        name = {"gpu": "GPU", "npu": "NPU"}.get(device.kind)
        if device.vendor != "intel" or name is None:
            return None
        missing = cls.unavailable(machine)
        if missing is None and not any(seen.startswith(name) for seen in openvino_devices()):
            missing = f"openvino sees no {name}: its driver"
        return Use(cls.model_fields["name"].default, f"device: {name}", missing)

    def refusal(self) -> str | None:
        if self._on_cpu:
            return None
        seen = openvino_devices()
        if not any(name in (self.device, f"{self.device}.0") for name in seen):
            return f"openvino sees no device {self.device} here; it sees {', '.join(seen)}"
        return "openvino computes in bf16 on the CPU only" if self.bf16 else None

    def _refuse(self) -> None:
        reason = self.refusal()
        if reason is not None:
            raise EngineUnavailable(reason)

    def unsuited(self, folder: Path, machine: Machine) -> str | None:
        reason = super().unsuited(folder, machine)
        if reason is not None:
            return reason
        if self.suited(machine) != self:
            return EMULATED_BF16
        overflows = self._on_cpu and self.weight_bits == 8 and machine.saturates_int8
        return OVERFLOWING_INT8 if overflows and holds_int8(folder / ONNX_FILE) else None

    def suited(self, machine: Machine) -> Self:
        return self if machine.computes_bf16 else self.in_float()

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
        self._refuse()
        folder.mkdir(parents=True, exist_ok=True)
        openvino = _openvino()
        write_onnx(to_onnx(model, self.weight_bits), folder / ONNX_FILE)
        try:
            openvino.Core().read_model(str(folder / ONNX_FILE))
        except RuntimeError as error:
            raise EngineFailed(f"openvino cannot read this model: {first_line(error)}") from error
        _write_facts(model.task, folder)

    def adopt(self, graph: Path, task: Task, folder: Path) -> None:
        copy_graph(graph, folder)
        _write_facts(task, folder)

    def open(self, folder: Path, cores: int) -> Session:
        if not (folder / FACTS_FILE).is_file():
            raise BundleError(
                f"{folder} lacks {FACTS_FILE}: an older miaotui made it; run miaotui optimize again"
            )
        self._refuse()
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

        def runner(streams: int) -> NetworkRunner:
            own = {**settings, "NUM_STREAMS": streams}
            fixed = None if self.device.startswith("NPU") else _fixed(self.layout, reads_tokens)
            return NetworkRunner(openvino, network, own, fixed, self.device)

        runners = {streams: runner(streams) for streams in {1, self.streams}}
        buckets = isinstance(self.layout, Bucketed)
        single = replace(self.layout, batch=1) if buckets else single_row(most)
        return Session(
            runners[self.streams], self.layout, self.streams, single, runners[1], reads_tokens
        )


def _write_facts(task: Task, folder: Path) -> None:
    facts = {"max_tokens": task.max_tokens, "reads_tokens": task.reads_tokens}
    (folder / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")


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


def openvino_devices() -> dict[str, str]:
    """What OpenVINO can compute on here, by the names it has for them; the CPU is one."""
    core = _openvino().Core()
    return {
        name: str(core.get_property(name, "FULL_DEVICE_NAME")) for name in core.available_devices
    }


def settable(core: Any, device: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Those of the settings that the device has: threads, for one, are the CPU's."""
    known = core.get_property(device, "SUPPORTED_PROPERTIES")
    return {name: value for name, value in settings.items() if known.get(name) == "RW"}


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


class NetworkRunner:
    """One compiled network a fixed shape and one for the others, a request a thread. `fixed` of
    None: every shape is one, for a device that takes no other."""

    def __init__(
        self,
        openvino: Any,
        network: Any,
        settings: dict[str, Any],
        fixed: frozenset[Shape] | None,
        device: str = "CPU",
    ) -> None:
        self._openvino = openvino
        self._network = network
        self._device = device
        self._settings = settable(openvino.Core(), device, settings)
        self._fixed = fixed
        self._inputs = [entry.get_any_name() for entry in network.inputs]
        self._compiled: dict[Shape | None, Any] = {}
        self._lock = threading.Lock()
        self._local = threading.local()

    @property
    def shapes(self) -> frozenset[Shape | None]:
        """Of the networks that are compiled by now; None stands for the one of all others."""
        return frozenset(self._compiled)

    def __call__(self, batch: Batch) -> Float32[ndarray, "blocks readouts labels"]:
        try:
            is_fixed = self._fixed is None or batch.shape in self._fixed
            request = self._request(batch.shape if is_fixed else None)
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
                self._compiled[shape] = core.compile_model(network, self._device, self._settings)
            return self._compiled[shape]
