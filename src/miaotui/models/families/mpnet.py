"""MPNet: each head adds a bias to a score by the bucket that the distance of two tokens is in.

transformers keeps one table of biases for all layers; each layer of the encoder has it as its own,
so that its heads can be removed. Buckets: one a distance up to 7, then wider and wider ones up to
128, for either direction (Raffel et al. 2020, section 2.1; transformers' modeling_mpnet.py).
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from miaotui.models.encoder import Layer, Parts, attend, same_row
from miaotui.models.families.family import BERT_EMBEDDINGS, BERT_FFN, ROBERTA_HEAD, Family
from miaotui.models.shape import EncoderShape, HeadKind, LayerShape

_BUCKETS, _FARTHEST = 32, 128
_TABLE = "encoder.relative_attention_bias"


class Buckets(NamedTuple):
    """Of each query and token, whether they are of one row, and their distance's bucket."""

    mask: Bool[Tensor, "blocks 1 queries tokens"]
    bucket: Int[Tensor, "blocks queries tokens"]


class DistanceBuckets(nn.Module):
    """Looks distances up in a table of buckets: [2 * longest row - 1]."""

    bucket: Tensor

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.farthest = shape.max_tokens - 1
        distances = torch.arange(-self.farthest, self.farthest + 1)
        self.register_buffer("bucket", bucket_of(distances), persistent=False)

    def forward(
        self, queries: Tensor, positions: Tensor, query_segments: Tensor, segments: Tensor
    ) -> Buckets:
        distance = positions[:, None, :] - queries[:, :, None]
        return Buckets(same_row(query_segments, segments), self.bucket[distance + self.farthest])


def bucket_of(distance: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """The bucket of a token that stands so far after a query (before it where negative)."""
    each_way = _BUCKETS // 2
    exact = each_way // 2
    far = distance.abs()
    grown = torch.log(far.clamp_min(1).float() / exact) / math.log(_FARTHEST / exact)
    wide = (exact + (grown * (each_way - exact)).long()).clamp_max(each_way - 1)
    return torch.where(far < exact, far, wide) + each_way * (distance > 0)


class BiasedLayer(Layer):
    """A plain layer whose heads each have a bias for each bucket."""

    def __init__(self, shape: EncoderShape, layer: LayerShape) -> None:
        super().__init__(shape, layer)
        if layer.heads:
            self.distances = nn.Embedding(_BUCKETS, layer.heads)

    def cuts(self, heads: Tensor, neurons: Tensor) -> dict[str, tuple[Tensor, int]]:
        return super().cuts(heads, neurons) | {"distances.weight": (heads, 1)}

    def _context(self, q: Tensor, k: Tensor, v: Tensor, pairs: Buckets) -> Tensor:
        bias = self.distances(pairs.bucket).permute(0, 3, 1, 2).to(q.dtype)
        masked = bias.masked_fill(~pairs.mask, torch.finfo(q.dtype).min)
        return attend(q, k, v, masked, self.dropout)


@dataclass(frozen=True)
class _MPNet(Family):
    """The padding id is 1 whatever the config says, and so is where positions begin."""

    def fits(self, config: Any) -> bool:
        return super().fits(config) and config.relative_attention_num_buckets == _BUCKETS

    def places(self, name: str, shape: EncoderShape) -> tuple[str, ...]:
        if name == f"{self.prefix}.{_TABLE}.weight":
            return tuple(f"layers.{i}.distances.weight" for i in range(len(shape.layers)))
        return super().places(name, shape)


MPNET = _MPNet(
    name="mpnet",
    model_types=("mpnet",),
    prefix="mpnet",
    layers_prefix="encoder.layer",
    layer_names=BERT_FFN
    | {
        "attention.attn.q": "query",
        "attention.attn.k": "key",
        "attention.attn.v": "value",
        "attention.attn.o": "output",
        "attention.LayerNorm": "attention_norm",
    },
    other_names=BERT_EMBEDDINGS | ROBERTA_HEAD,
    head_kind=HeadKind.TANH,
    position_offset=2,
    has_types=False,
    parts=Parts(layer=BiasedLayer, pairs=DistanceBuckets, apart="relative positions"),
)
