"""Linears that multiply in bf16 or int8, for compilers of torch modules: they fuse the rest."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from miaotui.engines.int8_weights import quantize_weights
from miaotui.models.model import linears
from miaotui.models.precision import Kind

_LARGEST_CODE = 127


def narrow_(module: nn.Module, kinds: Mapping[str, Kind], weight_bits: int) -> None:
    """Puts in place of each linear named in `kinds` one that multiplies in that precision; int8
    weights have so many bits."""
    for name, linear in linears(module).items():
        kind = kinds.get(name, Kind.FP32)
        if kind is Kind.FP32:
            continue
        int8 = kind is Kind.INT8_DYNAMIC
        narrow = Int8Linear(linear, weight_bits) if int8 else BFloat16Linear(linear)
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, narrow)


class BFloat16Linear(nn.Module):
    """Rounds its inputs and weights to bf16; its outputs are fp32."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().bfloat16())
        bias = None if linear.bias is None else linear.bias.detach().bfloat16()
        self.register_buffer("bias", bias)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return F.linear(x.bfloat16(), self.weight, self.bias).float()


class Int8Linear(nn.Module):
    """int8 weights with a scale per output, inputs quantized token by token as they come. Without
    VNNI the library's sums of two products saturate, which weights of 7 bits keep them from."""

    codes: Tensor
    scales: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear, weight_bits: int) -> None:
        super().__init__()
        matrix = np.ascontiguousarray(linear.weight.detach().numpy().T)
        codes, scales = quantize_weights(matrix, weight_bits)
        self.register_buffer("codes", torch.from_numpy(codes))
        self.register_buffer("scales", torch.from_numpy(scales))
        bias = torch.zeros(matrix.shape[1]) if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias.clone())

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        tokens = x.reshape(-1, x.shape[-1])
        step = tokens.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / _LARGEST_CODE
        codes = torch.round(tokens / step).to(torch.int8)
        sums = torch._int_mm(codes, self.codes).float()  # the one int8 product that is compiled
        return (sums * (step * self.scales) + self.bias).reshape(*x.shape[:-1], -1)
