"""A bundle's model as plain padded ONNX: token ids and a mask in, logits out, nothing of ours."""

import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from miaotui.bundle import Bundle, read_bundle
from miaotui.cascade import ENGINE_FOLDER, STAGES_FILE
from miaotui.engines.native import HEADER_FILE, restored
from miaotui.engines.onnx_files import ONNX_FILE, to_onnx
from miaotui.engines.onnx_graph import lower
from miaotui.errors import BundleError, OutputError, RecipeError
from miaotui.hardware import probe
from miaotui.models.load import SHAPE_FILE, find_model, load_model

_RENAMED = {"ids": "input_ids", "segments": "attention_mask", "types": "token_type_ids"}


def export(folder: Path, to: str, out: Path) -> str:
    """Writes `out` and says in one line what it takes; `to` can be "onnx"."""
    if to != "onnx":
        raise RecipeError(f"cannot export to {to}; formats: onnx")
    bundle = read_bundle(folder)
    model = plain(_graph(bundle))
    onnx.checker.check_model(model)
    draft = out.with_name(f".{out.name}.tmp")
    try:
        draft.write_bytes(model.SerializeToString())
        os.replace(draft, out)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error
    said = f"{out}: inputs {', '.join(i.name for i in model.graph.input)}; output logits"
    if (bundle.folder / STAGES_FILE).exists():
        return f"{said}; this is the last stage of the cascade alone, since a graph has no stages"
    return said


def _graph(bundle: Bundle) -> onnx.ModelProto:
    engine = bundle.folder / ENGINE_FOLDER
    if (engine / ONNX_FILE).exists():
        return onnx.load(str(engine / ONNX_FILE))
    if (engine / SHAPE_FILE).exists():
        return to_onnx(load_model(find_model(str(engine))), weight_bits=8)
    if (engine / HEADER_FILE).exists():
        encoder, precision = restored(engine)
        return lower(encoder, precision, weight_bits=7 if probe().saturates_int8 else 8)
    raise BundleError(f"{bundle.folder} holds no graph that can be written as ONNX")


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Positions and readouts are made inside the graph; a model of a family without an adapter is
    padded already and only has its inputs renamed."""
    names = {entry.name for entry in model.graph.input}
    if "readout" not in names:
        _rename(model, {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"})
        return model
    _rename(model, _RENAMED)
    head, constants = _prologue("positions" in names)
    _rename_values(model, {"logits": "row_logits"})
    axis = numpy_helper.from_array(np.array([1], dtype=np.int64), "plain/axis1")
    tail = helper.make_node("Squeeze", ["row_logits", "plain/axis1"], ["logits"])
    nodes = [*head, *model.graph.node, tail]
    kept = [i for i in model.graph.input if i.name not in ("positions", "readout")]
    for entry in kept:
        for dim, name in zip(entry.type.tensor_type.shape.dim, ("batch", "tokens"), strict=True):
            dim.dim_param = name
    labels = model.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])
    graph = helper.make_graph(
        nodes, "classifier", kept, [output], [*model.graph.initializer, *constants, axis]
    )
    return helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name="miaotui",
    )


def _prologue(positions: bool) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """positions = 0, 1, 2, ... in each row; readout = the first token of each row."""

    def constant(name: str, value: list[int] | int) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(value, dtype=np.int64), f"plain/{name}")

    nodes = [
        helper.make_node("Shape", ["input_ids"], ["plain/shape"]),
        helper.make_node("Gather", ["plain/shape", "plain/zero"], ["plain/rows"]),
        helper.make_node("Unsqueeze", ["plain/rows", "plain/axis0"], ["plain/rows_1"]),
        helper.make_node(
            "Concat", ["plain/rows_1", "plain/one_1"], ["plain/readout_shape"], axis=0
        ),
        helper.make_node("Expand", ["plain/zero", "plain/readout_shape"], ["readout"]),
    ]
    if positions:
        nodes += [
            helper.make_node("Gather", ["plain/shape", "plain/one"], ["plain/tokens"]),
            helper.make_node("Range", ["plain/zero", "plain/tokens", "plain/one"], ["plain/range"]),
            helper.make_node("Expand", ["plain/range", "plain/shape"], ["positions"]),
        ]
    return nodes, [
        constant("zero", 0),
        constant("one", 1),
        constant("axis0", [0]),
        constant("one_1", [1]),
    ]


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for entry in model.graph.input:
        entry.name = names.get(entry.name, entry.name)
    _rename_values(model, names)


def _rename_values(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
        for i, name in enumerate(node.output):
            node.output[i] = names.get(name, name)
