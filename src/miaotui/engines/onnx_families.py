"""Lowers the parts in which families differ from a plain encoder."""

from typing import Any, NamedTuple

import numpy as np
import torch

from miaotui.engines.onnx_layers import OfQueries, PlainParts
from miaotui.engines.onnx_nodes import Graph, array
from miaotui.errors import EngineUnavailable
from miaotui.models.encoder import Encoder, SameRow
from miaotui.models.families.deberta import DistanceTable
from miaotui.models.families.modernbert import Rotary
from miaotui.models.families.mpnet import DistanceBuckets


class _Distances(PlainParts):
    """A distance counts from 0 for the farthest that a token can stand on one side."""

    tokens_first = True
    """Whether it is a token's position less a query's, or the other way round."""

    def distance(self, of_queries: OfQueries, name: str) -> str:
        """[blocks, queries, tokens]."""
        graph = self.graph
        q = graph.add("Unsqueeze", [of_queries("positions"), graph.axes(2)], f"{name}/q_places")
        k = graph.add("Unsqueeze", ["positions", graph.axes(1)], f"{name}/k_places")
        parts = [k, q] if self.tokens_first else [q, k]
        farthest = graph.constant("farthest", np.array(self.shape.max_tokens - 1))
        distance = graph.add("Sub", parts, f"{name}/distance")
        return graph.add("Add", [distance, farthest], f"{name}/from_farthest")


class _MaskAndPairs(NamedTuple):
    mask: str
    pairs: str


class BucketParts(_Distances):
    """MPNet: a bias by distance for each head."""

    def pairs(self, of_queries: OfQueries, name: str) -> _MaskAndPairs:
        mask = super().pairs(of_queries, name)
        return _MaskAndPairs(mask, self.distance(of_queries, name))

    def scores(self, layer: Any, name: str, q: str, k: str, pairs: _MaskAndPairs) -> str:
        masked = super().scores(layer, name, q, k, pairs.mask)
        bucket = self.encoder.get_buffer("pairs.bucket")
        table = np.ascontiguousarray(array(layer.distances.weight[bucket]).T)
        biases = self.graph.constant(f"{name}.biases", table)  # [heads, distances]
        bias = self.graph.add("Gather", [biases, pairs.pairs], f"{name}/bias_of_heads", axis=1)
        bias = self.graph.add("Transpose", [bias], f"{name}/bias", perm=[1, 0, 2, 3])
        return self.graph.add("Add", [masked, bias], f"{name}/biased_scores")


class DisentangledParts(_Distances):
    """DeBERTa: what the table of distances becomes as keys and queries is known beforehand."""

    tokens_first = False

    def embeddings(self) -> str:
        graph, parts = self.graph, self._module("embeddings")
        words = graph.constant("embeddings.words.weight", array(parts.words.weight))
        x = graph.add("Gather", [words, "ids"], "embeddings/words")
        if parts.positions is not None:
            table = graph.constant("embeddings.positions.weight", array(parts.positions.weight))
            places = graph.add("Gather", [table, "positions"], "embeddings/positions")
            x = graph.add("Add", [x, places], "embeddings/sum")
        if self.shape.types == 1:
            only = graph.constant("embeddings.types.weight", array(parts.types.weight[0]))
            x = graph.add("Add", [x, only], "embeddings/sum_type")
        return graph.norm(parts.norm, self._types(x), "embeddings.norm")

    def pairs(self, of_queries: OfQueries, name: str) -> _MaskAndPairs:
        graph, mask = self.graph, super().pairs(of_queries, name)
        entries = graph.constant("entries", self.encoder.get_buffer("pairs.entry").numpy())
        entry = graph.add("Gather", [entries, self.distance(of_queries, name)], f"{name}/entry")
        entry = graph.add("Unsqueeze", [entry, graph.axes(1)], f"{name}/entry_of_heads")
        return _MaskAndPairs(mask, entry)

    def scale(self, layer: Any) -> float:
        return float(layer.scale)

    def scores(self, layer: Any, name: str, q: str, k: str, pairs: _MaskAndPairs) -> str:
        graph = self.graph
        masked = super().scores(layer, name, q, k, pairs.mask)
        every = graph.constant(f"each{layer.heads}", np.array([1, layer.heads, 1, 1]))
        entry = graph.add("Expand", [pairs.pairs, every], f"{name}/entries")
        keys, queries = self._of_table(layer)
        if keys is not None:  # [1, heads, head_dim, entries]
            known = graph.constant(f"{name}.position_keys", np.swapaxes(keys, 2, 3))
            scores = graph.add("MatMul", [f"{name}/q_heads", known], f"{name}/to_positions")
            scores = graph.add("GatherElements", [scores, entry], f"{name}/to_distance", axis=3)
            masked = graph.add("Add", [masked, scores], f"{name}/with_to_distance")
        if queries is not None:  # [1, heads, entries, head_dim]
            known = graph.constant(f"{name}.position_queries", queries * np.float32(layer.scale))
            scores = graph.add("MatMul", [known, f"{name}/k_heads"], f"{name}/from_positions")
            scores = graph.add("GatherElements", [scores, entry], f"{name}/from_distance", axis=2)
            masked = graph.add("Add", [masked, scores], f"{name}/with_from_distance")
        return masked

    def _of_table(self, layer: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Keys and queries of the table, [1, heads, entries, head_dim], where scores use them."""
        with torch.no_grad():
            keys, queries = layer.of_table(self._module("pairs").whole_table())
        return tuple(None if t is None else array(t) for t in (keys, queries))  # type: ignore[return-value]


class _Turned(NamedTuple):
    """Masks and turns by whether a layer is local: cosine and sine of queries, of tokens."""

    masks: dict[bool, str]
    turns: dict[bool, tuple[tuple[str, str], tuple[str, str]]]


class RotaryParts(PlainParts):
    """ModernBERT: norms ahead, turned queries and keys, a window in local layers, gates."""

    def embeddings(self) -> str:
        graph, parts = self.graph, self._module("embeddings")
        words = graph.constant("embeddings.words.weight", array(parts.words.weight))
        x = graph.add("Gather", [words, "ids"], "embeddings/words")
        return graph.norm(parts.norm, x, "embeddings.norm")

    def pairs(self, of_queries: OfQueries, name: str) -> _Turned:
        graph, rotary = self.graph, self._module("pairs")
        same = self.same_row(of_queries, name)
        places = of_queries("positions")
        q = graph.add("Unsqueeze", [places, graph.axes(1, 3)], f"{name}/q_places")
        k = graph.add("Unsqueeze", ["positions", graph.axes(1, 2)], f"{name}/k_places")
        distance = graph.add("Sub", [q, k], f"{name}/distance")
        distance = graph.add("Abs", [distance], f"{name}/far")
        window = graph.constant("window", np.array(rotary.window))
        within = graph.add("LessOrEqual", [distance, window], f"{name}/within")
        near = graph.add("And", [same, within], f"{name}/near")
        masks = {False: self.mask(same, f"{name}/mask"), True: self.mask(near, f"{name}/window")}
        turns = {
            local: (self._turn(places, local, f"{name}/q"), self._turn("positions", local, name))
            for local in (False, True)
        }
        return _Turned(masks, turns)

    def _turn(self, positions: str, local: bool, name: str) -> tuple[str, str]:
        """From tables: in bf16 the angles themselves would be far off."""
        graph, which = self.graph, "local" if local else "everywhere"
        frequencies = self.encoder.get_buffer(f"pairs.{which}")
        angles = torch.arange(self.shape.positions)[:, None].float() * frequencies
        turns = []
        cos, sin = angles.cos().repeat(1, 2), torch.cat([angles.sin(), -angles.sin()], dim=1)
        for part, table in (("cos", cos), ("sin", sin)):
            known = graph.constant(f"{which}.{part}", array(table))
            turn = graph.add("Gather", [known, positions], f"{name}/{which}/{part}")
            turns.append(graph.add("Unsqueeze", [turn, graph.axes(1)], f"{turn}_of_heads"))
        return turns[0], turns[1]

    def layer(self, layer: Any, name: str, x: str, residual: str, pairs: _Turned) -> str:
        graph = self.graph
        normed = self._ahead(layer, x, f"{name}.attention_norm")
        queries = normed
        if residual != x:
            queries = self._ahead(layer, residual, f"{name}.attention_norm", "/queries")
        attended = self.attention(layer, name, normed, queries, pairs)
        x = graph.add("Add", [residual, attended], f"{name}/attention_sum")
        normed = graph.norm(layer.ffn_norm, x, f"{name}.ffn_norm")
        return graph.add("Add", [x, self.ffn(layer, name, normed)], f"{name}/ffn_sum")

    def _ahead(self, layer: Any, x: str, name: str, of: str = "") -> str:
        norm = layer.attention_norm
        return x if not hasattr(norm, "eps") else self.graph.norm(norm, x, f"{name}{of}")

    def scores(self, layer: Any, name: str, q: str, k: str, pairs: _Turned) -> str:
        graph, (of_queries, of_tokens) = self.graph, pairs.turns[layer.local]
        q = self._heads(layer, q, f"{name}/q", (0, 2, 1, 3))
        k = self._heads(layer, k, f"{name}/k", (0, 2, 1, 3))
        q, k = self._turned(q, of_queries), self._turned(k, of_tokens)
        k = graph.add("Transpose", [k], f"{name}/k_columns", perm=[0, 1, 3, 2])
        scores = graph.add("MatMul", [q, k], f"{name}/scores")
        return graph.add("Add", [scores, pairs.masks[layer.local]], f"{name}/masked_scores")

    def _turned(self, x: str, turn: tuple[str, str]) -> str:
        """By a gather and a difference: OpenVINO takes a split, or a sum, for rotary positions that
        are the same in all blocks."""
        graph, (cos, sin) = self.graph, turn
        order = np.roll(np.arange(self.shape.head_dim), self.shape.head_dim // 2)
        swap = graph.constant("swap_halves", order)
        swapped = graph.add("Gather", [x, swap], f"{x}/swapped", axis=3)
        kept = graph.add("Mul", [x, cos], f"{x}/times_cos")
        moved = graph.add("Mul", [swapped, sin], f"{x}/times_sin")
        return graph.add("Sub", [kept, moved], f"{x}/turned")

    def ffn(self, layer: Any, name: str, x: str) -> str:
        graph = self.graph
        if not layer.ffn:
            return super().ffn(layer, name, x)
        inner = graph.linear(layer.up, x, f"{name}.up")
        inner = graph.activate(inner, layer.activation, f"{name}/inner")
        gate = graph.linear(layer.gate, x, f"{name}.gate")
        gated = graph.add("Mul", [inner, gate], f"{name}/gated")
        return graph.linear(layer.down, gated, f"{name}.down")

    def final(self, x: str) -> str:
        return self.graph.norm(self._module("final"), x, "final")

    def head(self, x: str) -> str:
        graph, head = self.graph, self._module("head")
        x = graph.linear(head.dense, x, "head.dense")
        x = graph.activate(x, self.shape.head_kind, "head/activated")
        x = graph.norm(head.norm, x, "head.norm")
        return graph.linear(head.classifier, x, "head.classifier")


_PARTS: dict[type, type[PlainParts]] = {
    SameRow: PlainParts,
    DistanceBuckets: BucketParts,
    DistanceTable: DisentangledParts,
    Rotary: RotaryParts,
}
"""By what layers know of pairs of tokens."""


def parts_of(graph: Graph, encoder: Encoder) -> PlainParts:
    """What lowers the parts of this encoder; a family that has none is refused by name."""
    parts = _PARTS.get(type(encoder.pairs))
    if parts is None:
        raise EngineUnavailable(
            f"{encoder.shape.family} has {encoder.parts.apart}, which cannot be written as ONNX; "
            "use torch"
        )
    return parts(graph, encoder)
