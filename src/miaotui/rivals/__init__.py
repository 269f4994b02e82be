"""The rivals that are always measured, the most telling first: a short time leaves out the last."""

from miaotui.rivals.base import Rival, StockModel
from miaotui.rivals.ctranslate2_int8 import CTranslate2
from miaotui.rivals.onnx_runtime import OnnxRuntime
from miaotui.rivals.open_vino import OpenVino
from miaotui.rivals.open_vino_buckets import OpenVinoBuckets
from miaotui.rivals.torch_compile import TorchCompile
from miaotui.rivals.torch_eager import TorchEager

RIVALS: tuple[Rival, ...] = (
    OnnxRuntime(int8=True),
    OpenVino(int8=True),
    OpenVino(),
    OnnxRuntime(),
    TorchEager(bf16=True),
    TorchEager(),
)

MORE_RIVALS: tuple[Rival, ...] = (
    OpenVinoBuckets(),
    CTranslate2(),
    TorchCompile(),
    TorchCompile("max-autotune"),
    TorchCompile(bf16=True),
)
"""Slow to open or seldom installed: for benchmarks that have the time."""

__all__ = ["MORE_RIVALS", "RIVALS", "Rival", "StockModel"]
