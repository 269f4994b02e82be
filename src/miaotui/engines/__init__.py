"""Engines by name. Importing this imports no engine's library."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.engines.torch import TorchEngine

Engine = Annotated[TorchEngine | OnnxRuntimeEngine | OpenVinoEngine, Field(discriminator="name")]
ENGINES: dict[str, type[TorchEngine | OnnxRuntimeEngine | OpenVinoEngine]] = {
    "torch": TorchEngine,
    "onnxruntime": OnnxRuntimeEngine,
    "openvino": OpenVinoEngine,
}
engine_adapter: TypeAdapter[TorchEngine | OnnxRuntimeEngine | OpenVinoEngine] = TypeAdapter(Engine)

__all__ = ["ENGINES", "Engine", "engine_adapter"]
