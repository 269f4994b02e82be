"""What is known of each family: its shape, and where its weights go in an `Encoder`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from miaotui.errors import ModelError
from miaotui.models.shape import Activation, EncoderShape, HeadKind, LayerShape, Readout

_ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "relu": Activation.RELU,
}
_BERT_LAYER = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "ffn_norm",
}
_BERT_EMBEDDINGS = {
    "embeddings.word_embeddings": "embeddings.words",
    "embeddings.position_embeddings": "embeddings.positions",
    "embeddings.token_type_embeddings": "embeddings.types",
    "embeddings.LayerNorm": "embeddings.norm",
}
_HEAD = {"classifier.dense": "head.dense", "classifier.out_proj": "head.classifier"}


@dataclass(frozen=True)
class Family:
    """A family of encoders: how transformers names things, and what is particular to it."""

    name: str
    prefix: str
    layers_prefix: str
    layer_names: Mapping[str, str]
    other_names: Mapping[str, str]
    head_kind: HeadKind
    offset_positions: bool = False
    has_types: bool = True

    def shape(self, config: Any, reads_tokens: bool = False) -> EncoderShape:
        """The uniform shape that a transformers config describes: of a classifier of rows, or of
        tokens, whose head is a single linear."""
        heads, hidden = config.num_attention_heads, config.hidden_size
        layer = LayerShape(heads, getattr(config, "intermediate_size", None) or config.hidden_dim)
        return EncoderShape(
            family=self.name,
            vocab=config.vocab_size,
            embedding=getattr(config, "embedding_size", hidden),
            hidden=hidden,
            head_dim=hidden // heads,
            positions=config.max_position_embeddings,
            position_offset=config.pad_token_id + 1 if self.offset_positions else 0,
            types=getattr(config, "type_vocab_size", 0) if self.has_types else 0,
            layers=(layer,) * config.num_hidden_layers,
            activation=_ACTIVATIONS[_activation(config)],
            norm_eps=getattr(config, "layer_norm_eps", 1e-12),
            head_kind=HeadKind.LINEAR if reads_tokens else self.head_kind,
            labels=config.num_labels,
            dropout=_dropout(config),
            readout=Readout.TOKENS if reads_tokens else Readout.FIRST,
        )

    def rename(self, name: str) -> str:
        """The `Encoder`'s name for a weight of the transformers module."""
        stem, _, parameter = name.removeprefix(f"{self.prefix}.").rpartition(".")
        layer = re.fullmatch(rf"{re.escape(self.layers_prefix)}\.(\d+)\.(.+)", stem)
        if layer and layer[2] in self.layer_names:
            return f"layers.{layer[1]}.{self.layer_names[layer[2]]}.{parameter}"
        if stem in self.other_names:
            return f"{self.other_names[stem]}.{parameter}"
        if stem == "classifier":  # of tokens
            return f"head.classifier.{parameter}"
        raise ModelError(f"{self.name}: weight {name} is not part of a known classifier")

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of a transformers module under the names of an `Encoder`."""
        return {
            self.rename(name): tensor
            for name, tensor in state.items()
            if not name.endswith(("position_ids", "token_type_ids"))
        }


_FAMILIES = {
    "bert": Family(
        name="bert",
        prefix="bert",
        layers_prefix="encoder.layer",
        layer_names=_BERT_LAYER,
        other_names=_BERT_EMBEDDINGS
        | {"pooler.dense": "head.dense", "classifier": "head.classifier"},
        head_kind=HeadKind.TANH,
    ),
    "roberta": Family(
        name="roberta",
        prefix="roberta",
        layers_prefix="encoder.layer",
        layer_names=_BERT_LAYER,
        other_names=_BERT_EMBEDDINGS | _HEAD,
        head_kind=HeadKind.TANH,
        offset_positions=True,
    ),
    "electra": Family(
        name="electra",
        prefix="electra",
        layers_prefix="encoder.layer",
        layer_names=_BERT_LAYER,
        other_names=_BERT_EMBEDDINGS | _HEAD | {"embeddings_project": "embeddings.projection"},
        head_kind=HeadKind.GELU,
    ),
    "distilbert": Family(
        name="distilbert",
        prefix="distilbert",
        layers_prefix="transformer.layer",
        layer_names={
            "attention.q_lin": "query",
            "attention.k_lin": "key",
            "attention.v_lin": "value",
            "attention.out_lin": "output",
            "sa_layer_norm": "attention_norm",
            "ffn.lin1": "up",
            "ffn.lin2": "down",
            "output_layer_norm": "ffn_norm",
        },
        other_names=_BERT_EMBEDDINGS
        | {"pre_classifier": "head.dense", "classifier": "head.classifier"},
        head_kind=HeadKind.RELU,
        has_types=False,
    ),
}
_MODEL_TYPES = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "electra": "electra",
    "distilbert": "distilbert",
}
FAMILY_NAMES = tuple(_MODEL_TYPES)


def family_of(config: Any) -> Family | None:
    """The family that a transformers config belongs to; None where there is no adapter for it."""
    name = _MODEL_TYPES.get(config.model_type)
    positions = getattr(config, "position_embedding_type", "absolute")
    if positions != "absolute" or getattr(config, "is_decoder", False):
        return None
    if name is None or _activation(config) not in _ACTIVATIONS:
        return None
    return _FAMILIES[name]


def _dropout(config: Any) -> float:
    stated = getattr(config, "hidden_dropout_prob", None)
    return float(getattr(config, "dropout", 0.1) if stated is None else stated)


def _activation(config: Any) -> str:
    return str(getattr(config, "hidden_act", None) or getattr(config, "activation", ""))
