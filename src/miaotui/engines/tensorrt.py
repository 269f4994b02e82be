"""TensorRT on an NVIDIA GPU: fp32, fp16, int8-static.

What `build` writes is ONNX. The plan, which fits one GPU and one version of TensorRT, is built when
the files are first opened on a host and kept in the user's cache, with the timings of its kernels.
Written for TensorRT 10 and 11, whose networks are strongly typed: the types stand in the graph.
"""

import hashlib
import json
import sys
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from miaotui.devices import Device, Use
from miaotui.engines.base import BatchedEngine, Move, Session, Workload, feeds, usual_layout
from miaotui.engines.layouts import Batch, Layout
from miaotui.engines.onnx_files import ONNX_FILE, in_fp16, to_onnx
from miaotui.engines.onnx_saving import files_of, write_onnx
from miaotui.errors import BundleError, EngineFailed, EngineUnavailable
from miaotui.hardware import Machine, probe
from miaotui.models.precision import Kind
from miaotui.paths import cache_folder, write_whole

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model

FACTS_FILE = "tensorrt.json"
_KINDS = frozenset({Kind.FP32, Kind.INT8_STATIC})
_USUAL_TOKENS = 64
_INPUTS = {"ids", "positions", "segments", "types", "mask", "readout"}


class TensorRtEngine(BatchedEngine):
    """`fp16` computes all but softmax, LayerNorm and what is int8 in half precision."""

    package: ClassVar[str] = "tensorrt"
    name: Literal["tensorrt"] = "tensorrt"
    fp16: bool = False

    @classmethod
    def first_moves(cls, model: "Model", work: Workload) -> list[Move]:
        half = cls(layout=usual_layout(model, work), fp16=True)
        int8 = [Move(half, Kind.INT8_STATIC)] if model.has_adapter else []
        return [Move(half), *int8, Move(half.in_float())]

    def in_float(self) -> Self:
        return self.model_copy(update={"fp16": False})

    @classmethod
    def unavailable(cls, machine: Machine) -> str | None:
        if not machine.gpus:
            return "tensorrt needs an NVIDIA GPU, and there is none here"
        missing = [name for name in ("tensorrt", "cuda-bindings") if name not in machine.versions]
        return f"tensorrt: {', '.join(missing)} is not installed" if missing else None

    @classmethod
    def use_of(cls, device: Device, machine: Machine) -> Use | None:
        if (device.kind, device.vendor) != ("gpu", "nvidia"):
            return None
        missing = cls.unavailable(machine) if machine.gpus else "its driver"
        return Use(cls.model_fields["name"].default, "--engines tensorrt", missing)

    def build(self, model: "Model", calibration: "Calibration | None", folder: Path) -> None:
        self.check_kinds(model, _KINDS)
        self.check_layout(model)
        folder.mkdir(parents=True, exist_ok=True)
        lowered = to_onnx(model, weight_bits=8, signed=True)
        lowered = in_fp16(lowered) if self.fp16 else lowered
        write_onnx(lowered, folder / ONNX_FILE)
        reads_tokens = model.task.reads_tokens
        facts = {"max_tokens": model.task.max_tokens, "reads_tokens": reads_tokens}
        (folder / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")

    def open(self, folder: Path, cores: int) -> Session:
        reason = self.unavailable(probe())
        if reason is not None:
            raise EngineUnavailable(reason)
        try:
            key = _key(folder / ONNX_FILE)
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
            most, reads_tokens = int(facts["max_tokens"]), bool(facts.get("reads_tokens"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{folder} cannot be opened by tensorrt: {error}") from error
        plan = _plan(folder / ONNX_FILE, key, largest(self.layout, most, reads_tokens))
        return Session(_Runner(plan), self.layout, self.streams, reads_tokens=reads_tokens)


def largest(layout: Layout, most_tokens: int, reads_tokens: bool = False) -> tuple[int, int, int]:
    """Blocks, tokens and readouts of the largest batch that a layout can make, each by itself; a
    single row is padded to its own length."""
    whole = (layout.batch, most_tokens, most_tokens if reads_tokens else 1)
    shapes = [whole, *layout.shapes(most_tokens, reads_tokens)]
    blocks, tokens, readouts = (max(sizes) for sizes in zip(*shapes, strict=True))
    return blocks, tokens, readouts


def _key(path: Path) -> str:
    """Of the graph and its weights."""
    digest = hashlib.sha256(path.read_bytes())
    for file in files_of(path)[1:]:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _plan(path: Path, content: str, largest: tuple[int, int, int]) -> bytes:
    """From the cache, or built: seconds to minutes."""
    import tensorrt

    machine = probe()
    facts = [content, tensorrt.__version__, machine.gpus, largest]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    folder = cache_folder("tensorrt")
    kept = folder / f"{key}.plan"
    if kept.exists():
        return kept.read_bytes()
    sys.stderr.write("tensorrt: building a plan for this GPU, once; this takes up to minutes\n")
    folder.mkdir(parents=True, exist_ok=True)
    gpu = hashlib.sha256(" ".join(machine.gpus).encode()).hexdigest()[:8]
    timings = folder / f"timings-{tensorrt.__version__}-{gpu}.cache"
    plan, timed = _built(tensorrt, path, largest, timings)
    write_whole(timings, timed)
    write_whole(kept, plan)
    return plan


def _built(
    tensorrt: Any, path: Path, largest: tuple[int, int, int], timings: Path
) -> tuple[bytes, bytes]:
    """The plan, and the timings of kernels with those that were known before."""
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(_strongly_typed(tensorrt))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise EngineFailed(f"tensorrt cannot read this model: {errors[0] if errors else 'unknown'}")
    config = builder.create_builder_config()
    config.add_optimization_profile(_profile(builder, network, largest))
    cache = config.create_timing_cache(timings.read_bytes() if timings.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineFailed("tensorrt cannot build a plan for this model on this GPU")
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def _strongly_typed(tensorrt: Any) -> int:
    """A flag of TensorRT 10; in 11 every network is."""
    flags = tensorrt.NetworkDefinitionCreationFlag
    typed = getattr(flags, "STRONGLY_TYPED", None)
    return 0 if typed is None else 1 << int(typed)


def _profile(builder: Any, network: Any, largest: tuple[int, int, int]) -> Any:
    """Any batch up to the largest, best for rows of usual length."""
    blocks, tokens, readouts = largest
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        name = network.get_input(i).name
        wide = readouts if name == "readout" else tokens
        usual = min(wide, _USUAL_TOKENS)
        profile.set_shape(name, (1, 1), (blocks, usual), (blocks, wide))
    return profile


class _Runner:
    """One deserialized plan; a context, a CUDA stream and buffers for each thread."""

    def __init__(self, plan: bytes) -> None:
        import tensorrt

        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineFailed("tensorrt cannot load its plan; empty the cache and open it again")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self._inputs = [name for name in names if name in _INPUTS]
        self._output = next(name for name in names if name not in _INPUTS)
        self._local = threading.local()

    def __call__(self, batch: Batch) -> Float32[ndarray, "blocks readouts labels"]:
        lane = self._local.__dict__.setdefault("lane", None)
        if lane is None:
            lane = self._local.lane = _Lane(self._engine.create_execution_context())
        return lane.run(feeds(batch, self._inputs), self._output)


class _Lane:
    """What one thread needs to run a plan by itself."""

    def __init__(self, context: Any) -> None:
        from cuda.bindings import runtime as cuda

        self._cuda = cuda
        self._context = context
        (self._stream,) = _values(cuda.cudaStreamCreate())
        self._buffers: dict[str, _Buffer] = {}
        weakref.finalize(self, cuda.cudaStreamDestroy, self._stream)

    def run(self, inputs: dict[str, ndarray], output: str) -> Float32[ndarray, "..."]:
        kinds = self._cuda.cudaMemcpyKind
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        for name, array in arrays.items():
            if not self._context.set_input_shape(name, array.shape):
                raise EngineFailed(
                    f"tensorrt: {name} of shape {array.shape} is larger than its plan was built for"
                )
            pointer = self._room(name, array.nbytes)
            self._copy(pointer, array.ctypes.data, array.nbytes, kinds.cudaMemcpyHostToDevice)
            self._context.set_tensor_address(name, pointer)
        values = np.empty(tuple(self._context.get_tensor_shape(output)), dtype=np.float32)
        pointer = self._room(output, values.nbytes)
        self._context.set_tensor_address(output, pointer)
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineFailed("tensorrt: a batch could not be run")
        self._copy(values.ctypes.data, pointer, values.nbytes, kinds.cudaMemcpyDeviceToHost)
        _values(self._cuda.cudaStreamSynchronize(self._stream))
        return values

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        _values(self._cuda.cudaMemcpyAsync(to, source, size, kind, self._stream))

    def _room(self, name: str, size: int) -> int:
        """A device buffer of at least `size` bytes, kept from call to call."""
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers[name] = _Buffer(self._cuda, size)
        return self._buffers[name].pointer


class _Buffer:
    """Memory of the GPU, given back with the last reference."""

    def __init__(self, cuda: Any, size: int) -> None:
        self.size = size
        self.pointer = int(_values(cuda.cudaMalloc(size))[0])
        weakref.finalize(self, cuda.cudaFree, self.pointer)


def _values(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a CUDA call gives after its status; a bad one is an EngineFailed."""
    status, *values = result
    if int(status):
        raise EngineFailed(f"tensorrt: CUDA says {status.name}")
    return tuple(values)
