"""Our own kernels: fused, never padded, int8 with a scale a token, bf16 or fp32, linear by linear;
BERT, RoBERTa, DistilBERT, ELECTRA. See docs/concepts/native-engine.md."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float32, Int64, UInt16
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, ValidationError

from miaotui.engines.base import EngineBase, Move, Packable, RowRunner, Workload
from miaotui.engines.int8_weights import quantize_weights
from miaotui.errors import BundleError, EngineFailed, EngineUnavailable, first_fault, first_line
from miaotui.hardware import Machine
from miaotui.models.precision import Kind, LinearPrecision, Precision
from miaotui.models.shape import Activation, EncoderShape, HeadKind, LayerShape, Readout
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import Outputs, one_a_row

if TYPE_CHECKING:
    from miaotui.models.encoder import Encoder
    from miaotui.models.model import Calibration, Model

HEADER_FILE = "native.json"
TENSORS_FILE = "native.safetensors"
ISA_VARIABLE = "MIAOTUI_ISA"
"""Forces lesser kernels than the best that run here, for tests and benchmarks: amx,
avx512_bf16, avx512_vnni, avx_vnni, avx2, neon_dot or portable."""
_WORDS = "embeddings.words.weight"
_READOUTS = {Readout.FIRST: "first", Readout.MEAN: "mean", Readout.TOKENS: "every"}
_INT8 = frozenset({Kind.INT8_DYNAMIC, Kind.INT8_STATIC})
_KINDS = _INT8 | {Kind.FP32, Kind.BF16}
_MISSING = (
    "native's kernels are not installed; with a C++ compiler (Debian and Ubuntu: the package g++) "
    "run make setup, or pip install ./native from the source"
)
_KERNELS_WANTED = "0.3."
_OTHER_KERNELS = (
    "native's kernels are of version {}, this miaotui calls those of "
    f"{_KERNELS_WANTED}x; run make setup, or pip install ./native from the source"
)
_ROWS_A_CALL, _TOKENS_A_CALL = 4096, 8192
"""Ctrl-C is noticed between calls: each takes well under a second for a small encoder, two or three
for BERT-base."""


class NativeEngine(EngineBase):
    """Threads take whole rows through the whole network; a single row is shared by all of them.

    int8 products quantize each token by itself. int8-static uses the observed range for what goes
    into a layer's `down` alone: there, a range known before saves a pass over the widest rows.
    Linears outside the layers are computed in fp32 whatever the precision says.

    `weight_bits` of 7 is faster on processors without VNNI, whose byte products saturate: there
    nearly all sums may then be added in 16 bits.
    """

    package: ClassVar[str] = "miaotui-native"
    mixes_kinds: ClassVar[bool] = True
    name: Literal["native"] = "native"
    weight_bits: Literal[7, 8] = 8

    @classmethod
    def first_moves(cls, model: "Model", work: Workload) -> list[Move]:
        if not model.has_adapter or _lacking(model.encoder):
            return []
        int8 = [Kind.INT8_STATIC, Kind.INT8_DYNAMIC]
        floats = [Kind.BF16, Kind.FP32] if work.machine.computes_bf16 else [Kind.FP32]
        few = [Move(cls(weight_bits=7), kind) for kind in int8] if work.weight_bits == 7 else []
        return few + [Move(cls(), kind) for kind in (*int8, *floats)]

    def refined(self, model: Packable, work: Workload, one_by_one: bool) -> list[EngineBase]:
        """All cores are the default, which many rows always gain by."""
        few = one_by_one and work.cores > 1
        return [self.model_copy(update={"threads": 1})] if few else []

    def in_float(self) -> Self:
        return self.model_copy(update={"weight_bits": 8})

    @classmethod
    def unavailable(cls, machine: Machine) -> str | None:
        version = machine.versions.get(cls.package)
        if version is None:
            return _MISSING
        return None if version.startswith(_KERNELS_WANTED) else _OTHER_KERNELS.format(version)

    def build(self, model: "Model", calibration: "Calibration | None", folder: Path) -> None:
        if not model.has_adapter:
            raise EngineUnavailable(f"native: {model.family} has no adapter; use another engine")
        lacking = _lacking(model.encoder)
        if lacking:
            raise EngineUnavailable(
                f"native: {model.family} has {lacking}, which its kernels lack; use another engine"
            )
        self.check_kinds(model, _KINDS)
        from safetensors.numpy import save_file

        from miaotui.models.model import linears

        tensors = {k: v.float().numpy() for k, v in model.encoder.state_dict().items()}
        inside = [name for name in linears(model.encoder) if name.startswith("layers.")]
        formats = {name: _calibrated(name, model.precision[name]) for name in inside}
        for name, linear_format in formats.items():
            weight = tensors[f"{name}.weight"]
            if linear_format.kind in _INT8:
                codes, scales = quantize_weights(weight.T, self.weight_bits)
                tensors[f"{name}.weight"] = np.ascontiguousarray(codes.T)
                tensors[f"{name}.scale"] = scales
            elif linear_format.kind is Kind.BF16:
                tensors[f"{name}.weight"] = _to_bf16(weight)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / TENSORS_FILE)
        header = _Header(shape=model.encoder.shape, linears=formats)
        (folder / HEADER_FILE).write_text(header.model_dump_json(indent=1), encoding="utf-8")

    def open(self, folder: Path, cores: int) -> RowRunner:
        header, tensors = _read(folder, mapped=_WORDS)
        try:
            encoder = _Saved(header, tensors, _kernels()).encoder(_isa())
        except (ValueError, TypeError) as error:
            raise BundleError(f"{folder} cannot be opened: {first_line(error)}") from error
        threads = max(1, min(self.threads or cores, cores))
        return NativeSession(encoder, header.shape, threads)


def _lacking(encoder: "Encoder") -> str | None:
    """What an encoder has that the kernels do not compute."""
    if encoder.shape.activation is Activation.QUICK_GELU:
        return f"the activation {encoder.shape.activation}"
    return encoder.parts.apart


def restored(folder: Path) -> tuple["Encoder", Precision]:
    """The float encoder and the precision that `build` wrote; int8 and bf16 weights are what they
    stand for, so that lowering them again gives the same. Needs torch."""
    import torch

    from miaotui.models.encoder import Encoder

    header, tensors = _read(folder)
    for name in [name for name in tensors if name.endswith(".scale")]:
        weight = name.removesuffix(".scale") + ".weight"
        tensors[weight] = tensors[weight].astype(np.float32) * tensors.pop(name)[:, None]
    for name in [name for name, tensor in tensors.items() if tensor.dtype == np.uint16]:
        tensors[name] = _from_bf16(tensors[name])
    encoder = Encoder(header.shape)
    try:
        encoder.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()})
    except RuntimeError as error:
        raise BundleError(f"{folder / TENSORS_FILE}: {first_line(error)}") from error
    return encoder.eval(), Precision(header.linears)


def _to_bf16(weight: Float32[ndarray, "out in"]) -> UInt16[ndarray, "out in"]:
    """The upper halves of float32 bits, rounded to the nearest, halfway cases to even."""
    bits = np.ascontiguousarray(weight).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _from_bf16(halves: UInt16[ndarray, "out in"]) -> Float32[ndarray, "out in"]:
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _calibrated(name: str, precision: LinearPrecision) -> LinearPrecision:
    if precision.kind is Kind.INT8_STATIC and (precision.low is None or precision.high is None):
        raise EngineFailed(f"{name} is int8-static but has no observed range; calibrate it first")
    return precision


class NativeSession(RowRunner):
    """Rows in the caller's order; any number of threads may call it at once."""

    def __init__(self, encoder: Any, shape: EncoderShape, threads: int) -> None:
        self._encoder = encoder
        self._labels = shape.labels
        self._every = shape.readout is Readout.TOKENS
        self._threads = threads

    def run(self, rows: EncodedRows) -> Outputs:
        """Outputs of every readout of every row. No rows give values of shape [0, 0]."""
        if not len(rows):
            return Outputs(np.zeros((0, 0), dtype=np.float32), rows.readout_starts)
        if not self._every:
            return one_a_row(self._logits(rows))
        places = rows.starts[:-1]
        if rows.readouts is not None:
            places = np.repeat(places, rows.readouts.lengths) + rows.readouts.values[:, 0]
        return Outputs(self._logits(rows)[places], rows.readout_starts)

    def _logits(self, rows: EncodedRows) -> Float32[ndarray, "rows_or_tokens labels"]:
        count = rows.total_tokens if self._every else len(rows)
        logits = np.empty((count, self._labels), dtype=np.float32)
        for first, last in _calls(rows.starts):
            tokens = slice(int(rows.starts[first]), int(rows.starts[last]))
            starts = rows.starts[first : last + 1] - rows.starts[first]
            types = None if rows.type_ids is None else rows.type_ids[tokens]
            part = logits[tokens] if self._every else logits[first:last]
            try:
                self._encoder.run(rows.ids[tokens], starts, types, self._threads, part)
            except ValueError as error:
                raise EngineFailed(f"native: {first_line(error)}") from error
        return logits

    def close(self) -> None:
        """Threads and memory go with the last reference to the encoder."""
        self._encoder = None


def _calls(starts: Int64[ndarray, " rows+1"]) -> Iterator[tuple[int, int]]:
    """First and last row (exclusive) of each call: at least one row, else within both limits."""
    first, rows = 0, len(starts) - 1
    while first < rows:
        fitting = int(np.searchsorted(starts, starts[first] + _TOKENS_A_CALL, side="right")) - 1
        last = min(max(fitting, first + 1), first + _ROWS_A_CALL, rows)
        yield first, last
        first = last


class _Header(BaseModel):
    """What the tensors beside it belong to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    shape: EncoderShape
    linears: dict[str, LinearPrecision]


def _read(folder: Path, mapped: str = "") -> tuple[_Header, dict[str, ndarray]]:
    """What `build` wrote; whatever is wrong with it is a BundleError in one line. The tensor
    `mapped`, if it is a table of floats, stays on disk and is read where it is looked at."""
    from safetensors import SafetensorError, safe_open

    path = folder / TENSORS_FILE
    try:
        header = _Header.model_validate_json((folder / HEADER_FILE).read_text(encoding="utf-8"))
        with safe_open(path, framework="numpy") as opened:
            names = set(opened.keys())
            tensors = {name: opened.get_tensor(name) for name in names - {mapped}}
        if mapped in names:
            tensors[mapped] = _map(path, mapped)
        return header, tensors
    except ValidationError as error:
        raise BundleError(f"{folder / HEADER_FILE}: {first_fault(error)}") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise BundleError(f"{folder} cannot be opened: {first_line(error)}") from error


def _map(path: Path, name: str) -> ndarray:
    """A float32 tensor of a safetensors file that was checked. Its format: the length of a header
    in 8 bytes, the header in JSON, the data that its offsets count from."""
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        facts = json.loads(opened.read(length))[name]
    start = 8 + length + int(facts["data_offsets"][0])
    if facts["dtype"] != "F32" or 0 in facts["shape"] or start % 4:
        raise ValueError(f"{name} is no table of float32")
    return np.memmap(path, np.float32, "r", start, tuple(facts["shape"]))


class _Saved:
    """A header and its tensors, on their way into the kernels, which check every size."""

    def __init__(self, header: _Header, tensors: dict[str, ndarray], kernels: Any) -> None:
        self.header = header
        self._tensors = tensors
        self._kernels = kernels

    def encoder(self, isa: str) -> Any:
        shape, kernels = self.header.shape, self._kernels
        encoder = kernels.Encoder(
            words=self._tensor(_WORDS),
            positions=self._tensor("embeddings.positions.weight"),
            types=self._tensor("embeddings.types.weight") if shape.types else None,
            norm=self._norm("embeddings.norm"),
            projection=(
                self._linear("embeddings.projection") if shape.embedding != shape.hidden else None
            ),
            hidden=shape.hidden,
            head_dim=shape.head_dim,
            labels=shape.labels,
            position_offset=shape.position_offset,
            norm_eps=shape.norm_eps,
            activation=kernels.Activation[shape.activation.value],
            head_kind=kernels.HeadKind[shape.head_kind.value],
            readout=kernels.Readout[_READOUTS[shape.readout]],
            isa=isa,
        )
        for i, layer in enumerate(shape.layers):
            last = i + 1 == len(shape.layers)
            encoder.add_layer(last=last, **self._layer(f"layers.{i}", layer))
        parts = {HeadKind.NONE: (), HeadKind.LINEAR: ("classifier",)}
        given = parts.get(shape.head_kind, ("dense", "classifier"))
        encoder.finish(**{part: self._linear(f"head.{part}") for part in given})
        return encoder

    def _layer(self, name: str, layer: LayerShape) -> dict[str, Any]:
        given: dict[str, Any] = {"heads": layer.heads, "inner": layer.ffn}
        for norm in ("attention_norm", "ffn_norm"):
            given[norm] = self._norm(f"{name}.{norm}")
        if layer.heads:
            for part in ("query", "key", "value", "output"):
                given[part] = self._linear(f"{name}.{part}")
        else:
            given["output_bias"] = self._tensor(f"{name}.output.bias").tolist()
        if layer.ffn:
            given["up"] = self._linear(f"{name}.up")
            given["down"] = self._linear(f"{name}.down", calibrated=True)
        else:
            given["down_bias"] = self._tensor(f"{name}.down.bias").tolist()
        return given

    def _linear(self, name: str, calibrated: bool = False) -> Any:
        if f"{name}.first.weight" not in self._tensors:
            return self._one(name, calibrated)
        return self._one(f"{name}.second").after(self._one(f"{name}.first", calibrated))

    def _one(self, name: str, calibrated: bool = False) -> Any:
        linear = self.header.linears.get(name)
        bias = self._tensors.get(f"{name}.bias")
        weight = self._tensor(f"{name}.weight")
        if linear is not None and linear.kind is Kind.BF16:
            return self._kernels.Linear.bf16(weight, bias)
        if linear is None or linear.kind is Kind.FP32:
            return self._kernels.Linear.fp32(weight, bias)
        span = (linear.low or 0.0, linear.high or 0.0) if calibrated else (0.0, 0.0)
        return self._kernels.Linear.int8(weight, self._tensor(f"{name}.scale"), bias, *span)

    def _norm(self, name: str) -> Any:
        return self._kernels.Norm(self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias"))

    def _tensor(self, name: str) -> ndarray:
        if name not in self._tensors:
            raise BundleError(f"{TENSORS_FILE} has no tensor {name}, which its header calls for")
        return self._tensors[name]


def _isa() -> str:
    """The instruction set that was asked for; empty for the best of this processor."""
    isa, here = os.environ.get(ISA_VARIABLE, ""), _kernels().kernels_here()
    if isa and isa not in here:
        raise EngineUnavailable(
            f"no kernels for {isa} run on this processor; here: {', '.join(here)}"
        )
    return isa


def _kernels() -> Any:
    try:
        import miaotui_native
    except ImportError as error:
        raise EngineUnavailable(_MISSING) from error
    return miaotui_native
