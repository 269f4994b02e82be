"""Engines by name. Importing this imports no engine's library."""

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter

from miaotui.engines.native import NativeEngine
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.engines.tensorrt import TensorRtEngine
from miaotui.engines.torch import TorchEngine
from miaotui.engines.torch_compile import TorchCompileEngine

_Any = (  # in the order in which a search tries them
    NativeEngine
    | OpenVinoEngine
    | OnnxRuntimeEngine
    | TensorRtEngine
    | TorchEngine
    | TorchCompileEngine
)
Engine = Annotated[_Any, Field(discriminator="name")]
ENGINES: dict[str, type[_Any]] = {
    engine.model_fields["name"].default: engine for engine in get_args(_Any)
}
engine_adapter: TypeAdapter[_Any] = TypeAdapter(Engine)
REFERENCE: type[_Any] = next(engine for engine in ENGINES.values() if engine.is_reference)
"""Runs every model as it is: what others are compared with."""


def with_settings(name: str, given: Mapping[str, Any]) -> _Any:
    """The engine of that name by those of the given settings that it has."""
    fields = ENGINES[name].model_fields
    return engine_adapter.validate_python(
        {"name": name} | {key: value for key, value in given.items() if key in fields}
    )


__all__ = ["ENGINES", "REFERENCE", "Engine", "engine_adapter", "with_settings"]
