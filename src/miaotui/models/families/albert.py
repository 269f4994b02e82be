"""ALBERT: layers share their weights by groups, embeddings are narrow and projected.

Each layer of the encoder has the shared tensors as its own, so that surgery can part them. The
projection comes after a LayerNorm and cannot be folded into the tables. Source: Lan et al. 2020.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from miaotui.errors import ModelError
from miaotui.models.families.family import BERT_EMBEDDINGS, Family
from miaotui.models.shape import EncoderShape, HeadKind

_SHARED = re.compile(r"albert\.encoder\.albert_layer_groups\.(\d+)\.albert_layers\.(\d+)\.(.+)")


@dataclass(frozen=True)
class _Albert(Family):
    """A group holds one or a few layers in turn, which every repetition of it runs through."""

    def fits(self, config: Any) -> bool:
        return super().fits(config) and config.embedding_size != config.hidden_size

    def shape(self, config: Any, reads_tokens: bool = False) -> EncoderShape:
        shape = super().shape(config, reads_tokens)
        inner = config.inner_group_num
        own = {"groups": config.num_hidden_groups, "layers_a_group": inner}
        return replace(shape, layers=shape.layers * inner, own=own)

    def places(self, name: str, shape: EncoderShape) -> tuple[str, ...]:
        shared = _SHARED.fullmatch(name)
        if shared is None:
            return (self.rename(name),)
        stem, _, parameter = shared[3].rpartition(".")
        if stem not in self.layer_names:
            raise ModelError(f"{self.name}: weight {name} is not part of a known classifier")
        inner = int(shape.own["layers_a_group"])
        repeats = len(shape.layers) // inner
        share = repeats / int(shape.own["groups"])
        return tuple(
            f"layers.{repeat * inner + int(shared[2])}.{self.layer_names[stem]}.{parameter}"
            for repeat in range(repeats)
            if int(repeat / share) == int(shared[1])
        )


ALBERT = _Albert(
    name="albert",
    model_types=("albert",),
    prefix="albert",
    layers_prefix="encoder.albert_layer_groups",
    layer_names={
        "attention.query": "query",
        "attention.key": "key",
        "attention.value": "value",
        "attention.dense": "output",
        "attention.LayerNorm": "attention_norm",
        "ffn": "up",
        "ffn_output": "down",
        "full_layer_layer_norm": "ffn_norm",
    },
    other_names=BERT_EMBEDDINGS
    | {
        "encoder.embedding_hidden_mapping_in": "embeddings.projection",
        "pooler": "head.dense",
        "classifier": "head.classifier",
    },
    head_kind=HeadKind.TANH,
)
