"""ModernBERT: rotary positions, local attention in most layers, gated neurons, norms ahead.

No linear but the classifier has a bias, and no norm. `output` and `down` have one here that is
never trained: what a correction after pruning changes. Source: Warner et al. 2024; names and the
order of halves from transformers' modeling_modernbert.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from miaotui.models.encoder import (
    HEAD_ACTIVATIONS,
    Dropout,
    Encoder,
    Layer,
    Parts,
    attend,
    linear,
    same_row,
)
from miaotui.models.families.family import ACTIVATIONS, HEAD_KINDS, Family
from miaotui.models.shape import EncoderShape, HeadKind, LayerShape, Readout

LOCAL, UNNORMED = "local", "unnormed"
_FUSED = {"attn.Wqkv": ("query", "key", "value"), "mlp.Wi": ("up", "gate")}
_UNBIASED = ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias")


class Turns(NamedTuple):
    """Cosine and sine of the angles that queries and keys are turned by: [blocks, 1, n, half]."""

    queries: tuple[Tensor, Tensor]
    keys: tuple[Tensor, Tensor]


class Turned(NamedTuple):
    """Of each query and token, whether they are of one row, and near as well; turns of global and
    of local layers."""

    mask: Bool[Tensor, "blocks 1 queries tokens"]
    near: Bool[Tensor, "blocks 1 queries tokens"]
    everywhere: Turns
    local: Turns


class Rotary(nn.Module):
    """Angles by position (Su et al. 2021), and which tokens are within the window."""

    everywhere: Tensor
    local: Tensor

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.window = int(shape.own["window"])
        powers = torch.arange(0, shape.head_dim, 2, dtype=torch.float) / shape.head_dim
        for name in ("everywhere", "local"):
            frequencies = 1.0 / float(shape.own[f"theta_{name}"]) ** powers
            self.register_buffer(name, frequencies, persistent=False)

    def forward(
        self, queries: Tensor, positions: Tensor, query_segments: Tensor, segments: Tensor
    ) -> Turned:
        mask = same_row(query_segments, segments)
        distance = queries[:, None, :, None] - positions[:, None, None, :]
        near = mask & (distance.abs() <= self.window)
        everywhere, local = (
            Turns(_turn(queries, frequencies), _turn(positions, frequencies))
            for frequencies in (self.everywhere, self.local)
        )
        return Turned(mask, near, everywhere, local)


def _turn(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    angles = positions[:, None, :, None].to(frequencies.dtype) * frequencies
    return angles.cos(), angles.sin()


def turned(x: Float[Tensor, "blocks heads n head_dim"], turn: tuple[Tensor, Tensor]) -> Tensor:
    """Each pair of values, one of either half, turned by its angle."""
    (cos, sin), (a, b) = turn, x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class WordEmbeddings(nn.Module):
    """Words alone, normalized."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocab, shape.hidden)
        self.norm = _norm(shape)
        self.dropout = Dropout(shape.dropout)

    def forward(self, ids: Tensor, positions: Tensor, types: Tensor | None) -> Tensor:
        return self.dropout(self.norm(self.words(ids)))  # type: ignore[no-any-return]


class GatedLayer(Layer):
    """Norms come ahead of attention and of the feed-forward network, in which one half of the
    neurons gates the other. The first layer has no norm ahead of attention."""

    biased = False

    def __init__(self, shape: EncoderShape, layer: LayerShape) -> None:
        super().__init__(shape, layer)
        if UNNORMED in layer.traits:
            self.attention_norm = nn.Identity()  # type: ignore[assignment]
        else:
            self.attention_norm = _norm(shape)
        self.ffn_norm = _norm(shape)
        self.local = LOCAL in layer.traits
        if layer.ffn:
            self.gate = linear(shape.hidden, layer.ffn, layer.ranks.get("gate"), bias=False)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
                parameter.requires_grad_(False)

    def cuts(self, heads: Tensor, neurons: Tensor) -> dict[str, tuple[Tensor, int]]:
        return super().cuts(heads, neurons) | {"gate.weight": (neurons, 0)}

    def forward(self, x: Tensor, residual: Tensor, pairs: Turned) -> Tensor:
        normed = self.attention_norm(x)
        queries = normed if residual is x else self.attention_norm(residual)
        x = residual + self.dropout(self._attention(normed, queries, pairs))
        fed: Tensor = self.dropout(self._ffn(self.ffn_norm(x)))
        return x + fed

    def _context(self, q: Tensor, k: Tensor, v: Tensor, pairs: Turned) -> Tensor:
        turns = pairs.local if self.local else pairs.everywhere
        q, k = turned(q, turns.queries), turned(k, turns.keys)
        return attend(q, k, v, pairs.near if self.local else pairs.mask, self.dropout)

    def _ffn(self, x: Tensor) -> Tensor:
        if not self.ffn:
            return self.down.bias  # type: ignore[return-value]
        return self.down(self.activate(self.up(x)) * self.gate(x))  # type: ignore[no-any-return]


class NormedHead(nn.Module):
    """Dense layer, nonlinearity, norm and output layer, for rows and for tokens."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.dense = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.activation = HEAD_ACTIVATIONS[shape.head_kind]
        self.norm = _norm(shape)
        self.dropout = Dropout(shape.dropout)
        self.classifier = nn.Linear(shape.hidden, shape.labels)

    def forward(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch labels"]:
        x = self.norm(self.activation(self.dense(x)))
        return self.classifier(self.dropout(x))  # type: ignore[no-any-return]


def _norm(shape: EncoderShape) -> nn.LayerNorm:
    return nn.LayerNorm(shape.hidden, eps=shape.norm_eps, bias=False)


@dataclass(frozen=True)
class _ModernBert(Family):
    """Stores query, key and value as one matrix, and the neurons with their gates."""

    def fits(self, config: Any) -> bool:
        turns = [config.rope_parameters.get(kind) or {} for kind in _KINDS]
        return (
            config.hidden_activation in ACTIVATIONS
            and config.classifier_activation in HEAD_KINDS
            and not any(getattr(config, name) for name in _UNBIASED)
            and all(turn.get("rope_type") == "default" for turn in turns)
        )

    def shape(self, config: Any, reads_tokens: bool = False) -> EncoderShape:
        mean = config.classifier_pooling == "mean"
        rows = Readout.MEAN if mean else Readout.FIRST
        everywhere, local = (config.rope_parameters[kind]["rope_theta"] for kind in _KINDS)
        layer = LayerShape(config.num_attention_heads, config.intermediate_size)
        return EncoderShape(
            family=self.name,
            vocab=config.vocab_size,
            embedding=config.hidden_size,
            hidden=config.hidden_size,
            head_dim=config.hidden_size // config.num_attention_heads,
            positions=config.max_position_embeddings,
            position_offset=0,
            types=0,
            layers=tuple(replace(layer, traits=t) for t in _traits(config.layer_types)),
            activation=ACTIVATIONS[config.hidden_activation],
            norm_eps=config.norm_eps,
            head_kind=HEAD_KINDS[config.classifier_activation],
            labels=config.num_labels,
            dropout=float(config.mlp_dropout),
            readout=Readout.TOKENS if reads_tokens else rows,
            own={
                "window": config.local_attention // 2,
                "theta_everywhere": float(everywhere),
                "theta_local": float(local),
            },
        )

    def weights(self, state: Mapping[str, Tensor], shape: EncoderShape) -> dict[str, Tensor]:
        weights = {}
        for name, tensor in state.items():
            parts = self._parts(name)
            for part, piece in zip(parts, tensor.chunk(len(parts)), strict=True):
                weights[part] = piece
        for i in range(len(shape.layers)):
            for part in ("output", "down"):
                weights[f"layers.{i}.{part}.bias"] = torch.zeros(shape.hidden)
        return weights

    def restored(self, encoder: Encoder, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        trained = encoder.state_dict()
        return {name: torch.cat([trained[p] for p in self._parts(name)]) for name in state}

    def _parts(self, name: str) -> tuple[str, ...]:
        """The encoder's weights that stand one below the other in one of transformers'."""
        for fused, parts in _FUSED.items():
            before, separator, after = name.partition(f".{fused}.")
            if separator:
                before = before.removeprefix(f"{self.prefix}.")
                return tuple(f"{before}.{part}.{after}" for part in parts)
        return (self.rename(name),)


_KINDS = ("full_attention", "sliding_attention")


def _traits(kinds: list[str]) -> list[tuple[str, ...]]:
    local = [(LOCAL,) if kind == "sliding_attention" else () for kind in kinds]
    return [(UNNORMED, *traits) if i == 0 else traits for i, traits in enumerate(local)]


MODERNBERT = _ModernBert(
    name="modernbert",
    model_types=("modernbert",),
    prefix="model",
    layers_prefix="layers",
    layer_names={
        "attn_norm": "attention_norm",
        "attn.Wo": "output",
        "mlp_norm": "ffn_norm",
        "mlp.Wo": "down",
    },
    other_names={
        "embeddings.tok_embeddings": "embeddings.words",
        "embeddings.norm": "embeddings.norm",
        "final_norm": "final",
        "head.dense": "head.dense",
        "head.norm": "head.norm",
        "classifier": "head.classifier",
    },
    head_kind=HeadKind.GELU,
    parts=Parts(
        embeddings=WordEmbeddings,
        layer=GatedLayer,
        pairs=Rotary,
        final=_norm,
        head=NormedHead,
        apart="rotary positions and gated neurons",
        rotary=True,
    ),
)
