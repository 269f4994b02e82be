"""Nodes and constants of an ONNX graph under construction: products in any precision."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from miaotui.engines.int8_weights import quantize_weights
from miaotui.errors import EngineFailed
from miaotui.models.encoder import QUICK_GELU_SLOPE, Factorized
from miaotui.models.precision import Kind, LinearPrecision, Precision
from miaotui.models.shape import Activation, HeadKind


@dataclass(frozen=True)
class Weights:
    """A product's constants in float: `matrix` is [in, out]."""

    matrix: Float32[ndarray, "inputs outputs"]
    bias: Float32[ndarray, " outputs"] | None


@dataclass
class Graph:
    """Nodes and constants under construction; lives for one lowering."""

    precision: Precision
    weight_bits: int
    signed: bool = False
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    known: dict[tuple[object, ...], str] = field(default_factory=dict)
    shares: bool = False
    """Whether equal constants are kept once: layers may share their weights."""
    quantized: dict[tuple[str, LinearPrecision], tuple[str, ...]] = field(default_factory=dict)

    def add(
        self, op: str, inputs: list[str], name: str, outputs: int = 1, **attributes: Any
    ) -> str:
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return names[0]

    def constant(self, name: str, value: ndarray) -> str:
        name = self._same(name, value) if self.shares else name
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _same(self, name: str, value: ndarray) -> str:
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest()
        return self.known.setdefault((value.dtype.str, value.shape, content), name)

    def floats(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, dtype=np.float32))

    def axes(self, *values: int) -> str:
        return self.constant(f"axes{values}", np.array(values, dtype=np.int64))

    def linear(self, module: nn.Module, x: str, name: str, scale: float = 1.0) -> str:
        """A linear, or the two of a factorized one; its outputs times `scale`."""
        if isinstance(module, Factorized):
            x = self.linear(module.first, x, f"{name}.first")
            return self.linear(module.second, x, f"{name}.second", scale)
        return self.product(x, weights_of(module, scale), name, self.precision[name])

    def norm(self, norm: nn.LayerNorm, x: str, name: str) -> str:
        inputs = [x, self.constant(f"{name}.weight", array(norm.weight))]
        if norm.bias is not None:
            inputs.append(self.constant(f"{name}.bias", array(norm.bias)))
        return self.add("LayerNormalization", inputs, name, axis=-1, epsilon=float(norm.eps))

    def activate(self, x: str, activation: Activation | HeadKind, name: str) -> str:
        if activation in (Activation.GELU, HeadKind.GELU):
            return self.add("Gelu", [x], name)
        if activation is Activation.GELU_TANH:
            return self.add("Gelu", [x], name, approximate="tanh")
        if activation is Activation.QUICK_GELU:
            slope = self.floats("quick_gelu/slope", QUICK_GELU_SLOPE)
            steep = self.add("Mul", [x, slope], f"{name}/steep")
            share = self.add("Sigmoid", [steep], f"{name}/share")
            return self.add("Mul", [x, share], name)
        return self.add("Tanh" if activation is HeadKind.TANH else "Relu", [x], name)

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


def weights_of(module: nn.Module, scale: float = 1.0) -> Weights:
    """Of a linear, its outputs times `scale`."""
    linear: Any = module
    bias = None if linear.bias is None else array(linear.bias) * np.float32(scale)
    return Weights(array(linear.weight).T * np.float32(scale), bias)


def array(tensor: torch.Tensor) -> Float32[ndarray, "..."]:
    return tensor.detach().to(torch.float32).numpy()
