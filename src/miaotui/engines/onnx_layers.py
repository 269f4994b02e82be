"""Lowers the parts of a plain encoder; other families change some of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from miaotui.engines.onnx_nodes import Graph, Weights, array, weights_of
from miaotui.models.encoder import BiasOnly, Encoder, Factorized

_MASKED = -10000.0
OfQueries = Callable[[str], str]
"""Of one of the graph's inputs, the name of its values at the queries."""


class PlainParts:
    """Post-LayerNorm layers whose attention knows of two tokens whether they are of one row."""

    def __init__(self, graph: Graph, encoder: Encoder) -> None:
        self.graph = graph
        self.encoder = encoder
        self.shape = encoder.shape

    def embeddings(self) -> str:
        graph, parts, shape = self.graph, self._module("embeddings"), self.shape
        positions = array(parts.positions.weight)[shape.position_offset :]
        if parts.types is not None and shape.types == 1:
            positions = positions + array(parts.types.weight)
        words = graph.constant("embeddings.words.weight", array(parts.words.weight))
        x = graph.add("Gather", [words, "ids"], "embeddings/words")
        table = graph.constant("embeddings.positions.weight", positions)
        places = graph.add("Gather", [table, "positions"], "embeddings/positions")
        x = self._types(graph.add("Add", [x, places], "embeddings/sum"))
        x = graph.norm(parts.norm, x, "embeddings.norm")
        if parts.projection is None:
            return x
        return graph.linear(parts.projection, x, "embeddings.projection")

    def _types(self, x: str) -> str:
        if self.shape.types <= 1:
            return x
        weight = self.encoder.get_parameter("embeddings.types.weight")
        table = self.graph.constant("embeddings.types.weight", array(weight))
        kinds = self.graph.add("Gather", [table, "types"], "embeddings/types")
        return self.graph.add("Add", [x, kinds], "embeddings/sum_types")

    def pairs(self, of_queries: OfQueries, name: str) -> Any:
        """What layers are to know of each query and token; here `mask`."""
        return self.mask(self.same_row(of_queries, name), name)

    def same_row(self, of_queries: OfQueries, name: str) -> str:
        """Whether a query and a token are of one row: [blocks, 1, queries, tokens]."""
        graph = self.graph
        q = graph.add("Unsqueeze", [of_queries("segments"), graph.axes(1, 3)], f"{name}/queries")
        k = graph.add("Unsqueeze", ["segments", graph.axes(1, 2)], f"{name}/keys")
        return graph.add("Equal", [q, k], f"{name}/same")

    def mask(self, seen: str, name: str) -> str:
        """0 where `seen`, very negative elsewhere."""
        choice = [seen, self.graph.floats("zero", 0.0), self.graph.floats("masked", _MASKED)]
        return self.graph.add("Where", choice, name)

    def layer(self, layer: Any, name: str, x: str, residual: str, pairs: Any) -> str:
        graph = self.graph
        attended = self.attention(layer, name, x, residual, pairs)
        x = graph.add("Add", [residual, attended], f"{name}/attention_sum")
        x = graph.norm(layer.attention_norm, x, f"{name}.attention_norm")
        y = graph.add("Add", [x, self.ffn(layer, name, x)], f"{name}/ffn_sum")
        return graph.norm(layer.ffn_norm, y, f"{name}.ffn_norm")

    def attention(self, layer: Any, name: str, x: str, queries: str, pairs: Any) -> str:
        graph = self.graph
        if isinstance(layer.output, BiasOnly):
            return graph.constant(f"{name}.output.bias", array(layer.output.bias))
        q, k, v = self._query_key_value(layer, name, x, queries)
        v = self._heads(layer, v, f"{name}/v", (0, 2, 1, 3))
        masked = self.scores(layer, name, q, k, pairs)
        weights = graph.add("Softmax", [masked], f"{name}/attention_weights", axis=-1)
        context = graph.add("MatMul", [weights, v], f"{name}/context")
        context = graph.add("Transpose", [context], f"{name}/context_rows", perm=[0, 2, 1, 3])
        flat = graph.constant(f"flat{layer.heads}", np.array([0, 0, layer.heads * layer.head_dim]))
        context = graph.add("Reshape", [context, flat], f"{name}/context_flat")
        return graph.linear(layer.output, context, f"{name}.output")

    def scores(self, layer: Any, name: str, q: str, k: str, pairs: Any) -> str:
        """Masked scores [blocks, heads, queries, tokens]; `q` holds the scale already."""
        q = self._heads(layer, q, f"{name}/q", (0, 2, 1, 3))
        k = self._heads(layer, k, f"{name}/k", (0, 2, 3, 1))
        scores = self.graph.add("MatMul", [q, k], f"{name}/scores")
        return self.graph.add("Add", [scores, pairs], f"{name}/masked_scores")

    def scale(self, layer: Any) -> float:
        return float(layer.head_dim**-0.5)

    def _query_key_value(self, layer: Any, name: str, x: str, queries: str) -> tuple[str, str, str]:
        """Products that share their input and precision run as one; the scale goes into the
        query's weights."""
        graph, scale = self.graph, self.scale(layer)
        parts = ("query", "key", "value")
        modules = {part: getattr(layer, part) for part in parts}
        same = len({graph.precision[f"{name}.{part}"] for part in parts}) == 1
        if queries != x or not same or any(isinstance(m, Factorized) for m in modules.values()):
            q = graph.linear(modules["query"], queries, f"{name}.query", scale)
            k, v = (graph.linear(modules[part], x, f"{name}.{part}") for part in parts[1:])
            return q, k, v
        scaled = [weights_of(modules[part], scale if part == "query" else 1.0) for part in parts]
        matrix = np.concatenate([w.matrix for w in scaled], axis=1)
        biases = [w.bias for w in scaled if w.bias is not None]
        joint = Weights(matrix, np.concatenate(biases) if biases else None)
        product = graph.product(x, joint, f"{name}.qkv", graph.precision[f"{name}.query"])
        graph.add("Split", [product], f"{name}/split", outputs=3, axis=-1, num_outputs=3)
        return f"{name}/split.0", f"{name}/split.1", f"{name}/split.2"

    def _heads(self, layer: Any, x: str, name: str, perm: tuple[int, ...]) -> str:
        size = np.array([0, 0, layer.heads, layer.head_dim])
        shape = self.graph.constant(f"heads{layer.heads}", size)
        split = self.graph.add("Reshape", [x, shape], f"{name}_split")
        return self.graph.add("Transpose", [split], f"{name}_heads", perm=list(perm))

    def ffn(self, layer: Any, name: str, x: str) -> str:
        graph = self.graph
        if isinstance(layer.down, BiasOnly):
            return graph.constant(f"{name}.down.bias", array(layer.down.bias))
        inner = graph.linear(layer.up, x, f"{name}.up")
        activated = graph.activate(inner, layer.activation, f"{name}/inner")
        return graph.linear(layer.down, activated, f"{name}.down")

    def final(self, x: str) -> str:
        return x

    def head(self, x: str) -> str:
        head = self._module("head")
        if head.dense is not None:
            x = self.graph.linear(head.dense, x, "head.dense")
            x = self.graph.activate(x, self.shape.head_kind, "head/activated")
        return self.graph.linear(head.classifier, x, "head.classifier")

    def _module(self, name: str) -> Any:
        return self.encoder.get_submodule(name)
