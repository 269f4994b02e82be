"""Lowers an `Encoder` to ONNX by hand: any layer shape, any Precision, names that stay put.

Exporting through a tracer takes ten seconds and forgets which node came from which module; this
takes a tenth of a second, so that a search can afford it, and every product keeps its module name.
Only standard operators are used (opset 20), so that the file needs nothing of ours.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from jaxtyping import Float32
from numpy import ndarray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from miaotui.engines.int8_weights import quantize_weights
from miaotui.errors import EngineFailed
from miaotui.models.encoder import BiasOnly, Encoder, Factorized, Head, Layer
from miaotui.models.precision import Kind, LinearPrecision, Precision
from miaotui.models.shape import Activation, HeadKind

OPSET = 20
_MASKED = -10000.0
_ROW_AXES = {
    "ids": ("blocks", "tokens"),
    "positions": ("blocks", "tokens"),
    "segments": ("blocks", "tokens"),
    "types": ("blocks", "tokens"),
    "readout": ("blocks", "readouts"),
}


@dataclass(frozen=True)
class Weights:
    """A product's constants in float: `matrix` is [in, out]."""

    matrix: Float32[ndarray, "inputs outputs"]
    bias: Float32[ndarray, " outputs"] | None


@dataclass
class _Graph:
    """Nodes and constants under construction; lives for one lowering."""

    precision: Precision
    weight_bits: int
    signed: bool = False
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    quantized: dict[tuple[str, LinearPrecision], tuple[str, ...]] = field(default_factory=dict)

    def add(
        self, op: str, inputs: list[str], name: str, outputs: int = 1, **attributes: Any
    ) -> str:
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return names[0]

    def constant(self, name: str, value: ndarray) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def floats(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, dtype=np.float32))

    def axes(self, *values: int) -> str:
        return self.constant(f"axes{values}", np.array(values, dtype=np.int64))

    def product(self, x: str, weights: Weights, name: str, precision: LinearPrecision) -> str:
        """x @ matrix + bias in the given precision."""
        if precision.kind is Kind.INT8_STATIC:
            y = self._static_product(x, weights.matrix, name, precision)
        elif precision.kind is Kind.INT8_DYNAMIC:
            y = self._dynamic_product(x, weights.matrix, name, precision)
        else:
            y = self.add(
                "MatMul", [x, self.constant(f"{name}.weight", weights.matrix)], f"{name}/matmul"
            )
        if weights.bias is None:
            return y
        return self.add("Add", [y, self.constant(f"{name}.bias", weights.bias)], f"{name}/biased")

    def _static_product(
        self, x: str, matrix: ndarray, name: str, precision: LinearPrecision
    ) -> str:
        key = (x, precision)
        if key not in self.quantized:
            scale, zero = _activation_scale(name, precision, self.signed)
            grid = [self.floats(f"{name}.in_scale", scale), self.constant(f"{name}.in_zero", zero)]
            codes = self.add("QuantizeLinear", [x, *grid], f"{name}/quantized")
            self.quantized[key] = (
                self.add("DequantizeLinear", [codes, *grid], f"{name}/restored"),
            )
        codes_w, scales = quantize_weights(matrix, self.weight_bits)
        weight = self.add(
            "DequantizeLinear",
            [
                self.constant(f"{name}.weight", codes_w),
                self.constant(f"{name}.weight_scale", scales),
                self.constant(f"{name}.weight_zero", np.zeros(len(scales), dtype=np.int8)),
            ],
            f"{name}/weight",
            axis=1,
        )
        return self.add("MatMul", [self.quantized[key][0], weight], f"{name}/matmul")

    def _dynamic_product(
        self, x: str, matrix: ndarray, name: str, precision: LinearPrecision
    ) -> str:
        key = (x, precision)
        if key not in self.quantized:
            outputs = tuple(f"{name}/{part}" for part in ("codes", "scale", "zero"))
            self.nodes.append(
                helper.make_node("DynamicQuantizeLinear", [x], outputs, name=f"{name}/quantized")
            )
            self.quantized[key] = outputs
        codes, scale, zero = self.quantized[key]
        codes_w, scales = quantize_weights(matrix, self.weight_bits)
        weight_zero = self.constant(f"{name}.weight_zero", np.zeros(len(scales), dtype=np.int8))
        weight = self.constant(f"{name}.weight", codes_w)
        sums = self.add("MatMulInteger", [codes, weight, zero, weight_zero], f"{name}/integer")
        real = self.add("Cast", [sums], f"{name}/cast", to=TensorProto.FLOAT)
        weight_scale = self.constant(f"{name}.weight_scale", scales)
        both = self.add("Mul", [scale, weight_scale], f"{name}/scales")
        return self.add("Mul", [real, both], f"{name}/matmul")


def _activation_scale(name: str, precision: LinearPrecision, signed: bool) -> tuple[float, ndarray]:
    if precision.low is None or precision.high is None:
        raise EngineFailed(f"{name} is int8-static but has no observed range; calibrate it first")
    low, high = min(precision.low, 0.0), max(precision.high, 0.0)
    if signed:
        return max(-low, high, 1e-8) / 127, np.array(0, dtype=np.int8)
    scale = max(high - low, 1e-8) / 255
    return scale, np.array(np.clip(round(-low / scale), 0, 255), dtype=np.uint8)


def lower(
    encoder: Encoder,
    precision: Precision,
    weight_bits: int = 8,
    shape: tuple[int, int, int] | None = None,
    signed: bool = False,
) -> onnx.ModelProto:
    """The encoder as an ONNX model; inputs as `layouts.Batch.inputs`, one output `logits`
    [blocks, readouts, labels]. `shape` fixes (blocks, tokens, readouts); `signed` quantizes what is
    int8-static symmetrically, which GPUs ask for."""
    graph = _Graph(precision, weight_bits, signed)
    x = _embeddings(graph, encoder)
    mask = _mask(graph, "segments", "mask") if len(encoder.layers) > 1 else ""
    last = len(encoder.layers) - 1
    for i, layer in enumerate(encoder.layers):
        if not isinstance(layer, Layer):
            raise EngineFailed(f"layers.{i} is a {type(layer).__name__}; expected a Layer")
        if i == last:
            rows, indices = _read_out(graph, x)
            theirs = graph.add("GatherND", ["segments", indices], "readout/segments", batch_dims=1)
            x = _layer(graph, layer, f"layers.{i}", x, rows, _mask(graph, theirs, "readout/mask"))
        else:
            x = _layer(graph, layer, f"layers.{i}", x, x, mask)
    _head(graph, encoder, x if encoder.layers else _read_out(graph, x)[0])
    return _model(graph, encoder, shape)


def _read_out(graph: _Graph, x: str) -> tuple[str, str]:
    """The states of the tokens to read, and the indices that pick them out of their blocks."""
    indices = graph.add("Unsqueeze", ["readout", graph.axes(2)], "readout/indices")
    return graph.add("GatherND", [x, indices], "readout/states", batch_dims=1), indices


def _embeddings(graph: _Graph, encoder: Encoder) -> str:
    parts, shape = encoder.embeddings, encoder.shape
    positions = _array(parts.positions.weight)[shape.position_offset :]
    if parts.types is not None and shape.types == 1:
        positions = positions + _array(parts.types.weight)
    words = graph.constant("embeddings.words.weight", _array(parts.words.weight))
    x = graph.add("Gather", [words, "ids"], "embeddings/words")
    table = graph.constant("embeddings.positions.weight", positions)
    places = graph.add("Gather", [table, "positions"], "embeddings/positions")
    x = graph.add("Add", [x, places], "embeddings/sum")
    if parts.types is not None and shape.types > 1:
        table = graph.constant("embeddings.types.weight", _array(parts.types.weight))
        kinds = graph.add("Gather", [table, "types"], "embeddings/types")
        x = graph.add("Add", [x, kinds], "embeddings/sum_types")
    x = _norm(graph, parts.norm, x, "embeddings.norm")
    return (
        x
        if parts.projection is None
        else _linear(graph, parts.projection, x, "embeddings.projection")
    )


def _mask(graph: _Graph, queries: str, name: str) -> str:
    """0 where a query's segment equals a token's, very negative elsewhere: [blocks, 1, q, k]."""
    q = graph.add("Unsqueeze", [queries, graph.axes(1, 3)], f"{name}/queries")
    k = graph.add("Unsqueeze", ["segments", graph.axes(1, 2)], f"{name}/keys")
    same = graph.add("Equal", [q, k], f"{name}/same")
    return graph.add(
        "Where", [same, graph.floats("zero", 0.0), graph.floats("masked", _MASKED)], name
    )


def _layer(graph: _Graph, layer: Layer, name: str, x: str, residual: str, mask: str) -> str:
    attended = _attention(graph, layer, name, x, residual, mask)
    x = graph.add("Add", [residual, attended], f"{name}/attention_sum")
    x = _norm(graph, layer.attention_norm, x, f"{name}.attention_norm")
    y = graph.add("Add", [x, _ffn(graph, layer, name, x)], f"{name}/ffn_sum")
    return _norm(graph, layer.ffn_norm, y, f"{name}.ffn_norm")


def _attention(graph: _Graph, layer: Layer, name: str, x: str, queries: str, mask: str) -> str:
    if isinstance(layer.output, BiasOnly):
        return graph.constant(f"{name}.output.bias", _array(layer.output.bias))
    q, k, v = _query_key_value(graph, layer, name, x, queries)
    q, v = (
        _heads(graph, layer, part, f"{name}/{which}", (0, 2, 1, 3))
        for part, which in ((q, "q"), (v, "v"))
    )
    k = _heads(graph, layer, k, f"{name}/k", (0, 2, 3, 1))
    scores = graph.add("MatMul", [q, k], f"{name}/scores")
    masked = graph.add("Add", [scores, mask], f"{name}/masked_scores")
    weights = graph.add("Softmax", [masked], f"{name}/attention_weights", axis=-1)
    context = graph.add("MatMul", [weights, v], f"{name}/context")
    context = graph.add("Transpose", [context], f"{name}/context_rows", perm=[0, 2, 1, 3])
    flat = graph.constant(f"flat{layer.heads}", np.array([0, 0, layer.heads * layer.head_dim]))
    context = graph.add("Reshape", [context, flat], f"{name}/context_flat")
    return _linear(graph, layer.output, context, f"{name}.output")


def _query_key_value(
    graph: _Graph, layer: Layer, name: str, x: str, queries: str
) -> tuple[str, str, str]:
    """Products that share their input and precision run as one; 1/sqrt(head_dim) goes into the
    query's weights."""
    scale = layer.head_dim**-0.5
    parts = ("query", "key", "value")
    modules = {part: getattr(layer, part) for part in parts}
    same = len({graph.precision[f"{name}.{part}"] for part in parts}) == 1
    if queries != x or not same or any(isinstance(m, Factorized) for m in modules.values()):
        q, k, v = (
            _linear(
                graph, modules[part], source, f"{name}.{part}", scale if part == "query" else 1.0
            )
            for part, source in (("query", queries), ("key", x), ("value", x))
        )
        return q, k, v
    scaled = [_weights(modules[part], scale if part == "query" else 1.0) for part in parts]
    matrix = np.concatenate([w.matrix for w in scaled], axis=1)
    bias = np.concatenate([w.bias for w in scaled if w.bias is not None])
    joint = graph.product(x, Weights(matrix, bias), f"{name}.qkv", graph.precision[f"{name}.query"])
    graph.add("Split", [joint], f"{name}/split", outputs=3, axis=-1, num_outputs=3)
    return f"{name}/split.0", f"{name}/split.1", f"{name}/split.2"


def _heads(graph: _Graph, layer: Layer, x: str, name: str, perm: tuple[int, ...]) -> str:
    shape = graph.constant(f"heads{layer.heads}", np.array([0, 0, layer.heads, layer.head_dim]))
    split = graph.add("Reshape", [x, shape], f"{name}_split")
    return graph.add("Transpose", [split], f"{name}_heads", perm=list(perm))


def _ffn(graph: _Graph, layer: Layer, name: str, x: str) -> str:
    if isinstance(layer.down, BiasOnly):
        return graph.constant(f"{name}.down.bias", _array(layer.down.bias))
    inner = _linear(graph, layer.up, x, f"{name}.up")
    activated = _activate(graph, inner, layer.activation, f"{name}/inner")
    return _linear(graph, layer.down, activated, f"{name}.down")


def _activate(graph: _Graph, x: str, activation: Activation | HeadKind, name: str) -> str:
    if activation in (Activation.GELU, HeadKind.GELU):
        return graph.add("Gelu", [x], name)
    if activation is Activation.GELU_TANH:
        return graph.add("Gelu", [x], name, approximate="tanh")
    return graph.add("Tanh" if activation is HeadKind.TANH else "Relu", [x], name)


def _head(graph: _Graph, encoder: Encoder, x: str) -> None:
    if isinstance(encoder.head, Head):
        if encoder.head.dense is not None:
            x = _linear(graph, encoder.head.dense, x, "head.dense")
            x = _activate(graph, x, encoder.shape.head_kind, "head/activated")
        x = _linear(graph, encoder.head.classifier, x, "head.classifier")
    graph.add("Identity", [x], "logits")


def _linear(graph: _Graph, module: nn.Module, x: str, name: str, scale: float = 1.0) -> str:
    if isinstance(module, Factorized):
        x = _linear(graph, module.first, x, f"{name}.first")
        return _linear(graph, module.second, x, f"{name}.second", scale)
    return graph.product(x, _weights(module, scale), name, graph.precision[name])


def _weights(module: nn.Module, scale: float) -> Weights:
    linear: Any = module
    bias = None if linear.bias is None else _array(linear.bias) * np.float32(scale)
    return Weights(_array(linear.weight).T * np.float32(scale), bias)


def _norm(graph: _Graph, norm: nn.LayerNorm, x: str, name: str) -> str:
    inputs = [
        x,
        graph.constant(f"{name}.weight", _array(norm.weight)),
        graph.constant(f"{name}.bias", _array(norm.bias)),
    ]
    return graph.add("LayerNormalization", inputs, name, axis=-1, epsilon=float(norm.eps))


def _array(tensor: torch.Tensor) -> Float32[ndarray, "..."]:
    return tensor.detach().to(torch.float32).numpy()


def _model(graph: _Graph, encoder: Encoder, shape: tuple[int, int, int] | None) -> onnx.ModelProto:
    sizes = dict(zip(("blocks", "tokens", "readouts"), shape, strict=True)) if shape else {}
    used = {name for node in graph.nodes for name in node.input}
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [sizes.get(a, a) for a in axes])
        for name, axes in _ROW_AXES.items()
        if name in used
    ]
    axes = [sizes.get("blocks", "blocks"), sizes.get("readouts", "readouts"), encoder.shape.labels]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, axes)
    body = helper.make_graph(
        graph.nodes, "encoder", inputs, [output], initializer=list(graph.constants.values())
    )
    return helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="miaotui", ir_version=10
    )
