"""A bundle's model as plain padded ONNX: token ids and a mask in, logits out, nothing of ours."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from miaotui.bundle import Bundle, read_bundle
from miaotui.cascade import ENGINE_FOLDER, STAGES_FILE
from miaotui.engines.native import HEADER_FILE, restored
from miaotui.engines.onnx_files import ONNX_FILE, to_onnx
from miaotui.engines.onnx_graph import lower
from miaotui.engines.onnx_saving import ROOM_BYTES, files_of, weights_of, write_onnx
from miaotui.errors import BundleError, OutputError, RecipeError
from miaotui.hardware import probe
from miaotui.models.load import SHAPE_FILE, find_model, load_model
from miaotui.tasks.saved import open_task

_RENAMED = {
    "ids": "input_ids",
    "segments": "attention_mask",
    "mask": "attention_mask",
    "types": "token_type_ids",
    "logits": "read_logits",
}
_MADE_INSIDE = ("positions", "readout")


def export(folder: Path, to: str, out: Path) -> str:
    """Writes `out` and says in one line what it takes; `to` can be "onnx"."""
    if to != "onnx":
        raise RecipeError(f"cannot export to {to}; formats: onnx")
    bundle = read_bundle(folder)
    bundle.outside(out)
    model = plain(_graph(bundle), open_task(bundle.folder).reads_tokens)
    apart = _write(model, out)
    beside = f" (weights in {weights_of(out).name} beside it)" if apart else ""
    said = f"{out}{beside}: inputs {', '.join(i.name for i in model.graph.input)}; output logits"
    if (bundle.folder / STAGES_FILE).exists():
        return f"{said}; this is the last stage of the cascade alone, since a graph has no stages"
    return said


def _write(model: onnx.ModelProto, out: Path, inline_bytes: int = ROOM_BYTES) -> bool:
    """Checked first, whole or not at all; whether its weights lie in a file of their own. Where
    they do not, one that lay beside it before is gone."""
    try:
        with TemporaryDirectory(prefix=".", dir=out.parent) as folder:
            draft = Path(folder, out.name)
            write_onnx(model, draft, inline_bytes)
            onnx.checker.check_model(str(draft))
            written = files_of(draft)
            for file in reversed(written):
                os.replace(file, out.with_name(file.name))
            if len(written) == 1:
                weights_of(out).unlink(missing_ok=True)  # of an export before this one
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error
    return len(written) > 1


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


def plain(model: onnx.ModelProto, reads_tokens: bool) -> onnx.ModelProto:
    """Positions and readouts are made inside the graph. Logits are [batch, tokens, labels] where
    the task reads tokens, [batch, labels] elsewhere."""
    made = [entry.name for entry in model.graph.input if entry.name in _MADE_INSIDE]
    labels = model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    _rename(model)
    kept = [entry for entry in model.graph.input if entry.name not in _MADE_INSIDE]
    for entry in kept:
        for dim, name in zip(entry.type.tensor_type.shape.dim, ("batch", "tokens"), strict=True):
            dim.dim_param = name
    tail = ["read_logits", "plain/axis1"] if "readout" in made and not reads_tokens else None
    last = helper.make_node("Squeeze" if tail else "Identity", tail or ["read_logits"], ["logits"])
    axes = ["batch", "tokens", labels] if reads_tokens else ["batch", labels]
    graph = helper.make_graph(
        [*_prologue(made, reads_tokens), *model.graph.node, last],
        "classifier",
        kept,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, axes)],
        [*model.graph.initializer, *_constants()],
    )
    return helper.make_model(
        graph,
        opset_imports=model.opset_import,
        functions=model.functions,
        ir_version=model.ir_version,
        producer_name="miaotui",
    )


def _constants() -> list[onnx.TensorProto]:
    values = {"zero": 0, "one": 1, "axis0": [0], "axis1": [1], "one_1": [1]}
    return [
        numpy_helper.from_array(np.array(value, dtype=np.int64), f"plain/{name}")
        for name, value in values.items()
    ]


def _prologue(made: list[str], reads_tokens: bool) -> list[onnx.NodeProto]:
    """Positions are 0, 1, 2, ... in each row; read is each token, or a row's first."""
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["plain/shape"]),
        helper.make_node("Gather", ["plain/shape", "plain/one"], ["plain/tokens"]),
        helper.make_node("Range", ["plain/zero", "plain/tokens", "plain/one"], ["plain/range"]),
        helper.make_node("Expand", ["plain/range", "plain/shape"], ["plain/places"]),
        helper.make_node("Gather", ["plain/shape", "plain/zero"], ["plain/rows"]),
        helper.make_node("Unsqueeze", ["plain/rows", "plain/axis0"], ["plain/rows_1"]),
        helper.make_node("Concat", ["plain/rows_1", "plain/one_1"], ["plain/firsts"], axis=0),
        helper.make_node("Expand", ["plain/zero", "plain/firsts"], ["plain/first"]),
    ]
    read = "plain/places" if reads_tokens else "plain/first"
    source = {"positions": "plain/places", "readout": read}
    return [*nodes, *(helper.make_node("Identity", [source[name]], [name]) for name in made)]


def _rename(model: onnx.ModelProto) -> None:
    outer = {entry.name for entry in (*model.graph.input, *model.graph.output)}
    names = {name: _RENAMED[name] for name in outer & set(_RENAMED)}
    for entry in model.graph.input:
        entry.name = names.get(entry.name, entry.name)
    for node in model.graph.node:
        for used in (node.input, node.output):
            used[:] = [names.get(name, name) for name in used]
