"""What is known of a family: its shape, and where its weights go in an `Encoder`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from miaotui.errors import ModelError
from miaotui.models.encoder import PLAIN, Encoder, Parts
from miaotui.models.shape import Activation, EncoderShape, HeadKind, LayerShape, Readout
from miaotui.models.ties import tie_

ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_python": Activation.GELU,
    "gelu_fast": Activation.GELU_TANH,
    "quick_gelu": Activation.QUICK_GELU,
    "relu": Activation.RELU,
}
HEAD_KINDS = {"tanh": HeadKind.TANH, "gelu": HeadKind.GELU, "relu": HeadKind.RELU}
BERT_FFN = {
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "ffn_norm",
}
BERT_LAYER = BERT_FFN | {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "output",
    "attention.output.LayerNorm": "attention_norm",
}
BERT_EMBEDDINGS = {
    "embeddings.word_embeddings": "embeddings.words",
    "embeddings.position_embeddings": "embeddings.positions",
    "embeddings.token_type_embeddings": "embeddings.types",
    "embeddings.LayerNorm": "embeddings.norm",
}
ROBERTA_HEAD = {"classifier.dense": "head.dense", "classifier.out_proj": "head.classifier"}


@dataclass(frozen=True)
class Family:
    """A family of encoders: how transformers names things, and what is particular to it.

    `layer_names` and `other_names` map its modules to those of an `Encoder`; a family that stores
    weights in another form overrides `weights` and `restored`.
    """

    name: str
    model_types: tuple[str, ...]
    prefix: str
    layers_prefix: str
    layer_names: Mapping[str, str]
    other_names: Mapping[str, str]
    head_kind: HeadKind
    position_offset: int | None = 0
    """None: the padding id and one more."""
    has_types: bool = True
    parts: Parts = PLAIN

    def fits(self, config: Any) -> bool:
        """Whether the encoder computes what a model of this config computes."""
        positions = getattr(config, "position_embedding_type", "absolute")
        causal = getattr(config, "is_decoder", False)
        return positions == "absolute" and not causal and activation_of(config) in ACTIVATIONS

    def shape(self, config: Any, reads_tokens: bool = False) -> EncoderShape:
        """The uniform shape that a transformers config describes: of a classifier of rows, or of
        tokens, whose head is a single linear."""
        heads, hidden = config.num_attention_heads, config.hidden_size
        layer = LayerShape(heads, getattr(config, "intermediate_size", None) or config.hidden_dim)
        offset = self.position_offset
        return EncoderShape(
            family=self.name,
            vocab=config.vocab_size,
            embedding=getattr(config, "embedding_size", hidden),
            hidden=hidden,
            head_dim=hidden // heads,
            positions=config.max_position_embeddings,
            position_offset=config.pad_token_id + 1 if offset is None else offset,
            types=getattr(config, "type_vocab_size", 0) if self.has_types else 0,
            layers=(layer,) * config.num_hidden_layers,
            activation=ACTIVATIONS[activation_of(config)],
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

    def places(self, name: str, shape: EncoderShape) -> tuple[str, ...]:
        """All of the `Encoder`'s names for a weight: several where its layers share it."""
        return (self.rename(name),)

    def weights(self, state: Mapping[str, Tensor], shape: EncoderShape) -> dict[str, Tensor]:
        """The state of a transformers module under the names of an `Encoder`; one tensor under
        several of them where layers share it."""
        return {
            place: tensor
            for name, tensor in state.items()
            if _is_weight(name)
            for place in self.places(name, shape)
        }

    def restored(self, encoder: Encoder, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of a transformers module with the weights of an unpruned `encoder`."""
        trained = encoder.state_dict()
        return {
            name: trained[self.places(name, encoder.shape)[0]] if _is_weight(name) else tensor
            for name, tensor in state.items()
        }

    def encoder(self, module: nn.Module, reads_tokens: bool = False) -> Encoder:
        """The encoder that computes what transformers' module computes, with its weights."""
        shape = self.shape(module.config, reads_tokens)
        encoder = Encoder(shape, self.parts)
        weights = self.weights(module.state_dict(), shape)
        tie_(encoder, _same(weights))
        encoder.load_state_dict(weights)
        return encoder.eval()


def _same(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of a tensor that stands under several, with the first."""
    first: dict[int, str] = {}
    named = {name: first.setdefault(id(tensor), name) for name, tensor in weights.items()}
    return {name: other for name, other in named.items() if name != other}


def activation_of(config: Any) -> str:
    """The feed-forward network's activation, as transformers names it."""
    return str(getattr(config, "hidden_act", None) or getattr(config, "activation", ""))


def _dropout(config: Any) -> float:
    stated = getattr(config, "hidden_dropout_prob", None)
    return float(getattr(config, "dropout", 0.1) if stated is None else stated)


def _is_weight(name: str) -> bool:
    return not name.endswith(("position_ids", "token_type_ids"))
