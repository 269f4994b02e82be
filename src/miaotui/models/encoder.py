"""One encoder for every family with an adapter: free shapes, packed rows, readout-only last layer.

A padded batch is a packed one: each block of tokens holds rows told apart by their segment number,
positions restart for each row, and only tokens of equal segment attend to each other. Padding is
segment 0. The last layer computes queries and everything after them only for the tokens that are
read out, which is exact and saves most of a layer.

A family whose structure is another gives `Parts` of its own: its embeddings, its layer, what a
layer is to know of each pair of tokens, its head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from miaotui.models.shape import Activation, EncoderShape, HeadKind, LayerShape, Readout

QUICK_GELU_SLOPE = 1.702
"""Of the sigmoid that stands in for the normal distribution (Hendrycks and Gimpel 2016)."""
ATTENTION_LINEARS = ("query", "key", "value", "output")
FFN_LINEARS = ("up", "down")


class Factorized(nn.Module):
    """Two linears in place of one: x -> second(first(x)), the first without a bias."""

    def __init__(self, in_features: int, rank: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(in_features, rank, bias=False)
        self.second = nn.Linear(rank, out_features, bias=bias)

    def forward(
        self, x: Float[Tensor, "*batch in_features"]
    ) -> Float[Tensor, "*batch out_features"]:
        return self.second(self.first(x))  # type: ignore[no-any-return]


class BiasOnly(nn.Module):
    """What is left of an output projection whose inputs were all removed."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))


class Dropout(nn.Dropout):
    """A byte is drawn for each value, so that the probability is rounded to a 256th. A number for
    each took a third of fine-tuning on long rows on a CPU."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (as the class above names it)
        dropped = min(round(256 * self.p), 255)
        if not self.training or not dropped:
            return input
        draws = torch.empty(-(-input.numel() // 8), dtype=torch.int64, device=input.device)
        draws.random_(torch.iinfo(draws.dtype).min, None)  # all 64 bits
        drawn = draws.view(torch.uint8)[: input.numel()]
        kept = (drawn.view(input.shape) >= dropped).to(input.dtype)
        return input * kept.mul_(256 / (256 - dropped))


def linear(
    in_features: int, out_features: int, rank: int | None = None, bias: bool = True
) -> nn.Module:
    """One linear, or two where a rank is given."""
    if rank is not None:
        return Factorized(in_features, rank, out_features, bias)
    return nn.Linear(in_features, out_features, bias=bias)


class Embeddings(nn.Module):
    """Word, position and (where the family has them) type embeddings, normalized."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocab, shape.embedding)
        self.positions = nn.Embedding(shape.positions, shape.embedding)
        self.types = nn.Embedding(shape.types, shape.embedding) if shape.types else None
        self.norm = nn.LayerNorm(shape.embedding, eps=shape.norm_eps)
        self.projection = (
            nn.Linear(shape.embedding, shape.hidden) if shape.embedding != shape.hidden else None
        )
        self.dropout = Dropout(shape.dropout)

    def forward(
        self,
        ids: Int[Tensor, "blocks tokens"],
        positions: Int[Tensor, "blocks tokens"],
        types: Int[Tensor, "blocks tokens"] | None,
    ) -> Float[Tensor, "blocks tokens hidden"]:
        x = self.words(ids) + self.positions(positions)
        if self.types is not None:
            alone = types is None or self.types.num_embeddings == 1
            x = x + (self.types.weight[0] if alone else self.types(types))
        x = self.dropout(self.norm(x))
        return x if self.projection is None else self.projection(x)  # type: ignore[no-any-return]


class SameRow(nn.Module):
    """What a layer is to know of each pair of tokens: whether they are of one row."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()

    def forward(
        self,
        queries: Int[Tensor, "blocks queries"],
        positions: Int[Tensor, "blocks tokens"],
        query_segments: Int[Tensor, "blocks queries"],
        segments: Int[Tensor, "blocks tokens"],
    ) -> Any:
        """`queries` are the positions of those that attend, `positions` of those attended to."""
        return same_row(query_segments, segments)


class Layer(nn.Module):
    """Self-attention and feed-forward network of one layer, each followed by its LayerNorm."""

    biased = True
    """Whether the linears ahead of the attention and of the activation have biases."""

    def __init__(self, shape: EncoderShape, layer: LayerShape) -> None:
        super().__init__()
        self.heads, self.head_dim = layer.heads, shape.head_dim
        inner, hidden, rank = layer.heads * shape.head_dim, shape.hidden, layer.ranks.get
        if layer.heads:
            self.query = linear(hidden, inner, rank("query"), self.biased)
            self.key = linear(hidden, inner, rank("key"), self.biased)
            self.value = linear(hidden, inner, rank("value"), self.biased)
            self.output = linear(inner, hidden, rank("output"))
        else:
            self.output = BiasOnly(hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=shape.norm_eps)
        self.ffn = layer.ffn
        if layer.ffn:
            self.up = linear(hidden, layer.ffn, rank("up"), self.biased)
            self.down = linear(layer.ffn, hidden, rank("down"))
        else:
            self.down = BiasOnly(hidden)
        self.ffn_norm = nn.LayerNorm(hidden, eps=shape.norm_eps)
        self.activation = shape.activation
        self.activate = _ACTIVATIONS[shape.activation]
        self.dropout = Dropout(shape.dropout)

    def forward(
        self,
        x: Float[Tensor, "blocks tokens hidden"],
        residual: Float[Tensor, "blocks queries hidden"],
        pairs: Any,
    ) -> Float[Tensor, "blocks queries hidden"]:
        """`residual` holds the tokens to go on with: all of `x`, or those read out of it. `pairs`
        is what the family's `Parts.pairs` gave: here a mask [blocks, 1, queries, tokens]."""
        x = self.attention_norm(residual + self.dropout(self._attention(x, residual, pairs)))
        return self.ffn_norm(x + self.dropout(self._ffn(x)))  # type: ignore[no-any-return]

    def cuts(self, heads: Tensor, neurons: Tensor) -> dict[str, tuple[Tensor, int]]:
        """Of each parameter that heads or neurons have a share in, which indices these are and
        along which axis."""
        inner = (heads[:, None] * self.head_dim + torch.arange(self.head_dim)).flatten()
        rows = {"query": inner, "key": inner, "value": inner, "up": neurons}
        cuts = {f"{n}.{part}": (r, 0) for n, r in rows.items() for part in ("weight", "bias")}
        return cuts | {"output.weight": (inner, 1), "down.weight": (neurons, 1)}

    def _attention(self, x: Tensor, queries: Tensor, pairs: Any) -> Tensor:
        if not self.heads:
            return self.output.bias  # type: ignore[return-value]
        q, k, v = (
            self._split(self.query(queries)),
            self._split(self.key(x)),
            self._split(self.value(x)),
        )
        context = self._context(q, k, v, pairs)
        return self.output(context.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _context(self, q: Tensor, k: Tensor, v: Tensor, pairs: Any) -> Tensor:
        """What each query gathers, by head: [blocks, heads, queries, head_dim]."""
        return attend(q, k, v, pairs, self.dropout)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, self.head_dim).transpose(1, 2)

    def _ffn(self, x: Tensor) -> Tensor:
        if not self.ffn:
            return self.down.bias  # type: ignore[return-value]
        return self.down(self.activate(self.up(x)))  # type: ignore[no-any-return]


class Head(nn.Module):
    """Dense layer and nonlinearity, where the head has them, and output layer, over each state that
    is read out."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        linear = shape.head_kind is HeadKind.LINEAR
        self.dense = None if linear else nn.Linear(shape.hidden, shape.hidden)
        self.classifier = nn.Linear(shape.hidden, shape.labels)
        self.activation = HEAD_ACTIVATIONS[shape.head_kind]
        self.dropout = Dropout(shape.dropout)

    def forward(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch labels"]:
        if self.dense is not None:
            x = self.activation(self.dense(x))
        return self.classifier(self.dropout(x))  # type: ignore[no-any-return]


def _nothing(shape: EncoderShape) -> nn.Module:
    return nn.Identity()


@dataclass(frozen=True)
class Parts:
    """What an encoder is built of. `final` comes after the last layer.

    `apart` says in a word or two what no kernel for plain encoders computes; empty of `PLAIN`.
    `rotary`: queries and keys are turned by their positions.
    """

    embeddings: Callable[[EncoderShape], nn.Module] = Embeddings
    layer: Callable[[EncoderShape, LayerShape], nn.Module] = Layer
    pairs: Callable[[EncoderShape], nn.Module] = SameRow
    final: Callable[[EncoderShape], nn.Module] = _nothing
    head: Callable[[EncoderShape], nn.Module] = Head
    apart: str = ""
    rotary: bool = False


PLAIN = Parts()


class Encoder(nn.Module):
    """An encoder of any `EncoderShape`; see the module's docstring for what its inputs mean."""

    def __init__(self, shape: EncoderShape, parts: Parts = PLAIN) -> None:
        super().__init__()
        self.shape = shape
        self.parts = parts
        self.embeddings = parts.embeddings(shape)
        self.pairs = parts.pairs(shape)
        self.layers = nn.ModuleList(parts.layer(shape, layer) for layer in shape.layers)
        self.final = parts.final(shape)
        self.head = nn.Identity() if shape.head_kind is HeadKind.NONE else parts.head(shape)

    def blank(self, shape: EncoderShape) -> "Encoder":
        """One of the same family and that shape, to fill; the caller's random state is left as it
        was."""
        with torch.random.fork_rng(devices=[]):
            return Encoder(shape, self.parts)

    def forward(
        self,
        ids: Int[Tensor, "blocks tokens"],
        positions: Int[Tensor, "blocks tokens"],
        segments: Int[Tensor, "blocks tokens"],
        types: Int[Tensor, "blocks tokens"] | None,
        readout: Int[Tensor, "blocks readouts"],
    ) -> Float[Tensor, "blocks readouts labels"]:
        """`positions` count from 0 in each row; `readout` indexes tokens within their block."""
        return self.head(self.states(ids, positions, segments, types, readout)[-1])  # type: ignore[no-any-return]

    def states(
        self,
        ids: Int[Tensor, "blocks tokens"],
        positions: Int[Tensor, "blocks tokens"],
        segments: Int[Tensor, "blocks tokens"],
        types: Int[Tensor, "blocks tokens"] | None,
        readout: Int[Tensor, "blocks readouts"],
    ) -> list[Float[Tensor, "blocks readouts hidden"]]:
        """What is read out of the hidden states after the embeddings and after each layer."""
        x = self.embeddings(ids, positions + self.shape.position_offset, types)
        pairs = self.pairs(positions, positions, segments, segments)
        states = []
        for layer in self.layers[:-1]:
            states.append(self._read(x, segments, readout))
            x = layer(x, x, pairs)
        if not self.layers:
            return [self._read(self.final(x), segments, readout)]
        states.append(self._read(x, segments, readout))
        if self.shape.readout is Readout.MEAN:
            x = self.layers[-1](x, x, pairs)
            return [*states, self._read(self.final(x), segments, readout)]
        queries, rows = positions.gather(1, readout), segments.gather(1, readout)
        pairs = self.pairs(queries, positions, rows, segments)
        return [*states, self.final(self.layers[-1](x, _gather(x, readout), pairs))]

    def _read(self, x: Tensor, segments: Tensor, readout: Tensor) -> Tensor:
        if self.shape.readout is not Readout.MEAN:
            return _gather(x, readout)
        own = (segments.gather(1, readout)[:, :, None] == segments[:, None, :]).to(x.dtype)
        return own @ x / own.sum(dim=2, keepdim=True)


def same_row(
    query_segments: Int[Tensor, "blocks queries"], segments: Int[Tensor, "blocks tokens"]
) -> Bool[Tensor, "blocks 1 queries tokens"]:
    """Whether a query and a token are of one row."""
    return query_segments[:, None, :, None] == segments[:, None, None, :]


def attend(  # noqa: PLR0913
    q: Float[Tensor, "blocks heads queries head_dim"],
    k: Float[Tensor, "blocks heads tokens head_dim"],
    v: Float[Tensor, "blocks heads tokens head_dim"],
    mask: Tensor,
    dropout: Dropout,
    scale: float | None = None,
) -> Float[Tensor, "blocks heads queries head_dim"]:
    """Softmax attention. `mask` [blocks, heads or 1, queries, tokens] says who attends to whom, or
    is added to the scores; `scale` is 1/sqrt(head_dim) where it is not given."""
    if dropout.training and q.device.type == "cpu":
        weights: Tensor = dropout(_attention_weights(q, k, mask, scale))
        return weights @ v
    share = dropout.p if dropout.training else 0.0
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=share, scale=scale)


def _attention_weights(
    q: Float[Tensor, "blocks heads queries head_dim"],
    k: Float[Tensor, "blocks heads tokens head_dim"],
    mask: Tensor,
    scale: float | None,
) -> Float[Tensor, "blocks heads queries tokens"]:
    """For training on CPUs: torch's fused attention with its backward pass takes two to three times
    as long as these products in the precision of `q`, and its plain way, in fp32, five times."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-1, -2)
    if mask.dtype is torch.bool:
        return F.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=-1)
    return F.softmax(scores + mask, dim=-1)


def _gather(x: Tensor, readout: Tensor) -> Tensor:
    return x.gather(1, readout[:, :, None].expand(-1, -1, x.shape[-1]))


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(QUICK_GELU_SLOPE * x)


_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    Activation.GELU: F.gelu,
    Activation.GELU_TANH: _gelu_tanh,
    Activation.QUICK_GELU: _quick_gelu,
    Activation.RELU: F.relu,
}
HEAD_ACTIVATIONS: dict[HeadKind, Callable[[Tensor], Tensor]] = {
    HeadKind.TANH: torch.tanh,
    HeadKind.GELU: F.gelu,
    HeadKind.RELU: F.relu,
    HeadKind.LINEAR: nn.Identity(),
}
