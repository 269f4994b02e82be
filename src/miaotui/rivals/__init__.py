"""The rivals that are always measured."""

from miaotui.rivals.base import Rival, Stock
from miaotui.rivals.onnx_runtime import OnnxRuntime
from miaotui.rivals.open_vino import OpenVino
from miaotui.rivals.torch_eager import TorchEager

RIVALS: tuple[Rival, ...] = (
    TorchEager(),
    TorchEager(bf16=True),
    OnnxRuntime(),
    OnnxRuntime(int8=True),
    OpenVino(),
    OpenVino(int8=True),
)

__all__ = ["RIVALS", "Rival", "Stock"]
