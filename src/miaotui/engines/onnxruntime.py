"""ONNX Runtime: float, int8-dynamic and int8-static, any shape at any time; on the CPU, or by its
providers for NVIDIA GPUs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from jaxtyping import Float32
from numpy import ndarray

from miaotui.devices import Device, Use
from miaotui.engines.base import (
    OVERFLOWING_INT8,
    BatchedEngine,
    Move,
    Session,
    Workload,
    feeds,
    usual_layout,
)
from miaotui.engines.layouts import Batch
from miaotui.engines.onnx_files import ONNX_FILE, copy_graph, holds_int8, to_onnx
from miaotui.engines.onnx_saving import write_onnx
from miaotui.errors import BundleError, EngineFailed, EngineUnavailable, first_line
from miaotui.hardware import Machine, probe
from miaotui.models.precision import Kind
from miaotui.quiet import silence_telemetry
from miaotui.tasks.task import Task

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model

Provider = Literal["cpu", "cuda", "tensorrt"]
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": (
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ),
}
_EXACT_INT8 = "session.x64quantprecision"
"""Without VNNI its products of unsigned by signed bytes are summed in 16 bits, which saturate; this
has it multiply unsigned bytes alone. Source: onnxruntime_session_options_config_keys.h."""
_KINDS = frozenset({Kind.FP32, Kind.INT8_DYNAMIC, Kind.INT8_STATIC})


class OnnxRuntimeEngine(BatchedEngine):
    """`weight_bits` of 7 keeps int8 sums from saturating on processors without VNNI, and so does
    `exact_int8` with weights of 8 bits, by slower products. Another `provider` than the CPU's needs
    the package onnxruntime-gpu and an NVIDIA GPU."""

    package: ClassVar[str] = "onnxruntime"
    name: Literal["onnxruntime"] = "onnxruntime"
    weight_bits: Literal[7, 8] = 7
    provider: Provider = "cpu"
    exact_int8: bool = False

    @classmethod
    def first_moves(cls, model: "Model", work: Workload) -> list[Move]:
        plain = cls(layout=usual_layout(model, work), weight_bits=work.weight_bits)
        moves = [Move(plain, Kind.INT8_DYNAMIC)]
        if model.has_adapter:
            moves.append(Move(plain, Kind.INT8_STATIC))
        moves.append(Move(plain))
        if work.machine.gpus and "onnxruntime-gpu" in work.machine.versions:
            providers = ("cuda", "tensorrt")
            moves += [Move(plain.model_copy(update={"provider": p})) for p in providers]
        return moves

    @property
    def title(self) -> str:
        return super().title if self.provider == "cpu" else f"{super().title} on {self.provider}"

    @classmethod
    def unavailable(cls, machine: Machine) -> str | None:
        here = {"onnxruntime", "onnxruntime-gpu"} & set(machine.versions)
        return None if here else "onnxruntime is not installed"

    @classmethod
    def use_of(cls, device: Device, machine: Machine) -> Use | None:
        if (device.kind, device.vendor) != ("gpu", "nvidia"):
            return None
        missing = None if "onnxruntime-gpu" in machine.versions else "the package onnxruntime-gpu"
        missing = missing if machine.gpus else "its driver"
        return Use(cls.model_fields["name"].default, "provider: cuda", missing)

    def refusal(self) -> str | None:
        return None if self.provider == "cpu" else _lacking(self.provider)

    def unsuited(self, folder: Path, machine: Machine) -> str | None:
        reason = super().unsuited(folder, machine)
        if reason is not None or self.suited(machine) == self:
            return reason
        return OVERFLOWING_INT8 if holds_int8(folder / ONNX_FILE) else None

    def suited(self, machine: Machine) -> Self:
        overflows = self.weight_bits == 8 and machine.saturates_int8 and self.provider == "cpu"
        return self.model_copy(update={"exact_int8": True}) if overflows else self

    def build(self, model: "Model", calibration: "Calibration | None", folder: Path) -> None:
        self.check_kinds(model, _KINDS)
        self.check_layout(model)
        folder.mkdir(parents=True, exist_ok=True)
        write_onnx(to_onnx(model, self.weight_bits), folder / ONNX_FILE)

    def adopt(self, graph: Path, task: Task, folder: Path) -> None:
        copy_graph(graph, folder)

    def open(self, folder: Path, cores: int) -> Session:
        threads = self.threads_per_stream(cores)
        path = folder / ONNX_FILE
        runner = _Runner(onnx_session(path, threads, self.provider, self.exact_int8))
        return Session(runner, self.layout, self.streams)


def onnx_session(
    path: Path, threads: int, provider: Provider = "cpu", exact_int8: bool = False
) -> Any:
    """An ONNX Runtime session on `threads` threads; all else is its own default. A provider that is
    not there is an EngineUnavailable, never another one in its place."""
    silence_telemetry()
    import onnxruntime

    wanted = _PROVIDERS[provider]
    lacking = _lacking(provider)
    if lacking is not None:
        raise EngineUnavailable(lacking)
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if exact_int8:
        options.add_session_config_entry(_EXACT_INT8, "1")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=list(wanted))
    except _errors() as error:
        raise BundleError(f"{path.name} cannot be opened: {first_line(error)}") from error
    if session.get_providers()[0] != wanted[0]:
        raise EngineUnavailable(f"onnxruntime could not start its provider {provider} here")
    return session


def _lacking(provider: Provider) -> str | None:
    """What a provider needs that is not here; whether it starts shows only as a session opens."""
    import onnxruntime

    if _PROVIDERS[provider][0] not in onnxruntime.get_available_providers():
        return (
            f"onnxruntime here has no provider {provider}; install onnxruntime-gpu beside an "
            "NVIDIA GPU"
        )
    if provider != "cpu" and not probe().gpus:
        return f"onnxruntime's provider {provider} needs an NVIDIA GPU, and there is none here"
    return None


def run_onnx(session: Any, inputs: dict[str, ndarray]) -> ndarray:
    """The first output; what ONNX Runtime raises is an EngineFailed."""
    try:
        return session.run(None, inputs)[0]  # type: ignore[no-any-return]
    except _errors() as error:
        raise EngineFailed(f"onnxruntime: {first_line(error)}") from error


def _errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; these share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    return (
        RuntimeError,
        raised.Fail,
        raised.InvalidArgument,
        raised.InvalidGraph,
        raised.InvalidProtobuf,
        raised.NoSuchFile,
        raised.NotImplemented,
        raised.RuntimeException,
    )


class _Runner:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = [entry.name for entry in session.get_inputs()]

    def __call__(self, batch: Batch) -> Float32[ndarray, "blocks readouts labels"]:
        return run_onnx(self._session, feeds(batch, self._inputs))
