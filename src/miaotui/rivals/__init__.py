"""The rivals that are always measured; the fastest come first, so that a short time leaves out
the slowest."""

from miaotui.rivals.base import Rival, Stock
from miaotui.rivals.onnx_runtime import OnnxRuntime
from miaotui.rivals.open_vino import OpenVino
from miaotui.rivals.torch_eager import TorchEager

RIVALS: tuple[Rival, ...] = (
    OpenVino(int8=True),
    OnnxRuntime(int8=True),
    OpenVino(),
    TorchEager(bf16=True),
    OnnxRuntime(),
    TorchEager(),
)

__all__ = ["RIVALS", "Rival", "Stock"]
