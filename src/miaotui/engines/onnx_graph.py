"""Lowers an `Encoder` to ONNX by hand: any layer shape, any Precision, names that stay put.

Exporting through a tracer takes ten seconds and forgets which node came from which module; this
takes a tenth of a second, so that a search can afford it, and every product keeps its module name.
Only standard operators are used (opset 20), so that the file needs nothing of ours.
"""

import onnx
from onnx import TensorProto, helper

from miaotui.engines.onnx_families import parts_of
from miaotui.engines.onnx_nodes import Graph
from miaotui.models.encoder import Encoder
from miaotui.models.precision import Precision
from miaotui.models.shape import HeadKind, Readout
from miaotui.models.ties import ties

OPSET = 20
_ROW_AXES = {
    "ids": ("blocks", "tokens"),
    "positions": ("blocks", "tokens"),
    "segments": ("blocks", "tokens"),
    "types": ("blocks", "tokens"),
    "readout": ("blocks", "readouts"),
}


def lower(
    encoder: Encoder,
    precision: Precision,
    weight_bits: int = 8,
    shape: tuple[int, int, int] | None = None,
    signed: bool = False,
) -> onnx.ModelProto:
    """The encoder as an ONNX model; inputs as `layouts.Batch.inputs`, one output `logits`
    [blocks, readouts, labels]. `shape` fixes (blocks, tokens, readouts); `signed` quantizes what is
    int8-static symmetrically, which GPUs ask for."""
    graph = Graph(precision, weight_bits, signed, shares=bool(ties(encoder)))
    parts, mean = parts_of(graph, encoder), encoder.shape.readout is Readout.MEAN
    x = parts.embeddings()
    *layers, last = [f"layers.{i}" for i in range(len(encoder.layers))] or [""]
    pairs = parts.pairs(lambda name: name, "mask") if layers or (mean and last) else None
    for name in layers:
        x = parts.layer(encoder.get_submodule(name), name, x, x, pairs)
    if last and mean:
        x = parts.layer(encoder.get_submodule(last), last, x, x, pairs)
    if last and not mean:
        queries = _at_readout(graph, x, "states")
        pairs = parts.pairs(lambda name: _at_readout(graph, name, name), "readout/mask")
        x = parts.layer(encoder.get_submodule(last), last, x, queries, pairs)
    x = parts.final(x)
    if mean or not last:
        x = _mean(graph, x) if mean else _at_readout(graph, x, "states")
    x = x if encoder.shape.head_kind is HeadKind.NONE else parts.head(x)
    graph.add("Identity", [x], "logits")
    return _model(graph, encoder, shape)


def _at_readout(graph: Graph, x: str, name: str) -> str:
    """What is picked out of the blocks of `x`, by the places to read."""
    indices = "readout/indices"
    if not any(indices in node.output for node in graph.nodes):
        graph.add("Unsqueeze", ["readout", graph.axes(2)], indices)
    return graph.add("GatherND", [x, indices], f"readout/{name}", batch_dims=1)


def _mean(graph: Graph, x: str) -> str:
    """The mean over each row that has a place to read: [blocks, readouts, hidden]."""
    rows = _at_readout(graph, "segments", "segments")
    rows = graph.add("Unsqueeze", [rows, graph.axes(2)], "readout/rows")
    tokens = graph.add("Unsqueeze", ["segments", graph.axes(1)], "readout/tokens")
    own = graph.add("Equal", [rows, tokens], "readout/own")
    own = graph.add("Cast", [own], "readout/ones", to=TensorProto.FLOAT)
    count = graph.add("ReduceSum", [own, graph.axes(2)], "readout/count", keepdims=1)
    total = graph.add("MatMul", [own, x], "readout/sum")
    return graph.add("Div", [total, count], "readout/mean")


def _model(graph: Graph, encoder: Encoder, shape: tuple[int, int, int] | None) -> onnx.ModelProto:
    sizes = dict(zip(("blocks", "tokens", "readouts"), shape, strict=True)) if shape else {}
    used = {name for node in graph.nodes for name in node.input}
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [sizes.get(a, a) for a in axes])
        for name, axes in _ROW_AXES.items()
        if name in used
    ]
    axes = [sizes.get("blocks", "blocks"), sizes.get("readouts", "readouts"), encoder.shape.labels]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, axes)
    body = helper.make_graph(
        graph.nodes, "encoder", inputs, [output], initializer=list(graph.constants.values())
    )
    return helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="miaotui", ir_version=10
    )
