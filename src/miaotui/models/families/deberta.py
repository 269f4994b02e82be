"""DeBERTa-v2 and v3: what a score says of two tokens, and of each with the other's distance.

score = q·k + q·K(distance) + Q(distance)·k, all over sqrt(3 head_dim), where K and Q are the key
and query (or linears of their own) of a table of distances; far ones share an entry (He et al.
2021, equations 2 to 4; transformers' modeling_deberta_v2.py).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from miaotui.models.encoder import Dropout, Layer, Parts, attend, linear, same_row
from miaotui.models.families.family import (
    BERT_EMBEDDINGS,
    BERT_FFN,
    HEAD_KINDS,
    Family,
)
from miaotui.models.shape import EncoderShape, HeadKind, LayerShape


class Distances(NamedTuple):
    """Of each query and token, whether they are of one row, and where their distance stands in the
    table; the table itself."""

    mask: Bool[Tensor, "blocks 1 queries tokens"]
    entry: Int[Tensor, "blocks queries tokens"]
    table: Float[Tensor, "entries hidden"]


class DistanceTable(nn.Module):
    """Embeddings of distances, normalized where the model says so."""

    entry: Tensor

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        own = shape.own
        self.farthest = shape.max_tokens - 1
        distances = torch.arange(-self.farthest, self.farthest + 1)
        entry = entry_of(distances, int(own["buckets"]), int(own["distances"]))
        self.register_buffer("entry", entry, persistent=False)
        self.table = nn.Embedding(2 * (int(own["buckets"]) or int(own["distances"])), shape.hidden)
        norm = nn.LayerNorm(shape.hidden, eps=shape.norm_eps) if own["norm"] else nn.Identity()
        self.norm = norm
        self.dropout = Dropout(shape.dropout)

    def forward(
        self, queries: Tensor, positions: Tensor, query_segments: Tensor, segments: Tensor
    ) -> Distances:
        distance = queries[:, :, None] - positions[:, None, :]
        entry = self.entry[distance + self.farthest]
        return Distances(same_row(query_segments, segments), entry, self.whole_table())

    def whole_table(self) -> Float[Tensor, "entries hidden"]:
        return self.dropout(self.norm(self.table.weight))  # type: ignore[no-any-return]


def entry_of(distance: Int[Tensor, "*n"], buckets: int, farthest: int) -> Int[Tensor, "*n"]:
    """Where distances stand in a table of 2 * `buckets` (2 * `farthest` without any): half of the
    buckets have one distance each, the others grow by its logarithm."""
    if not buckets:
        return (distance + farthest).clamp(0, 2 * farthest - 1)
    exact = buckets // 2
    far = distance.abs().clamp_min(exact).float()
    grown = torch.log(far / exact) / math.log((farthest - 1) / exact) * (exact - 1)
    wide = (grown.ceil().long() + exact) * distance.sign()
    near = torch.where(distance.abs() <= exact, distance, wide)
    return (near + buckets).clamp(0, 2 * buckets - 1)


class TableEmbeddings(nn.Module):
    """Words and, where the model has them, positions and types; normalized."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocab, shape.hidden)
        placed = shape.own["positions"]
        self.positions = nn.Embedding(shape.positions, shape.hidden) if placed else None
        self.types = nn.Embedding(shape.types, shape.hidden) if shape.types else None
        self.norm = nn.LayerNorm(shape.hidden, eps=shape.norm_eps)
        self.dropout = Dropout(shape.dropout)

    def forward(self, ids: Tensor, positions: Tensor, types: Tensor | None) -> Tensor:
        x = self.words(ids)
        if self.positions is not None:
            x = x + self.positions(positions)
        if self.types is not None:
            alone = types is None or self.types.num_embeddings == 1
            x = x + (self.types.weight[0] if alone else self.types(types))
        return self.dropout(self.norm(x))  # type: ignore[no-any-return]


class DisentangledLayer(Layer):
    """A plain layer with scores of its own."""

    def __init__(self, shape: EncoderShape, layer: LayerShape) -> None:
        super().__init__(shape, layer)
        own, inner, rank = shape.own, layer.heads * shape.head_dim, layer.ranks.get
        self.to_positions, self.from_positions = own["to_positions"], own["from_positions"]
        parts = 1 + bool(self.to_positions) + bool(self.from_positions)
        self.scale = (parts * shape.head_dim) ** -0.5
        self.shared = bool(own["shared"])
        if layer.heads and not self.shared:
            if self.to_positions:
                self.position_key = linear(shape.hidden, inner, rank("position_key"))
            if self.from_positions:
                self.position_query = linear(shape.hidden, inner, rank("position_query"))

    def cuts(self, heads: Tensor, neurons: Tensor) -> dict[str, tuple[Tensor, int]]:
        cuts = super().cuts(heads, neurons)
        own = {f"position_{n}": cuts[n] for n in _of_positions(cuts)}
        return cuts | own

    def _context(self, q: Tensor, k: Tensor, v: Tensor, pairs: Distances) -> Tensor:
        masked = self._bias(q, k, pairs).masked_fill(~pairs.mask, torch.finfo(q.dtype).min)
        return attend(q, k, v, masked, self.dropout, self.scale)

    def _bias(self, q: Tensor, k: Tensor, pairs: Distances) -> Tensor:
        entry = pairs.entry[:, None].expand(-1, self.heads, -1, -1)
        keys, queries = self.of_table(pairs.table)
        bias = q.new_zeros(())
        if keys is not None:
            bias = bias + (q @ keys.transpose(-1, -2)).gather(3, entry)
        if queries is not None:
            bias = bias + (queries @ k.transpose(-1, -2)).gather(2, entry)
        scaled: Tensor = bias * self.scale
        return scaled

    def of_table(self, table: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Keys and queries of the distances [1, heads, entries, head_dim], those that are used."""
        keys = queries = None
        if self.to_positions:
            keys = self._split((self.key if self.shared else self.position_key)(table[None]))
        if self.from_positions:
            project = self.query if self.shared else self.position_query
            queries = self._split(project(table[None]))
        return keys, queries


def _of_positions(cuts: dict[str, tuple[Tensor, int]]) -> list[str]:
    return [name for name in cuts if name.startswith(("key.", "query."))]


@dataclass(frozen=True)
class _Deberta(Family):
    """Without a convolution, and with distances, as all of v3 are."""

    def fits(self, config: Any) -> bool:
        kinds = set(getattr(config, "pos_att_type", None) or ())
        return (
            super().fits(config)
            and bool(config.relative_attention)
            and bool(kinds)
            and not getattr(config, "conv_kernel_size", 0)
            and getattr(config, "embedding_size", config.hidden_size) == config.hidden_size
            and getattr(config, "attention_head_size", None) is None
            and config.pooler_hidden_act in HEAD_KINDS
            and config.pooler_hidden_size == config.hidden_size
        )

    def shape(self, config: Any, reads_tokens: bool = False) -> EncoderShape:
        shape = super().shape(config, reads_tokens)
        distances = config.max_relative_positions
        own: dict[str, bool | int | float | str] = {
            "buckets": max(0, getattr(config, "position_buckets", -1)),
            "distances": distances if distances > 0 else config.max_position_embeddings,
            "norm": "layer_norm" in getattr(config, "norm_rel_ebd", "none").lower(),
            "shared": bool(getattr(config, "share_att_key", False)),
            "positions": bool(config.position_biased_input),
            "to_positions": "c2p" in config.pos_att_type,
            "from_positions": "p2c" in config.pos_att_type,
        }
        kind = HeadKind.LINEAR if reads_tokens else HEAD_KINDS[config.pooler_hidden_act]
        return replace(shape, head_kind=kind, own=own)


DEBERTA = _Deberta(
    name="deberta-v2",
    model_types=("deberta-v2",),
    prefix="deberta",
    layers_prefix="encoder.layer",
    layer_names=BERT_FFN
    | {
        "attention.self.query_proj": "query",
        "attention.self.key_proj": "key",
        "attention.self.value_proj": "value",
        "attention.self.pos_key_proj": "position_key",
        "attention.self.pos_query_proj": "position_query",
        "attention.output.dense": "output",
        "attention.output.LayerNorm": "attention_norm",
    },
    other_names=BERT_EMBEDDINGS
    | {
        "encoder.rel_embeddings": "pairs.table",
        "encoder.LayerNorm": "pairs.norm",
        "pooler.dense": "head.dense",
        "classifier": "head.classifier",
    },
    head_kind=HeadKind.GELU,
    parts=Parts(
        embeddings=TableEmbeddings,
        layer=DisentangledLayer,
        pairs=DistanceTable,
        apart="disentangled attention",
    ),
)
