"""Makes a physically smaller encoder out of another; the other is left as it was."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from miaotui.errors import ModelError
from miaotui.models.encoder import Encoder
from miaotui.models.shape import EncoderShape, LayerShape


def keep_heads_and_neurons(
    encoder: Encoder, heads: Sequence[Int[Tensor, " kept"]], neurons: Sequence[Int[Tensor, " kept"]]
) -> Encoder:
    """Keeps those heads and feed-forward neurons of each layer, by index, in that order."""
    refuse_factorized(encoder)
    layers = tuple(LayerShape(len(h), len(n)) for h, n in zip(heads, neurons, strict=True))
    smaller = _blank(replace(encoder.shape, layers=layers))
    state = encoder.state_dict()
    for i, (h, n) in enumerate(zip(heads, neurons, strict=True)):
        inner = (
            h[:, None] * encoder.shape.head_dim + torch.arange(encoder.shape.head_dim)
        ).flatten()
        cuts = {"query": inner, "key": inner, "value": inner, "up": n}
        for name, rows in cuts.items():
            for part in ("weight", "bias"):
                _cut(state, f"layers.{i}.{name}.{part}", rows, 0)
        _cut(state, f"layers.{i}.output.weight", inner, 1)
        _cut(state, f"layers.{i}.down.weight", n, 1)
    smaller.load_state_dict({k: v for k, v in state.items() if k in smaller.state_dict()})
    return smaller.eval()


def _blank(shape: EncoderShape) -> Encoder:
    """An encoder to fill; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        return Encoder(shape)


def _cut(state: dict[str, Tensor], name: str, kept: Tensor, dim: int) -> None:
    if name in state:
        state[name] = state[name].index_select(dim, kept.long())


def refuse_factorized(encoder: Encoder) -> None:
    if any(layer.ranks for layer in encoder.shape.layers):
        raise ModelError("heads and neurons of factorized layers cannot be removed; prune first")


def keep_layers(encoder: Encoder, kept: Sequence[int]) -> Encoder:
    """Keeps whole layers, by index, in that order."""
    shape = replace(encoder.shape, layers=tuple(encoder.shape.layers[i] for i in kept))
    smaller = _blank(shape)
    state = {n: t for n, t in encoder.state_dict().items() if not n.startswith("layers.")}
    for new, old in enumerate(kept):
        layer: nn.Module = encoder.layers[old]
        state |= {f"layers.{new}.{name}": tensor for name, tensor in layer.state_dict().items()}
    smaller.load_state_dict(state)
    return smaller.eval()


Factors = tuple[Float[Tensor, "rank inputs"], Float[Tensor, "outputs rank"]]


def factorize(encoder: Encoder, factors: Mapping[str, Factors]) -> Encoder:
    """Puts `second @ first` in place of the weight of each named linear."""
    layers = list(encoder.shape.layers)
    state = encoder.state_dict()
    for name, (first, second) in factors.items():
        _, index, linear = name.split(".")
        layer = layers[int(index)]
        layers[int(index)] = replace(layer, ranks=layer.ranks | {linear: len(first)})
        del state[f"{name}.weight"]
        state[f"{name}.first.weight"] = first
        state[f"{name}.second.weight"] = second
        state[f"{name}.second.bias"] = state.pop(f"{name}.bias")
    smaller = _blank(replace(encoder.shape, layers=tuple(layers)))
    smaller.load_state_dict(state)
    return smaller.eval()
