"""Engines by name. Importing this imports no engine's library."""

from typing import Annotated, get_args

from pydantic import Field, TypeAdapter

from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.engines.torch import TorchEngine

Engine = Annotated[TorchEngine | OnnxRuntimeEngine | OpenVinoEngine, Field(discriminator="name")]
ENGINES: dict[str, type[TorchEngine | OnnxRuntimeEngine | OpenVinoEngine]] = {
    engine.model_fields["name"].default: engine for engine in get_args(get_args(Engine)[0])
}
engine_adapter: TypeAdapter[TorchEngine | OnnxRuntimeEngine | OpenVinoEngine] = TypeAdapter(Engine)

__all__ = ["ENGINES", "Engine", "engine_adapter"]
