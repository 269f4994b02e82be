"""The shape of an encoder, layer by layer: what surgery changes and is saved beside weights."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from pydantic import TypeAdapter

from miaotui.errors import ModelError


class Activation(StrEnum):
    """Nonlinearity of the feed-forward network."""

    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    QUICK_GELU = "quick_gelu"
    RELU = "relu"


class HeadKind(StrEnum):
    """Nonlinearity between the two linear layers of a head. LINEAR: there is only the second of
    them. NONE: there is no head, and what is read out is the output itself (an embedding), so that
    `labels` equals `hidden`."""

    TANH = "tanh"
    GELU = "gelu"
    RELU = "relu"
    LINEAR = "linear"
    NONE = "none"


class Readout(StrEnum):
    """What is read out of a row's last hidden states: that of its first token, the mean over its
    tokens, or those of the tokens that the rows name."""

    FIRST = "first"
    MEAN = "mean"
    TOKENS = "tokens"


@dataclass(frozen=True)
class LayerShape:
    """One layer. `ranks` maps a linear's name ("query", "up") to its rank where it is factorized.

    Zero heads (or zero ffn) leave only the bias of that sublayer's output projection. `traits` are
    what sets it apart from other layers of its family, by words of that family.
    """

    heads: int
    ffn: int
    ranks: dict[str, int] = field(default_factory=dict)
    traits: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncoderShape:
    """An encoder with a head over what is read out of each row. `own` holds what the structure of
    its family depends on beyond the rest, by names of that family."""

    family: str
    vocab: int
    embedding: int
    hidden: int
    head_dim: int
    positions: int
    position_offset: int
    types: int
    layers: tuple[LayerShape, ...]
    activation: Activation
    norm_eps: float
    head_kind: HeadKind
    labels: int
    dropout: float = 0.1
    readout: Readout = Readout.FIRST
    own: dict[str, bool | int | float | str] = field(default_factory=dict)

    def with_layer(self, index: int, layer: LayerShape) -> "EncoderShape":
        """The same shape with layer `index` replaced."""
        layers = list(self.layers)
        layers[index] = layer
        return replace(self, layers=tuple(layers))

    @property
    def max_tokens(self) -> int:
        return self.positions - self.position_offset


_SHAPE = TypeAdapter(EncoderShape)


def shape_to_json(shape: EncoderShape) -> str:
    return _SHAPE.dump_json(shape, indent=2).decode()


def shape_from_json(text: str) -> EncoderShape:
    try:
        return _SHAPE.validate_json(text)
    except ValueError as error:
        raise ModelError(f"not the shape of an encoder: {error}") from error
