"""From a Model to an ONNX file, for every engine that reads one."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from miaotui.engines.onnx_saving import files_of, write_onnx
from miaotui.errors import EngineFailed, EngineUnavailable
from miaotui.models.precision import Kind
from miaotui.quiet import hushed, silence_telemetry

if TYPE_CHECKING:
    import onnx

    from miaotui.models.model import Model, PaddedModel

ONNX_FILE = "model.onnx"
_INT8 = frozenset({Kind.INT8_DYNAMIC, Kind.INT8_STATIC})
_FLOAT_IN_FP16 = ("QuantizeLinear", "DequantizeLinear", "LayerNormalization", "Softmax")


def to_onnx(model: "Model", weight_bits: int, signed: bool = False) -> "onnx.ModelProto":
    """An encoder by hand, any other classifier by tracing (float, or ONNX Runtime's own int8)."""
    from miaotui.engines.onnx_graph import lower

    if model.has_adapter:
        return lower(model.encoder, model.precision, weight_bits, signed=signed)
    dynamic = model.precision.kinds == frozenset({Kind.INT8_DYNAMIC})
    if model.precision.kinds & _INT8 and not dynamic:
        raise EngineUnavailable(
            f"{model.family} has no adapter: int8-static is not available for it; "
            "int8-dynamic on onnxruntime is"
        )
    exported = trace(model.module)  # type: ignore[arg-type]
    return quantize_dynamically(exported, weight_bits == 7) if dynamic else exported


def copy_graph(graph: Path, folder: Path) -> None:
    """Another engine's graph as this one's."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files_of(graph):
        shutil.copyfile(file, folder / file.name)


def holds_int8(path: Path) -> bool:
    """Whether a graph has weights in 8 bits."""
    import onnx

    of_8_bits = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    graph = onnx.load(str(path), load_external_data=False).graph
    return any(weight.data_type in of_8_bits and weight.dims for weight in graph.initializer)


def trace(module: "PaddedModel") -> "onnx.ModelProto":
    """torch's own exporter, dynamic shapes; each input has a tensor of its own (two inputs that
    share one are merged)."""
    import torch

    names = list(module.inputs)
    ids, fewer = torch.ones((2, 8), dtype=torch.long), torch.ones((2, 5), dtype=torch.long)
    examples = tuple(
        (fewer if name == "readout" else ids) * (name not in ("types", "readout")) for name in names
    )
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    more = {"more": (axes,) * (len(names) - 2)} if len(names) > 2 else {}  # noqa: PLR2004
    shapes = dict.fromkeys(names[:2], axes) | more
    try:
        with torch.no_grad(), hushed():
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                input_names=names,
                output_names=["logits"],
                dynamic_shapes=shapes,
                verbose=False,
            )
    except (RuntimeError, TypeError, ValueError, torch.onnx.OnnxExporterError) as error:
        raise EngineFailed(f"torch cannot export this model to ONNX: {_reason(error)}") from error
    if program is None:
        raise EngineFailed("torch cannot export this model to ONNX")
    return program.model_proto


def _reason(error: BaseException) -> str:
    """The first line of what started it all; the exporter's own message is a page on how to go on,
    in colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def in_fp16(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same graph in half precision, its inputs and outputs as they were; int8 products,
    softmax and LayerNorm stay in float."""
    silence_telemetry()
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, ONNX_FILE)
        write_onnx(model, source)
        return convert_float_to_float16(  # of a file it takes models of any size
            str(source), keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FLOAT_IN_FP16]
        )


def quantize_dynamically(model: "onnx.ModelProto", reduce_range: bool) -> "onnx.ModelProto":
    """ONNX Runtime's own dynamic quantizer, per channel."""
    silence_telemetry()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        del model.graph.value_info[:]
        write_onnx(model, source)
        with hushed():
            quantize_dynamic(
                str(source),
                str(target),
                per_channel=True,
                reduce_range=reduce_range,
                weight_type=QuantType.QInt8,
                use_external_data_format=True,
            )
        return onnx.load(str(target))
